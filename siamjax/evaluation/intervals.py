"""95 % intervals over what is independent (identities, alphabets, runs), not over the pairs or trials made of it.

The bootstrap draws as many units as there are, with replacement; a trial counts as often as its unit was drawn. Pairs
of six people say little about a seventh, however many they are: Bolle, Ratha, Pankanti: Error analysis of pattern
recognition systems - the subsets bootstrap (2004), https://doi.org/10.1016/j.cviu.2003.08.002.
"""

from collections.abc import Iterator

import numpy as np
import scipy.special

Interval = tuple[float, float] | None

_RESAMPLES, _BLOCK = 400, 2**18  # enough for a standard deviation; most numbers of a block of resamples
_LEAST = 3  # units: two say nothing about how much units differ


def of_mean(values: np.ndarray, unit: np.ndarray) -> Interval:
    """The interval of the mean of `values`, float or bool [n]; see `around`. Values that are NaN are left out.

    `unit` is int [n], or [n, 2] where two units take part in each: it counts as in `of_pairs`.
    """
    counted = ~np.isnan(values)
    if not counted.any():
        return None
    values, unit = values[counted], unit[counted]
    known, number = np.unique(unit, return_inverse=True)
    number = number.reshape(unit.shape)
    if unit.ndim == 1:
        sums, counts = np.bincount(number, values), np.bincount(number)
        means = [(drawn @ sums) / (drawn @ counts) for drawn in resamples(len(known), len(known))]
    else:
        weights = (of_pairs(drawn, number) for drawn in resamples(len(known), len(values)))
        weights = (weight[weight.any(axis=1)] for weight in weights)
        means = [weight @ np.float32(values) / weight.sum(axis=1) for weight in weights]
    return around(float(np.mean(values)), np.concatenate(means), len(known))


def resamples(units: int, width: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn, float32 [b, units], in blocks of about 262,144 / `width` of 400 rows."""
    rng = np.random.default_rng(0)
    rows = int(np.clip(_BLOCK // width, 1, _RESAMPLES))
    for start in range(0, _RESAMPLES, rows):
        drawn = rng.integers(units, size=(min(rows, _RESAMPLES - start), units))
        drawn += units * np.arange(len(drawn))[:, None]
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float32)


def of_pairs(drawn: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """How often each pair counts, float32 [b, n]: the product of how often its two identities were drawn.

    Both images of a same pair come with the one identity, which counts once.

    Args:
      drawn: float32 [b, units], see `resamples`.
      pairs: int [n, 2], the identities of both images, 0..units-1.
    """
    first, second = pairs.T
    return drawn[:, first] * np.where(first == second, np.float32(1), drawn[:, second])


def around(value: float, resampled: np.ndarray, units: int) -> Interval:
    """The interval around a figure `value`, 0..1, that has the values `resampled`, [b], in resamples of its `units`.

    Student's t with units - 1 degrees of freedom times the standard deviation of `resampled`, on the scale of log odds,
    so that it stays within 0..1 and does not become too narrow with few units.

    Returns:
      (low, high); None where nothing can be said: there are fewer than three units, few resamples have the figure, or
      its `value` is 0 or 1, where units do not differ.
    """
    if units < _LEAST or len(resampled) < _RESAMPLES / 4 or not 0 < value < 1:
        return None
    error = np.std(resampled) * np.sqrt(units / (units - 1))
    half = scipy.special.stdtrit(units - 1, 0.975) * error / (value * (1 - value))
    low, high = scipy.special.expit(scipy.special.logit(value) + np.array([-half, half]))
    return float(low), float(high)
