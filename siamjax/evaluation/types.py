"""The types of evaluation: what an evaluator takes and what it yields."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
from ml_collections import ConfigDict

from siamjax.data import Dataset
from siamjax.decision import Decision
from siamjax.evaluation import intervals
from siamjax.network import Network

# Accuracies of protocols; threshold-free measures of test pairs, or of given comparisons; test images searched among
# the others, or in a gallery; open-set identification.
Table = Literal["accuracy", "pairs", "protocols", "retrieval", "reidentification", "open_set"]


@dataclasses.dataclass(frozen=True)
class Measure:
    """One figure of an evaluation, with what is needed to report it.

    Attributes:
      name: of the protocol or measure.
      value: 0..1, except for "log_loss".
      interval: the 95 % interval over units; None if it cannot be estimated, see `intervals.around`. It does not cover
        the variation between training seeds.
      trials: the number of trials, pairs or queries.
      seed: of the random draws; None if nothing was drawn.
      over: the independent units: "identities", "alphabets", "groups", "runs" or "folds".
      units: the number of units.
      table: the table that shows it.
      is_share: whether the value is a share 0..1, which tables show in per cent.
    """

    name: str
    value: float
    interval: intervals.Interval
    trials: int
    seed: int | None
    over: str = "identities"
    units: int = 0
    table: Table = "accuracy"
    is_share: bool = True


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A protocol that cannot be run on the data, and why."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class PairScores:
    """Test pairs: `pairs` int32 [n, 2] (image numbers), `same` bool [n], `scores` float32 [n]; and the `decision`."""

    pairs: np.ndarray
    same: np.ndarray
    scores: np.ndarray
    decision: Decision


@dataclasses.dataclass(frozen=True)
class Subject:
    """A trained network and the data to evaluate it on.

    Attributes:
      network: encodes and scores.
      decision: turns its scores into answers.
      config: the `evaluation` part of the configuration, such as the number of trials and the seed.
      data: the `data` part of the configuration.
      datasets: "test", and optionally "validation", "few_shot" or "gallery", see `siamjax.data.load`.
      embeddings: float32 [n, d] of each data set, see `drawn.embed`.
      pairs: of "test" and "validation", see `drawn.pairs`.
    """

    network: Network
    decision: Decision
    config: ConfigDict
    data: ConfigDict
    datasets: Mapping[str, Dataset]
    embeddings: Mapping[str, np.ndarray]
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]


Evaluator = Callable[[Subject], Iterator[Measure | Skipped]]


def accuracy(
    name: str, right: np.ndarray, seed: int | None, over: str, unit: np.ndarray, table: Table = "accuracy"
) -> Measure:
    """The share of trials that are right, as a `Measure`.

    Args:
      name: of the protocol.
      right: bool of any shape; or float, NaN for trials that do not count.
      seed: of the random draws of the trials; None if they were not drawn.
      over: the independent units, "identities", "alphabets" or "runs".
      unit: int, the unit of each trial, in the shape of `right`; or [..., 2] if each trial involves two units.
      table: the table that shows it.
    """
    interval = intervals.of_mean(right.ravel(), unit.reshape(right.size, *unit.shape[right.ndim :]))
    value = float(np.nanmean(right))
    return Measure(name, value, interval, int(right.size), seed, over, len(np.unique(unit)), table)
