"""One figure of an evaluation, with all that makes it quotable."""

import dataclasses

import numpy as np

from siamjax.evaluation import intervals


@dataclasses.dataclass(frozen=True)
class Result:
    """`accuracy` 0..1 of `trials` under a named protocol, and the seed that drew the trials.

    `ci95` is the 95 % interval for other units of the same kind: the trials are of so many `units`, which `over` names:
    "identities", "alphabets" or "runs". None where the units are too few or no trial is wrong, see `intervals.around`.
    It says nothing of another training seed.
    """

    accuracy: float
    ci95: intervals.Interval
    trials: int
    seed: int | None
    over: str
    units: int


def of(right: np.ndarray, seed: int | None, over: str, unit: np.ndarray) -> Result:
    """The result of trials of which `right` (bool, any shape) says which are answered correctly.

    Args:
      right: bool, any shape.
      seed: that drew the trials; None if they were not drawn.
      over: what the units are called.
      unit: int, of the shape of `right`, the unit of each trial; or [..., 2], the two that take part.
    """
    interval = intervals.of_mean(right.ravel(), unit.reshape(right.size, *unit.shape[right.ndim :]))
    return Result(float(right.mean()), interval, int(right.size), seed, over, len(np.unique(unit)))
