"""The protocol of a Keras tutorial on Koch's network that many have copied: the one same pair among separate pairs.

It is weaker than 20-way one-shot classification, and its figures cannot be compared with those. There, one query is
compared with 20 candidates of its own alphabet. Here, each of the 20 pairs of a trial has its own query: no image is
recognised, and a different pair is usually of two alphabets, which are easy to tell apart.
"""

import numpy as np

from siamjax.data import Dataset
from siamjax.evaluation.one_shot import TooFewImages, right
from siamjax.network import Network

TRIALS, PAIRS = 352, 20


def trials(dataset: Dataset, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws 352 trials of 20 pairs, of which one is of the same identity; every pair has a query of its own.

    The same pair: an identity, uniformly drawn among those with images from two sources, and two images of it from
    different sources. Each of the others: two identities of the whole data set, whatever their groups, and an image of
    each. The place of the same pair is random.

    Args:
      dataset: the images; `source` is the drawer.
      seed: of the random draws.

    Returns:
      pairs int32 [352, 20, 2], image numbers, and the place of the same pair, int32 [352], 0..19.

    Raises:
      TooFewImages: there is only one identity, or none has images from two sources.
    """
    rng = np.random.default_rng(seed)
    images = np.split(np.argsort(dataset.label, kind="stable"), np.cumsum(np.bincount(dataset.label))[:-1])
    shared = [numbers for numbers in images if np.ptp(dataset.source[numbers])]
    if len(images) < 2 or not shared:
        raise TooFewImages(
            f"trials of pairs need two identities, and one with images from two sources; found {len(images)} "
            f"identities, {len(shared)} of them with two sources"
        )
    pairs = np.empty((TRIALS, PAIRS, 2), np.int32)
    answer = rng.integers(PAIRS, size=TRIALS).astype(np.int32)
    for trial, place in np.ndindex(TRIALS, PAIRS):
        if place == answer[trial]:
            numbers = shared[rng.integers(len(shared))]
            first = rng.choice(numbers)
            second = rng.choice(numbers[dataset.source[numbers] != dataset.source[first]])
            pairs[trial, place] = first, second
        else:
            pairs[trial, place] = [rng.choice(images[label]) for label in rng.choice(len(images), 2, replace=False)]
    return pairs, answer


def answers(network: Network, embeddings: np.ndarray, dataset: Dataset, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers the trials by the network: which are right, bool [352], and the identity of each same pair, int [352].

    Args:
      network: scores pairs.
      embeddings: float [n, d] of the data set.
      dataset, seed: as of `trials`, which says what is raised.
    """
    pairs, answer = trials(dataset, seed=seed)
    scores = network.score_pairs(embeddings, pairs.reshape(-1, 2)).reshape(TRIALS, 1, PAIRS)
    return right(scores, answer[:, None])[:, 0], dataset.label[pairs[np.arange(TRIALS), answer, 0]]
