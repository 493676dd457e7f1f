"""What an evaluation asks, drawn before the training, so that data that cannot give it is refused then."""

from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from siamjax.data import Dataset
from siamjax.decision import Decision
from siamjax.evaluation import calibration, one_shot, verification
from siamjax.network import Network

_REMEDY = (
    "Give identities a second image, or add identities; with images of your own, fewer data.folder.folds give each "
    "part more of them, and another data.folder.fold or data.folder.seed gives it others"
)


def trials(config: ConfigDict, dataset: Dataset, part: str = "validation") -> one_shot.Trials:
    """The one-shot trials by which training is judged; `config` is the `evaluation` part of a configuration.

    They are within groups; if no group has enough identities that share two sources, they are among all identities.
    `part` is what messages call the data set.

    Raises:
      TooFewImages: there are not two identities with two images each.
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
    """How many identities a trial can have: `most`, or as many as have two images; two at least."""
    return max(2, min(most, one_shot.identities_of(dataset, 2)))


def pairs(config: ConfigDict, datasets: Mapping[str, Dataset]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The pairs of validation and test data to verify: image numbers int32 [n, 2], and `same` bool [n], for each part.

    Raises:
      ValueError: a data set cannot give pairs of both kinds.
    """
    found = {}
    for part in ("validation", "test"):
        if part not in datasets:
            continue
        try:
            found[part] = verification.draw_pairs(
                datasets[part], pairs=config.pairs, across_groups=config.across_groups, seed=config.seed
            )
        except ValueError as error:
            raise ValueError(f"there are no pairs of the {part} data to verify: {error}. {_REMEDY}") from error
    return found


def decision(
    network: Network, dataset: Dataset, embeddings: np.ndarray, asked: tuple[np.ndarray, np.ndarray]
) -> Decision:
    """The decision that fits the `asked` pairs of a data set best; `embeddings` are float [n, d]."""
    numbers, same = asked
    return calibration.fit(network.score_pairs(embeddings, numbers), same, numbers, dataset.label)
