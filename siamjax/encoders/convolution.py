"""Convolution and pooling whose gradients are fast on a CPU, too; XLA's own numbers up to rounding.

XLA's CPU backend computes a convolution well, and the gradient by its input, but the gradient by its kernel at a small
part of what matrix products reach. Here each pass is made in one of three ways:

- direct: XLA's convolution in all three passes; best on GPU and TPU;
- patches: the kernel's gradient as matrix products of image patches, a few images at a time, so that the patches stay
  in the cache; the rest direct;
- frequency: all three passes in the frequency domain, where a large kernel costs no more than one number. The Fourier
  transforms, of some dozen points, are themselves matrix products. It holds the spectra of images, kernel and result.

The last two, and `max_pool`, can be differentiated in reverse mode, as often as need be, but not forward.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from siamjax.choices import choose

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_PATCH_FLOATS = 2**20  # most floats in the patches of a chunk of images, unless one has more: as large as a cache
_MOST_PATCH_FLOATS = 2**24  # most in the patches of one image, and
_MOST_SPECTRUM_FLOATS = 2**28  # in all spectra, for "auto" to choose the method


def convolve(x, kernel, strides=(1, 1), padding="VALID", *, method: str = "auto"):
    """The convolution (cross-correlation) of images with a kernel.

    Args:
      x: float [n, h, w, c].
      kernel: float [kh, kw, c, k], of the same type.
      strides: two numbers.
      padding: "VALID", "SAME", or ((top, bottom), (left, right)).
      method: "direct", "patches", "frequency" (computed in float32), or "auto": on a CPU what needs the fewest
        operations by count, within bounds of memory, and direct for float64; elsewhere direct.

    Returns:
      float [n, h', w', k].
    """
    strides = tuple(strides)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    padding = tuple(map(tuple, padding))
    if method == "auto":
        on_cpu = jax.default_backend() == "cpu" and x.dtype != jnp.float64
        method = _best(x.shape, kernel.shape, strides, padding) if on_cpu else "direct"
    by = {"direct": _direct, "patches": _by_patches, "frequency": _by_frequency}
    return choose("encoder.convolution", method, by)(x, kernel, strides, padding)


def max_pool(x):
    """The largest of each 2×2 square: [n, h, w, c] -> [n, h // 2, w // 2, c]; a last odd row or column is left out.

    The gradient goes to the first largest of a square, as XLA's own does.
    """
    return _max_pool(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])


def for_flax(method: str):
    """`convolve` in the form in which flax's `nn.Conv` takes a convolution; without groups and dilation."""

    def conv_general_dilated(
        x, kernel, strides, padding, *, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count, precision
    ):
        if feature_group_count != 1 or {*lhs_dilation, *rhs_dilation} != {1}:
            raise ValueError("siamjax's convolution has neither groups nor dilation; leave conv_general_dilated unset")
        return convolve(x, kernel, strides, padding, method=method)

    return conv_general_dilated


def _best(x, kernel, strides, padding):
    """By shapes, the method with the fewest multiply-adds, of which those in the frequency domain cost double."""
    n, h, w, c = x
    kh, kw, _, k = kernel
    h, w = h + sum(padding[0]), w + sum(padding[1])
    if n == 0 or h < kh or w < kw:
        return "direct"
    patch = ((h - kh) // strides[0] + 1) * ((w - kw) // strides[1] + 1) * kh * kw * c
    direct = (h - kh + 1) * (w - kw + 1) * kh * kw * c * k
    half = w // 2 + 1
    transform = 2 * h * w * half + 4 * h * h * half
    frequency = 3 * h * half * c * k + transform * (c + k) + 4 * (kh + kw) * h * half * c * k / n
    spectra = 2 * h * half * (n * (c + k) + c * k)
    if strides == (1, 1) and 2 * frequency < direct and spectra <= _MOST_SPECTRUM_FLOATS:
        return "frequency"
    return "patches" if patch <= _MOST_PATCH_FLOATS else "direct"


def _direct(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_DIMENSIONS)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _by_patches(x, kernel, strides, padding):
    return _direct(x, kernel, strides, padding)


def _by_patches_forward(x, kernel, strides, padding):
    return _direct(x, kernel, strides, padding), (x, kernel)


def _by_patches_backward(strides, padding, kept, dy):
    x, kernel = kept
    (dx,) = jax.linear_transpose(lambda x: _direct(x, kernel, strides, padding), x)(dy)
    return dx, _kernel_gradient(x, dy, kernel, strides, padding)


_by_patches.defvjp(_by_patches_forward, _by_patches_backward)


def _kernel_gradient(x, dy, kernel, strides, padding):
    """Σ over images and places of patch times dy, as one matrix product for each chunk of images."""
    kh, kw, c, k = kernel.shape
    n, ho, wo, _ = dy.shape
    most = max(1, _PATCH_FLOATS // (ho * wo * kh * kw * c))
    chunk = next(size for size in range(min(n, most), 0, -1) if n % size == 0)

    def add(total, part):
        x, dy = part
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
        (sh, sw) = strides
        ends = (ho - 1) * sh + 1, (wo - 1) * sw + 1
        patches = [x[:, i : i + ends[0] : sh, j : j + ends[1] : sw] for i in range(kh) for j in range(kw)]
        patches = jnp.concatenate(patches, axis=-1).reshape(-1, kh * kw * c)
        product = jnp.matmul(patches.T, dy.reshape(-1, k), preferred_element_type=jnp.float32)
        return total + product, None

    split = functools.partial(jax.tree.map, lambda a: a.reshape(n // chunk, chunk, *a.shape[1:]))
    total, _ = lax.scan(add, jnp.zeros((kh * kw * c, k), jnp.float32), split((x, dy)))
    return total.reshape(kernel.shape).astype(kernel.dtype)


def _by_frequency(x, kernel, strides, padding):
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    y = _correlate(x.astype(jnp.float32), kernel.astype(jnp.float32), x.shape[1:3], kernel.shape[:2])
    return y[:, :: strides[0], :: strides[1]].astype(x.dtype)


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
    # All columns but the first, and the middle one of an even number, stand for their mirror image, too.
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
