"""The contracts of evaluation: what an evaluator is given, and what it yields."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
from ml_collections import ConfigDict

from siamjax.data import Dataset
from siamjax.decision import Decision
from siamjax.evaluation import intervals
from siamjax.network import Network

# Of whole protocols; of the test pairs, whatever the threshold; of each test image among the others, or in a gallery;
# and of strangers.
Table = Literal["accuracy", "pairs", "retrieval", "reidentification", "open_set"]


@dataclasses.dataclass(frozen=True)
class Measure:
    """One figure of an evaluation, with all that makes it quotable.

    Attributes:
      name: of the protocol or measure.
      value: a share 0..1, but for "log_loss".
      interval: the 95 % interval for other units of the same kind; None if they are too few or none is wrong, see
        `intervals.around`. It says nothing of another training seed.
      trials: how many trials, pairs or queries it is of.
      seed: that drew them; None if they are given.
      over: what the units are called that are independent: "identities", "alphabets" or "runs".
      units: how many there are.
      table: which table it belongs to.
    """

    name: str
    value: float
    interval: intervals.Interval
    trials: int
    seed: int | None
    over: str = "identities"
    units: int = 0
    table: Table = "accuracy"


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A protocol that the data does not allow, and why."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class PairScores:
    """Test pairs with what is drawn of them: `pairs` int32 [n, 2] (image numbers), `same` bool [n], `scores` float32
    [n], and the `decision` that judges them."""

    pairs: np.ndarray
    same: np.ndarray
    scores: np.ndarray
    decision: Decision


@dataclasses.dataclass(frozen=True)
class Subject:
    """A trained network on the data that judges it.

    Attributes:
      network: encodes and scores.
      decision: how its scores decide.
      config: the `evaluation` part of the configuration: how many trials, and the seed that draws them.
      data: the `data` part.
      datasets: "test", and optionally "validation", "few_shot" or "gallery", see `siamjax.data.load`.
      embeddings: float32 [n, d] of each.
      pairs: of "test" and "validation", as `decide.draw_pairs` draws them.
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
    """The share of trials that are right.

    Args:
      name: of the protocol.
      right: bool, or float that may be NaN where a trial does not count; of any shape.
      seed: that drew the trials; None if they were not drawn.
      over: what the units are called.
      unit: int, of the shape of `right`, the unit of each trial; or [..., 2], the two that take part.
      table: where it belongs.
    """
    interval = intervals.of_mean(right.ravel(), unit.reshape(right.size, *unit.shape[right.ndim :]))
    value = float(np.nanmean(right))
    return Measure(name, value, interval, int(right.size), seed, over, len(np.unique(unit)), table)
