"""Are images like those that a network was fitted to? By a few numbers of their pixels, without the network."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

_WIDER, _FEW = 0.5, 10  # at each end, a range is widened by (_WIDER + _FEW / number of images) of itself
_LEAST = 0.03  # but by this at least
_NUMBERS, _DEVIATION = 5, 1  # how many there are, and which of them is the standard deviation
_AT_ONCE = 2**22  # values of images that are looked at at a time


@dataclasses.dataclass(frozen=True)
class Familiar:
    """Ranges of the numbers of `statistics` among the images that a decision was fitted to.

    A photograph is no drawing, and says nothing to a network of drawings; its answers would still look sure. Images
    outside a range are certainly of another kind; not all images inside are of the same.

    Attributes:
      low, high: of each number.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, images: np.ndarray) -> "Familiar":
        """The ranges of images uint8 [n, h, w, c], n ≥ 1, widened at each end by half of their length, or more if n is
        small. The lowest standard deviation is at least half of the smallest one found: empty images are outside."""
        found = statistics(images)
        low, high = found.min(0), found.max(0)
        wider = np.maximum((_WIDER + _FEW / len(found)) * (high - low), _LEAST)
        least = low - wider
        least[_DEVIATION] = max(least[_DEVIATION], low[_DEVIATION] / 2)
        return cls(tuple(least.tolist()), tuple((high + wider).tolist()))

    @classmethod
    def read(cls, saved: dict[str, Sequence[Any]]) -> "Familiar":
        """Reads what `dataclasses.asdict` made of it.

        Raises:
          ValueError, KeyError, TypeError: it is damaged.
        """
        low, high = (np.asarray(saved[name], np.float64) for name in ("low", "high"))
        if not low.shape == high.shape == (_NUMBERS,) or not np.all(low < high):
            raise ValueError(f"familiar must hold a range, low < high, of each of {_NUMBERS} numbers")
        return cls(tuple(low.tolist()), tuple(high.tolist()))

    def knows(self, images: np.ndarray) -> np.ndarray:
        """Whether each of images uint8 [n, h, w, c] is in all ranges: bool [n]."""
        found = statistics(images)
        return np.all((found >= np.array(self.low)) & (found <= np.array(self.high)), axis=1)


def statistics(images: np.ndarray) -> np.ndarray:
    """Numbers of images uint8 [n, h, w, c], float64 [n, 5], each 0..1.

    The mean; the standard deviation; the share of values that are neither dark nor bright; the mean step from a pixel
    to the one below and to the right; and how far the channels of a pixel differ.
    """
    block = max(1, _AT_ONCE // max(1, int(np.prod(images.shape[1:]))))
    found = [_statistics(images[start : start + block]) for start in range(0, len(images), block)]
    return np.concatenate(found) if found else np.zeros((0, _NUMBERS))


def _statistics(images):
    values = np.asarray(images, np.float32) / 255
    places, none = tuple(range(1, values.ndim)), np.zeros(len(values))
    steps = [np.abs(np.diff(values, axis=axis)).mean(places) if values.shape[axis] > 1 else none for axis in (1, 2)]
    found = [
        values.mean(places),
        values.std(places),
        ((values > 0.25) & (values < 0.75)).mean(places),
        sum(steps) / 2,
        np.ptp(values, axis=3).mean((1, 2)),
    ]
    return np.stack(found, axis=1).astype(np.float64)
