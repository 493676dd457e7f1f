"""Draws trials and pairs for evaluation. Training does so first, to refuse data that is too small before it starts."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from ml_collections import ConfigDict

from siamjax import parallel
from siamjax.data import Dataset
from siamjax.decision import Decision
from siamjax.evaluation import calibration, given, one_shot, verification
from siamjax.familiar import Familiar
from siamjax.network import Network
from siamjax.training.state import State

_LOOKED_AT = 1000  # images that tell what is familiar, at most
_REMEDY = (
    "Give identities a second image, or add identities; with your own images, lower data.folder.folds for more "
    "identities per part, or change data.folder.fold or data.folder.seed for other ones"
)


def trials(config: ConfigDict, dataset: Dataset, part: str = "validation") -> one_shot.Trials:
    """Draws the one-shot trials that select the best checkpoint.

    The identities of a trial are of one group; if no group has enough identities that share two sources, they are
    drawn from the whole data set.

    Args:
      config: the `evaluation` part of a configuration.
      dataset: the images.
      part: name of the data set in messages.

    Raises:
      TooFewImages: fewer than two identities have two images.
    """
    count, seed = config.validation_trials, config.seed + 1
    try:
        return one_shot.within_group(dataset, trials=count, ways=config.ways, seed=seed)
    except one_shot.TooFewImages:
        ways = possible_ways(dataset, config.ways)
        try:
            return one_shot.between_groups(dataset, trials=count, ways=ways, shots=1, seed=seed)
        except one_shot.TooFewImages as error:
            raise one_shot.TooFewImages(f"the {part} data is too small: {error}. {_REMEDY}") from error


def possible_ways(dataset: Dataset, most: int) -> int:
    """The number of identities per trial: `most`, or the number of identities with two images if lower; at least 2."""
    return max(2, min(most, one_shot.identities_of(dataset, 2)))


def pairs(config: ConfigDict, datasets: Mapping[str, Dataset]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Draws the pairs of the validation and test data to verify.

    Args:
      config: the `evaluation` part of a configuration.
      datasets: by part; parts other than "validation" and "test" are ignored.

    Returns:
      Part -> (image numbers int32 [n, 2], `same` bool [n]).

    Raises:
      ValueError: a data set cannot give both same and different pairs.
    """
    pairs_of = {}
    for part in ("validation", "test"):
        if part not in datasets:
            continue
        if (given := datasets[part].pairs) is not None:
            pairs_of[part] = given
            continue
        try:
            pairs_of[part] = verification.draw_pairs(
                datasets[part], pairs=config.pairs, across_groups=config.across_groups, seed=config.seed
            )
        except ValueError as error:
            raise ValueError(f"cannot draw pairs to verify from the {part} data: {error}. {_REMEDY}") from error
    return pairs_of


def embed(network: Network, dataset: Dataset, description: str = "") -> np.ndarray:
    """Embeds a data set, for `network.score_pairs` of its pairs; arguments and shapes as of `Network.embed_pairs`."""
    if dataset.pairs is None:
        return network.embed(dataset.images, description)
    return network.embed_pairs(dataset.images, dataset.pairs[0], description)


def decision(
    network: Network,
    dataset: Dataset,
    embeddings: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    familiar: Familiar | None = None,
) -> Decision:
    """Fits the decision to pairs of a data set, and to the kind of its images.

    Args:
      network: scores the pairs.
      dataset: n images.
      embeddings: what `embed` returns for these.
      pairs: (image numbers int32 [p, 2], `same` bool [p]).
      familiar: the kind of its images, if another decision knows it already.
    """
    numbers, same = pairs
    known = dataset.pairs is None or dataset.names  # Given pairs need not say which identities they are of.
    scores = network.score_pairs(embeddings, numbers)
    label = (dataset.label if dataset.pairs is None else given.units(dataset, numbers)[0]) if known else None
    if embeddings.ndim == 3 and label is not None:
        # Of two towers: with its sides changed, a pair is another one, so that an image counts as two.
        numbers, label = 2 * numbers + np.arange(2), np.repeat(label, 2)
    if familiar is None and len(dataset.images.shape) == 4 and dataset.images.dtype == np.uint8:
        some = np.unique(np.linspace(0, len(dataset.images) - 1, _LOOKED_AT).astype(int))
        familiar = Familiar.of(dataset.images[some])
    return dataclasses.replace(calibration.fit(scores, same, numbers, label), familiar=familiar)


def accuracy_of(
    network_of: Callable[..., Network], dataset: Dataset, trials: one_shot.Trials
) -> Callable[[State], float]:
    """The function from the replicated state of a training to its accuracy, 0..1, on one-shot trials of `dataset`.

    `network_of` makes a network of (params, batch_stats).
    """

    def of_state(replicated):
        network = network_of(*parallel.first(replicated.judged()))
        scores = network.score_trials(network.embed(dataset.images), trials.query, trials.support)
        # Training stops by this number, so all processes must use the same.
        return parallel.from_main(lambda: float(one_shot.right(scores, trials.answer).mean()))

    return of_state
