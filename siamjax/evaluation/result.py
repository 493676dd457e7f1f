"""One figure of an evaluation, with all that makes it quotable."""

import dataclasses

import numpy as np
import scipy.stats


@dataclasses.dataclass(frozen=True)
class Result:
    """`accuracy` 0..1 of `trials` under a named protocol, its Wilson 95 % interval, and the seed that drew the trials.

    The interval speaks of the drawing of trials from these images, not of the choice of training seed.
    """

    accuracy: float
    ci95: tuple[float, float]
    trials: int
    seed: int | None


def of(right: np.ndarray, seed: int | None) -> Result:
    """The result of trials of which `right` (bool, any shape) says which were answered rightly."""
    interval = scipy.stats.binomtest(int(right.sum()), right.size).proportion_ci(method="wilson")
    return Result(float(right.mean()), (float(interval.low), float(interval.high)), int(right.size), seed)
