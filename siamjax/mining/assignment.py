"""Pairs for a long tail: hard negatives that are all different, positives for all that have one; on the host.

M. Piotte: Whale Recognition Model, Kaggle humpback whale identification (2018);
https://www.kaggle.com/martinpiotte/whale-recognition-model-with-score-0-78563.
"""

import numpy as np
import scipy.optimize


def derangement(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int [n]: for each image another of its identity, each the partner of one; itself, where it is the only one.

    The images of an identity are put in random order, each with the next one, the last with the first.
    """
    order = np.lexsort([rng.random(len(labels)), labels])
    following = np.roll(order, -1)
    ordered = labels[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    starts = np.concatenate([[0], ends[:-1] + 1])
    following[ends] = order[starts]
    partner = np.empty(len(labels), int)
    partner[order] = following
    return partner


def hard_negatives(
    score,
    labels: np.ndarray,
    rng: np.random.Generator,
    *,
    rounds: int,
    noise: float,
    block: int,
) -> np.ndarray:
    """For each image one of another identity that scores high against it; as a rule, each is chosen once a round.

    Of all ways to give every image a partner of its own, a round takes the one whose scores sum highest (linear
    assignment), so that no image of a popular kind is everyone's negative. Images are dealt out to blocks at random,
    and assigned within each: the whole matrix is never held.

    Args:
      score: (int [b], int [b]) -> scores float [b, b] of images against images, higher for likelier the same.
      labels: int [n], identities.
      rng: of the dealing, and of the noise.
      rounds: how many times each image gets a negative; never the same one twice, while there are others.
      noise: how much is added to every score, at most; much makes the choice a random one.
      block: images that are assigned to one another, 2 at least.

    Returns:
      int [rounds, n], numbers of images.

    Raises:
      ValueError: all images are of one identity.
    """
    if len(np.unique(labels)) < 2:
        raise ValueError("all images are of one identity; a negative is of another one")
    negatives = np.empty((rounds, len(labels)), int)
    blocks = np.array_split(rng.permutation(len(labels)), -(-len(labels) // block))
    for rows in blocks:
        scores = np.asarray(score(rows, rows), np.float64)
        # Beyond whatever scores and noise are: the same identity is out of the question, a pair that was had before is
        # the last resort.
        worst = len(rows) * (np.ptp(scores) + noise + 1)
        same = labels[rows][:, None] == labels[rows][None, :]
        had = np.zeros_like(same)
        for number in range(rounds):
            wanted = scores + noise * rng.random(scores.shape) - worst * had - len(rows) * rounds * worst * same
            row, column = scipy.optimize.linear_sum_assignment(wanted, maximize=True)
            negatives[number, rows[row]] = rows[column]
            had[row, column] = True
    # Where an identity fills more than half of a block, some are left over: any other image will do.
    wrong = labels[negatives] == labels
    for number, image in np.argwhere(wrong):
        negatives[number, image] = rng.choice(np.flatnonzero(labels != labels[image]))
    return negatives


def pairs(partners: np.ndarray, negatives: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """int [steps, 2 × count]: the batches of one round; image i pairs with image i + count, the first half the same.

    Every image is in one different pair, or some in two to fill the last batch; same pairs come as often, in random
    order, from all images that have a partner.

    Args:
      partners: int [n], see `derangement`.
      negatives: int [n].
      count: pairs of a batch, even.
      rng: of the order.

    Raises:
      ValueError: no image has a partner.
    """
    paired = np.flatnonzero(partners != np.arange(len(partners)))
    if not len(paired):
        raise ValueError("no identity has two images; what is the same can only be learned from two of one identity")
    each = count // 2
    steps = -(-len(negatives) // each)
    same = _cycled(paired, steps * each, rng)
    different = _cycled(np.arange(len(negatives)), steps * each, rng)
    parts = (same, different, partners[same], negatives[different])
    return np.concatenate([part.reshape(steps, each) for part in parts], axis=1).astype(np.int32)


def _cycled(values, length, rng):
    """`values` in random order, again and again, up to `length` of them."""
    return np.concatenate([rng.permutation(values) for _ in range(-(-length // len(values)))])[:length]
