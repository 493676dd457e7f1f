"""Scanned ink: what was written, without what it was written on."""

import numpy as np

_LIGHT = 0.1  # of the longest side: a window that holds paper wherever it is
_CONTRAST = 0.06  # of paper and ink; noise of paper alone divides into two shades of a third of that
_SPECK = 0.002  # of all ink: smaller spots are dust
_APART = 0.1  # of the longest side: ink that is farther from the rest is another part
_LITTLE = 0.03  # of the ink of the largest part: a smaller part is no writing
VERSION = 2  # of what `written` gives; prepared images of another one are prepared again


def written(grey: np.ndarray) -> np.ndarray:
    """What is written on a scan: ink 255, paper 0, cut to the box around the ink.

    Paper tells where a scan comes from: in CEDAR's signatures its grey alone separates all genuine ones from all
    forgeries, and the margins separate 70 %. So the light is evened out (each pixel divided by the lightest
    one around it), ink is told from paper by Otsu's threshold (1979, https://doi.org/10.1109/TSMC.1979.4310076), which
    also removes how dark the ink is; specks, and little marks far from the rest, are removed, and margins cut off.

    Args:
      grey: uint8 [h, w], dark ink on lighter paper.

    Returns:
      uint8 [h', w'], 0 or 255.

    Raises:
      ValueError: there is no ink, or it is lighter than the paper.
    """
    import scipy.ndimage  # Slow to import, and of use for scans alone.

    window = 3 + 2 * round(_LIGHT * max(grey.shape) / 2)
    light = scipy.ndimage.maximum_filter(scipy.ndimage.uniform_filter(grey, 3), window)
    light = scipy.ndimage.uniform_filter(light.astype(np.float32), window)
    even = np.minimum(255 * (grey / np.maximum(light, 1)), 255).astype(np.uint8)
    ink = even <= threshold(even)
    if even[~ink].mean() - even[ink].mean() < 255 * _CONTRAST:
        raise ValueError("it shows no ink: expected dark ink on lighter paper")
    # What is rarer around a place, dark or light, is the ink.
    detail = grey - scipy.ndimage.uniform_filter(grey.astype(np.float32), 3 * window)
    if np.mean(detail**3) > 0:
        raise ValueError("it shows light ink: expected dark ink on lighter paper; invert it first")
    ink = _without_specks(ink)
    if not ink.any():
        raise ValueError("it shows no ink, only specks: expected a signature or other writing on plain paper")
    return np.where(_cut(_without_marks(_cut(ink))), 255, 0).astype(np.uint8)


def threshold(grey: np.ndarray) -> int:
    """Otsu's threshold of uint8 values: those up to it, and those above, differ most between and least within.

    Raises:
      ValueError: all values are equal.
    """
    counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    below, sums = np.cumsum(counts)[:-1], np.cumsum(counts * np.arange(256))
    above = counts.sum() - below
    if not (below * above).any():
        raise ValueError("it shows no ink: all of it has the same grey")
    difference = sums[-1] * below / counts.sum() - sums[:-1]
    return int(np.argmax(np.divide(difference**2, below * above, out=np.zeros(255), where=below * above > 0)))


def _without_specks(ink: np.ndarray) -> np.ndarray:
    spots = _connected(ink)
    return np.bincount(spots[ink])[spots] > _SPECK * ink.sum()


def _connected(mask: np.ndarray) -> np.ndarray:
    """The number, from 1, of the connected part that each pixel of `mask` belongs to; 0 outside."""
    import scipy.ndimage

    parts = np.zeros(mask.shape, np.int32)
    scipy.ndimage.label(mask, np.ones((3, 3)), output=parts)
    return parts


def _cut(ink: np.ndarray) -> np.ndarray:
    """The box around the ink."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _without_marks(ink: np.ndarray) -> np.ndarray:
    """Without a little ink far from the rest, which would move the box around the ink."""
    import scipy.ndimage

    # Ink is one part if no gap in it is wider than `_APART`: each side of a gap grows by half of that.
    grown = scipy.ndimage.maximum_filter(ink, 1 + round(_APART * max(ink.shape)))
    parts = _connected(grown)
    sizes = np.bincount(parts[ink])  # of the ink alone
    return ink & (sizes[parts] >= _LITTLE * sizes.max())
