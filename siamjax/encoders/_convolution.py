"""Convolution and pooling that are fast on a CPU, too; equal to XLA's own up to rounding.

A convolution is computed in one of two ways:

- direct: XLA's own; best on GPU and TPU, and on a CPU for small kernels, with the settings that `siamjax.host` makes.
  There, without gradients, a layer whose outputs are sums of up to 27 products, as first layers are, is a loop of our
  own, up to five times as fast;
- frequency: all passes in the frequency domain, where a large kernel costs no more than a single weight. Images are cut
  into overlapping tiles, so that the spectra of kernels stay small. The Fourier transforms, of some dozen points, are
  themselves matrix products. It holds the spectra of images, kernel and result.

The second, the first on a CPU, and `max_pool` can be differentiated in reverse mode, any number of times, but not in
forward mode, except for the loop of our own.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from siamjax import parallel, rows
from siamjax.choices import choose
from siamjax.types import Array

Method = Literal["auto", "direct", "frequency"]

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_FREQUENCY_COST = 3  # of a multiply-add in the frequency domain, in direct ones: small products, much memory
_SMALL = 25  # weights of a kernel, up to which its gradient is, within loops, a sum of products over its places
_PART, _MOST_PARTS = 2**19, 16  # numbers in x per part of a kernel's gradient; at most so many parts
_FEW = 27  # products that an output is a sum of, up to which a loop of our own is the fastest
_WITHIN_LOOP = contextvars.ContextVar("within_loop", default=False)
_MOST_SPECTRUM_FLOATS = 2**28  # in all spectra, for "auto" to choose the frequency domain


def convolve(
    x: Array,
    kernel: Array,
    strides: Sequence[int] = (1, 1),
    padding: str | Sequence[tuple[int, int]] = "VALID",
    *,
    method: Method = "auto",
) -> jax.Array:
    """The convolution (cross-correlation) of images with a kernel.

    Args:
      x: float [n, h, w, c].
      kernel: float [kh, kw, c, k], of the same type.
      strides: two numbers.
      padding: "VALID", "SAME", or ((top, bottom), (left, right)); numbers below 0 crop the images.
      method: "direct", "frequency" (computed in float32), or "auto": on a CPU what costs less by a count of operations,
        within bounds of memory, and direct for float64; elsewhere direct.

    Returns:
      float [n, h', w', k].

    Raises:
      ValueError: channels or types differ; or the method is unknown.
    """
    x, kernel, strides = jnp.asarray(x), jnp.asarray(kernel), tuple(strides)
    if x.shape[3:] != kernel.shape[2:3] or x.dtype != kernel.dtype:
        raise ValueError(
            f"images {x.dtype} {list(x.shape)} and a kernel {kernel.dtype} {list(kernel.shape)} do not fit: expected "
            "[n, h, w, c] and [kh, kw, c, k], of the same type"
        )
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    for axis, (before, after) in enumerate(padding, start=1):
        if min(before, after) < 0:
            x = lax.slice_in_dim(x, max(-before, 0), x.shape[axis] - max(-after, 0), axis=axis)
    padding = tuple((max(before, 0), max(after, 0)) for before, after in padding)
    kernel = rows.vary_like(x, kernel)
    if method == "auto":
        on_cpu = parallel.on_cpu() and x.dtype != jnp.float64
        method = _best(x.shape, kernel.shape, strides, padding) if on_cpu else "direct"
    by = {"direct": _direct, "frequency": _by_frequency}
    return choose("method", method, by)(x, kernel, strides, padding)


def max_pool(x: jax.Array) -> jax.Array:
    """The largest of each 2×2 square: [n, h, w, c] -> [n, h // 2, w // 2, c]; an odd last row or column is left out.

    The gradient goes to the first largest of a square, as XLA's own does.
    """
    if parallel.is_portable():
        return lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return _max_pool(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])


@contextlib.contextmanager
def within_loop() -> Iterator[None]:
    """To be held while a loop of the program is traced: there, XLA's own gradients take 20 times as long on a CPU."""
    token = _WITHIN_LOOP.set(True)
    try:
        yield
    finally:
        _WITHIN_LOOP.reset(token)


def for_flax(method: Method) -> Callable[..., jax.Array]:
    """`convolve` in the form in which flax's `nn.Conv` takes a convolution; without groups and dilation."""

    def conv_general_dilated(
        x, kernel, strides, padding, *, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count, precision
    ):
        if feature_group_count != 1 or {*lhs_dilation, *rhs_dilation} != {1}:
            raise ValueError("convolve supports neither groups nor dilation; leave conv_general_dilated unset")
        return convolve(x, kernel, strides, padding, method=method)

    return conv_general_dilated


def _best(x, kernel, strides, padding):
    """By shapes, the cheaper method."""
    n, h, w, c = x
    kh, kw, _, k = kernel
    h, w = h + sum(padding[0]) - kh + 1, w + sum(padding[1]) - kw + 1  # of the result, at stride 1
    if n == 0 or h < 1 or w < 1 or strides != (1, 1):
        return "direct"
    cost, tiles = _cheapest_tiles(x, (h, w), kernel)
    (th, tw), (sh, sw) = tiles, _tile_sides((h, w), tiles, (kh, kw))
    spectra = 2 * sh * (sw // 2 + 1) * (n * th * tw * (c + k) + c * k)
    cheap = _FREQUENCY_COST * cost < h * w * kh * kw * c * k
    return "frequency" if cheap and spectra <= _MOST_SPECTRUM_FLOATS else "direct"


def _cheapest_tiles(x, size, kernel):
    """(multiply-adds per image, (rows, columns) of tiles) of the tiling of a result of `size` that needs the fewest."""
    n, _, _, c = x
    kh, kw, _, k = kernel

    def cost(tiles):
        h, w = _tile_sides(size, tiles, (kh, kw))
        half = w // 2 + 1
        transform = 2 * h * w * half + 4 * h * h * half  # of one channel of one tile
        each = 3 * h * half * c * k + transform * (c + k)
        return math.prod(tiles) * each + 4 * (kh + kw) * h * half * c * k / n

    return min((cost(tiles), tiles) for tiles in [(rows, columns) for rows in (1, 2, 3) for columns in (1, 2, 3)])


def _tile_sides(size, tiles, window):
    """Sides of the overlapping tiles of the images."""
    return tuple(-(-side // count) + reach - 1 for side, count, reach in zip(size, tiles, window, strict=True))


def _direct(x, kernel, strides, padding) -> jax.Array:
    if not parallel.on_cpu():
        return _by_xla(x, kernel, strides, padding)
    looped = _WITHIN_LOOP.get() and math.prod(kernel.shape[:2]) <= _SMALL and strides == (1, 1)
    contiguous = kernel.shape[2] == 1 or strides == (1, 1)  # Neighbouring outputs read neighbouring inputs.
    if not looped and contiguous and math.prod(kernel.shape[:3]) <= _FEW:
        return jnp.asarray(_sum_of_few(x, kernel, strides, padding))
    return jnp.asarray(_direct_on_cpu(x, kernel, strides, padding, looped))


def _by_xla(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_DIMENSIONS)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _sum_of_few(x, kernel, strides, padding):
    """Σ over the kernel's places and the channels of the shifted image times the weights of all results."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    wide, weights = jnp.pad(x, ((0, 0), *padding, (0, 0))).astype(dtype), kernel.astype(dtype)
    ends = [size - side + 1 for size, side in zip(wide.shape[1:3], kernel.shape[:2], strict=True)]
    if min(ends) < 1:
        return _by_xla(x, kernel, strides, padding)
    products = (  # one at a time, where this is not compiled
        wide[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1], channel, None]
        * weights[i, j, channel].reshape(1, 1, 1, -1)
        for i, j, channel in np.ndindex(kernel.shape[:3])
    )
    return functools.reduce(jnp.add, products).astype(kernel.dtype)


@functools.partial(_sum_of_few.defjvp, symbolic_zeros=True)
def _slope_of_few(strides, padding, primals, tangents):
    """Values and gradients by XLA: in a training step, each use of the result would run the loop again."""
    (x, kernel), (dx, dkernel) = primals, tangents
    changes = [] if isinstance(dx, SymbolicZero) else [_by_xla(dx, kernel, strides, padding)]
    changes += [] if isinstance(dkernel, SymbolicZero) else [_by_xla(x, dkernel, strides, padding)]
    return _by_xla(x, kernel, strides, padding), functools.reduce(jnp.add, changes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _direct_on_cpu(x, kernel, strides, padding, looped):
    """XLA's own, with faster gradients."""
    return _by_xla(x, kernel, strides, padding)


def _direct_forward(x, kernel, strides, padding, looped):
    return _direct_on_cpu(x, kernel, strides, padding, looped), (x, kernel)


def _direct_backward(strides, padding, looped, kept, dy):
    x, kernel = kept
    if looped:
        return _slopes_in_loop(x, kernel, padding, dy)
    (dx,) = jax.linear_transpose(lambda x: _by_xla(x, kernel, strides, padding), x)(dy)

    def of_kernel(x, dy) -> jax.Array:
        return jax.linear_transpose(lambda kernel: _by_xla(x, kernel, strides, padding), kernel)(dy)[0]

    # XLA transposes both arrays for this gradient, images last; those of a part fit in a cache.
    parts = min(_MOST_PARTS, max(1, -(-x.size // _PART))) if x.dtype.itemsize > 2 else 1
    size = max(1, -(-len(x) // parts))
    return dx, functools.reduce(
        jnp.add, [of_kernel(x[i : i + size], dy[i : i + size]) for i in range(0, max(1, len(x)), size)]
    )


def _slopes_in_loop(x, kernel, padding, dy):
    """Both gradients, by operations that are fast within loops, too; outside, XLA's are 1.2 to 3 times as fast."""
    (kh, kw, c, k), (h, w) = kernel.shape, dy.shape[1:3]
    mirrored = tuple(
        (side - 1 - before, side - 1 - after) for side, (before, after) in zip((kh, kw), padding, strict=True)
    )
    dx = _direct_on_cpu(dy, kernel[::-1, ::-1].swapaxes(2, 3), (1, 1), mirrored, True)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    slopes = dy.reshape(-1, k)
    dkernel = [x[:, i : i + h, j : j + w].reshape(-1, c).T @ slopes for i in range(kh) for j in range(kw)]
    return dx, jnp.stack(dkernel).reshape(kernel.shape)


_direct_on_cpu.defvjp(_direct_forward, _direct_backward)


def _by_frequency(x, kernel, strides, padding):
    window = kernel.shape[:2]
    size = [side + sum(pad) - reach + 1 for side, pad, reach in zip(x.shape[1:3], padding, window, strict=True)]
    n, k = len(x), kernel.shape[3]
    if n == 0 or min(size) < 1:
        return _direct(x, kernel, strides, padding)
    (rows, columns) = tiles = _cheapest_tiles(x.shape, size, kernel.shape)[1]
    h, w = sides = _tile_sides(size, tiles, window)
    down, right = steps = _valid(sides, window)
    # The last tiles may reach beyond the images.
    (top, bottom), (left, last) = padding
    bottom, last = bottom + rows * down - size[0], last + columns * right - size[1]
    x = jnp.pad(x.astype(jnp.float32), ((0, 0), (top, bottom), (left, last), (0, 0)))
    x = jnp.stack([x[:, i * down : i * down + h] for i in range(rows)], axis=1)
    x = jnp.stack([x[:, :, :, i * right : i * right + w] for i in range(columns)], axis=2)
    y: jax.Array = _correlate(x.reshape(-1, h, w, x.shape[-1]), kernel.astype(jnp.float32), sides, window)
    y = y.reshape(n, rows, columns, *steps, k).swapaxes(2, 3).reshape(n, rows * down, columns * right, k)
    return y[:, : size[0] : strides[0], : size[1] : strides[1]].astype(kernel.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _correlate(x, kernel, sides, window):
    """Valid correlation with stride 1 of x [n, h, w, c], sides (h, w), with kernel [kh, kw, c, k], window (kh, kw)."""
    return _correlate_forward(x, kernel, sides, window)[0]


def _correlate_forward(x, kernel, sides, window):
    # Circular over the image's own sides: what wraps around is what "valid" leaves out.
    spectra = _spectrum(x.transpose(1, 2, 0, 3), sides), _spectrum(kernel, sides)
    y = _product("bnc,bck->bnk", spectra[0], spectra[1], conjugate=True)
    return _from_spectrum(y, sides, _valid(sides, window)).transpose(2, 0, 1, 3), spectra


def _correlate_backward(sides, window, spectra, dy):
    of_dy = _spectrum(dy.transpose(1, 2, 0, 3), sides)
    dx = _from_spectrum(_product("bnk,bck->bnc", of_dy, spectra[1]), sides, sides)
    dkernel = _from_spectrum(_product("bnc,bnk->bck", spectra[0], of_dy, conjugate=True), sides, window)
    return dx.transpose(2, 0, 1, 3), dkernel


_correlate.defvjp(_correlate_forward, _correlate_backward)


def _valid(sides, window):
    return sides[0] - window[0] + 1, sides[1] - window[1] + 1


def _product(formula, a, b, conjugate=False):
    """a times b, or its conjugate, at each frequency: three real matrix products in place of a complex one's four."""
    (ar, ai), (br, bi) = a, (b[0], -b[1]) if conjugate else b
    shared = jnp.einsum(formula, ar + ai, br)
    return jnp.stack([shared - jnp.einsum(formula, ai, br + bi), shared + jnp.einsum(formula, ar, bi - br)])


def _spectrum(x, sides):
    """Real x [h, w, a, b], zero beyond, -> its Fourier transform over `sides` at half the columns, [2, f, a, b].

    The two are real and imaginary parts; frequencies are in rows and columns, f = sides[0] · (sides[1] // 2 + 1).
    """
    h, w, *rest = x.shape
    half = sides[1] // 2 + 1
    cos, sin = _waves(sides[1], half, w)
    columns = np.concatenate([cos, -sin])  # real image to real and imaginary part, along each row
    cos, sin = _waves(sides[0], sides[0], h)
    rows = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)])  # [2, frequency, place, 2]
    y = jnp.einsum("fw,hwm->hfm", columns, x.reshape(h, w, -1))
    z = rows.reshape(2 * sides[0], 2 * h) @ y.reshape(2 * h, -1)
    return z.reshape(2, sides[0] * half, *rest)


def _from_spectrum(z, sides, shape):
    """The inverse of `_spectrum`: [2, f, a, b] -> the first h rows and w columns, (h, w) = `shape`, [h, w, a, b]."""
    (h, w), rest = shape, z.shape[2:]
    half = sides[1] // 2 + 1
    cos, sin = (wave.T for wave in _waves(sides[0], sides[0], h))
    rows = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)  # [place, 2, 2, frequency]
    # All columns except the first, and the middle one of an even number, also represent their mirror image.
    twice = np.array([1 if f in (0, sides[1] / 2) else 2 for f in range(half)], np.float32) / math.prod(sides)
    cos, sin = (wave.T * twice for wave in _waves(sides[1], half, w))
    columns = np.concatenate([cos, -sin], axis=1)
    y = rows.reshape(2 * h, 2 * sides[0]) @ z.reshape(2 * sides[0], -1)
    return jnp.einsum("wf,hfm->hwm", columns, y.reshape(h, 2 * half, -1)).reshape(h, w, *rest)


def _waves(size, frequencies, places):
    """Cosines and sines float32 [frequencies, places] of a Fourier transform of `size` points."""
    angle = 2 * np.pi / size * (np.outer(np.arange(frequencies), np.arange(places)) % size)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


@jax.custom_vjp
def _max_pool(x):
    return functools.reduce(jnp.maximum, _corners(x))


def _max_pool_forward(x):
    y = _max_pool(x)
    return y, (x, y)


def _max_pool_backward(kept, dy):
    x, y = kept
    parts, taken = [], jnp.zeros(y.shape, bool)
    for corner in _corners(x):
        first = (corner == y) & ~taken
        parts.append(jnp.where(first, dy, 0))
        taken |= first
    n, h, w, c = y.shape
    return (jnp.stack(parts, axis=3).reshape(n, h, w, 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(x.shape),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _corners(x):
    return [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
