"""One figure of an evaluation, with all that makes it quotable."""

import dataclasses

import numpy as np
import scipy.stats


@dataclasses.dataclass(frozen=True)
class Result:
    """`accuracy` 0..1 of `trials` under a named protocol, its Wilson 95 % interval, and the seed that drew the trials.

    The interval takes trials as independent; those of a run share a support set, so that it is somewhat too narrow. It
    says nothing of another training seed.
    """

    accuracy: float
    ci95: tuple[float, float]
    trials: int
    seed: int | None


def of(right: np.ndarray, seed: int | None) -> Result:
    """The result of trials of which `right` (bool, any shape) says which were answered rightly."""
    interval = scipy.stats.binomtest(int(right.sum()), right.size).proportion_ci(method="wilson")
    return Result(float(right.mean()), (float(interval.low), float(interval.high)), int(right.size), seed)
