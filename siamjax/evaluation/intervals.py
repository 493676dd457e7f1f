"""95 % confidence intervals over independent units (identities, alphabets, runs), not over pairs or trials.

The bootstrap resamples units with replacement; a trial counts as often as its unit was drawn. However many pairs of six
people there are, they say little about a seventh person: Bolle, Ratha, Pankanti: Error analysis of pattern recognition
systems - the subsets bootstrap (2004), https://doi.org/10.1016/j.cviu.2003.08.002.
"""

from collections.abc import Iterator

import numpy as np
import scipy.special

Interval = tuple[float, float] | None

_RESAMPLES, _BLOCK = 400, 2**18  # enough for a standard deviation; most elements of a block of resamples
_LEAST = 3  # units: two do not show how much units differ


def of_mean(values: np.ndarray, unit: np.ndarray) -> Interval:
    """The interval of a mean; see `around`.

    Args:
      values: float or bool [n]; NaN is ignored.
      unit: int [n], the unit of each value; or [n, 2] if each involves two units, which count as in `of_pairs`.
    """
    counted = ~np.isnan(values)
    if not counted.any():
        return None
    values, unit = values[counted], unit[counted]
    units, number = np.unique(unit, return_inverse=True)
    number = number.reshape(unit.shape)
    if unit.ndim == 1:
        sums, counts = np.bincount(number, values), np.bincount(number)
        means = [(drawn @ sums) / (drawn @ counts) for drawn in resamples(len(units), len(units))]
    else:
        weights = (of_pairs(drawn, number) for drawn in resamples(len(units), len(values)))
        weights = (weight[weight.any(axis=1)] for weight in weights)
        means = [weight @ np.float32(values) / weight.sum(axis=1) for weight in weights]
    return around(float(np.mean(values)), np.concatenate(means), len(units))


def resamples(units: int, width: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn in 400 resamples, in blocks float32 [b, units] of about 262,144 / `width` rows."""
    rng = np.random.default_rng(0)
    rows = int(np.clip(_BLOCK // width, 1, _RESAMPLES))
    for start in range(0, _RESAMPLES, rows):
        drawn = rng.integers(units, size=(min(rows, _RESAMPLES - start), units))
        drawn += units * np.arange(len(drawn))[:, None]
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float32)


def of_pairs(drawn: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The weight of each pair in each resample, float32 [b, n]: the product of its identities' counts.

    A same pair has a single identity, whose count is its weight.

    Args:
      drawn: float32 [b, units], see `resamples`.
      pairs: int [n, 2], the identities of both images, 0..units-1.
    """
    first, second = pairs.T
    return drawn[:, first] * np.where(first == second, np.float32(1), drawn[:, second])


def around(value: float, resampled: np.ndarray, units: int) -> Interval:
    """The interval around a figure, from its values in bootstrap resamples.

    Student's t with units - 1 degrees of freedom times the standard deviation of `resampled`, on the log-odds scale, so
    that the interval stays within 0..1 and is not too narrow with few units.

    Args:
      value: the figure, 0..1.
      resampled: float [b], its value in each resample where it is defined.
      units: how many units were resampled.

    Returns:
      (low, high); None if it cannot be estimated: fewer than three units, fewer than 100 resamples, or a `value` of 0
      or 1, where units do not differ.
    """
    if units < _LEAST or len(resampled) < _RESAMPLES / 4 or not 0 < value < 1:
        return None
    error = np.std(resampled) * np.sqrt(units / (units - 1))
    half = scipy.special.stdtrit(units - 1, 0.975) * error / (value * (1 - value))
    low, high = scipy.special.expit(scipy.special.logit(value) + np.array([-half, half]))
    return float(low), float(high)
