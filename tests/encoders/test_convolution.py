"""Each way of computing a convolution gives the numbers of XLA's own, in value and gradient."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from siamjax import encoders
from siamjax.encoders import _convolution

# images [n, h, w, c], kernel [kh, kw, c, k], strides, padding
SHAPES = {
    "square": ((4, 12, 12, 3), (3, 3, 3, 5), (1, 1), "VALID"),
    "same": ((3, 9, 9, 2), (3, 3, 2, 4), (1, 1), "SAME"),
    "odd sides": ((5, 11, 8, 3), (4, 3, 3, 2), (1, 1), "VALID"),
    "even kernel, same": ((2, 7, 10, 1), (2, 4, 1, 3), (1, 1), "SAME"),
    "strides": ((3, 13, 10, 2), (3, 3, 2, 4), (2, 3), "VALID"),
    "strides, same": ((3, 10, 13, 2), (5, 3, 2, 4), (2, 2), "SAME"),
    "uneven padding": ((3, 8, 8, 2), (3, 4, 2, 4), (1, 2), ((0, 2), (3, 1))),
    "kernel as large as the image": ((3, 6, 7, 2), (6, 7, 2, 4), (1, 1), "VALID"),
    "one number": ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), "VALID"),
    "Koch's second, narrow": ((2, 48, 48, 4), (7, 7, 4, 8), (1, 1), "VALID"),
    "uneven tiles": ((2, 41, 36, 4), (6, 7, 4, 8), (1, 1), ((1, 0), (2, 3))),
    "cropped": ((3, 8, 9, 1), (3, 3, 1, 4), (1, 1), ((-1, 0), (2, -2))),
    "points": ((3, 6, 5, 4), (1, 1, 4, 7), (1, 1), "SAME"),
    "every other point": ((3, 6, 5, 4), (1, 1, 4, 7), (2, 2), "SAME"),
    "points, padded": ((3, 6, 5, 4), (1, 1, 4, 7), (1, 1), ((0, 1), (1, 0))),
    "many images": ((101, 28, 28, 8), (3, 3, 8, 8), (1, 1), "SAME"),
}


@pytest.mark.sweep
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["direct", "direct, within a loop", "frequency", "auto"])
def test_equals_xlas_convolution_in_value_and_gradient(method, shape):
    method, _, loop = method.partition(", ")
    size, window, strides, padding = SHAPES[shape]
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=size).astype(np.float32), rng.normal(size=window).astype(np.float32)
    ours = functools.partial(encoders.convolve, strides=strides, padding=padding, method=method)
    xlas = functools.partial(
        lax.conv_general_dilated, window_strides=strides, padding=padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

    @functools.partial(jax.jit, static_argnums=0)
    def all_passes(convolve, x, kernel, dy):
        y, back = jax.vjp(convolve, x, kernel)
        return y, *back(dy)

    dy = rng.normal(size=jax.eval_shape(xlas, x, kernel).shape).astype(np.float32)
    with encoders.within_loop() if loop else contextlib.nullcontext():
        passes = [jax.jit(ours)(x, kernel), *all_passes(ours, x, kernel, dy)]
    y, *gradients = all_passes(xlas, x, kernel, dy)
    for got, expected in zip(passes, (y, y, *gradients), strict=True):
        assert got.shape == expected.shape and got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_gradients_in_parts_are_those_of_the_whole_twice(monkeypatch):
    """Up to 16 parts, here of 5, and of no images."""
    monkeypatch.setattr(_convolution, "_PART", 64)
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(77, 5, 5, 8)).astype(np.float32), rng.normal(size=(3, 3, 8, 4)).astype(np.float32)
    xlas = functools.partial(
        lax.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

    def twice(convolve, x):
        first = jax.grad(lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel))), (0, 1))
        return jax.jit(jax.grad(lambda x, kernel: sum(jnp.sum(jnp.cos(d)) for d in first(x, kernel)), (0, 1)))(
            x, kernel
        )

    ours = functools.partial(encoders.convolve, padding="SAME", method="direct")
    for got, expected in zip(twice(ours, x), twice(xlas, x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert not np.any(twice(ours, x[:0])[1])


def test_bfloat16_stays_bfloat16_and_close():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(4, 12, 12, 3)), rng.normal(size=(3, 3, 3, 5))
    exact, back = jax.vjp(encoders.convolve, jnp.float32(x), jnp.float32(kernel))
    rounded, back_rounded = jax.vjp(
        functools.partial(encoders.convolve, method="frequency"), jnp.bfloat16(x), jnp.bfloat16(kernel)
    )
    pairs = zip((rounded, *back_rounded(jnp.ones_like(rounded))), (exact, *back(jnp.ones_like(exact))), strict=True)
    for got, expected in pairs:
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(got), expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_first_layer_in_half_precision_is_rounded_once(dtype):
    rng = np.random.default_rng(0)
    x, kernel = jnp.asarray(rng.normal(size=(4, 12, 12, 1)), dtype), jnp.asarray(rng.normal(size=(5, 5, 1, 8)), dtype)
    exact = encoders.convolve(jnp.float32(x), jnp.float32(kernel))
    got = encoders.convolve(x, kernel)
    assert got.dtype == dtype
    np.testing.assert_allclose(np.float32(got), exact, rtol=jnp.finfo(dtype).eps, atol=1e-5)


def test_a_first_layer_can_be_differentiated_in_forward_mode():
    rng = np.random.default_rng(0)
    x, kernel, dx = (
        jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((2, 8, 8, 1), (3, 3, 1, 4), (2, 8, 8, 1))
    )
    y, slope = jax.jvp(lambda x: encoders.convolve(x, kernel), (x,), (dx,))
    np.testing.assert_allclose(y, encoders.convolve(x, kernel), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slope, encoders.convolve(dx, kernel), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(3, 8, 6, 2), (2, 7, 9, 3), (1, 2, 2, 1)])
def test_pooling_equals_flaxs_in_value_and_gradient_even_with_ties(size):
    rng = np.random.default_rng(0)
    x = jnp.float32(rng.integers(0, 3, size=size))  # many ties
    flaxs = functools.partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2))
    y, back = jax.vjp(encoders.max_pool, x)
    expected, expected_back = jax.vjp(flaxs, x)
    np.testing.assert_array_equal(y, expected)
    dy = jnp.float32(rng.normal(size=y.shape))
    np.testing.assert_array_equal(back(dy)[0], expected_back(dy)[0])


@pytest.mark.parametrize("size", [(0, 12, 12, 3), (2, 5, 5, 3)])
def test_nothing_to_convolve_is_not_an_error(size):
    """No image, or a kernel larger than the images."""
    total = lambda x, kernel: jnp.sum(encoders.convolve(x, kernel))  # noqa: E731
    value, gradient = jax.value_and_grad(total, argnums=1)(jnp.ones(size), jnp.ones((7, 7, 3, 5)))
    assert value == 0 and not np.any(gradient)


def test_float64_keeps_its_precision():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel = jnp.asarray(rng.normal(size=(2, 20, 20, 4))), jnp.asarray(rng.normal(size=(7, 7, 4, 8)))
        got, expected = encoders.convolve(x, kernel), encoders.convolve(x, kernel, method="direct")
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("method", ["direct", "frequency"])
@pytest.mark.parametrize(("channels", "dtype"), [(3, jnp.float32), (1, jnp.bfloat16)])
def test_channels_or_types_that_differ_are_refused(method, channels, dtype):
    x, kernel = jnp.ones((2, 8, 8, channels), dtype), jnp.ones((3, 3, 1, 4))
    with pytest.raises(ValueError, match=r"images \w+ \[2, 8, 8, \d\] and a kernel float32 \[3, 3, 1, 4\] do not fit"):
        encoders.convolve(x, kernel, method=method)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="^method='winograd' is not known; choose one of direct"):
        encoders.convolve(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), method="winograd")
