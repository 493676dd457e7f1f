import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamjax import mining
from siamjax.losses import _pair_log_sum_exp, angular
from siamjax.losses._pair_log_sum_exp import pair_log_sum_exp

# More than two blocks of the matrix product, classes of 1 to 70 in no order.
SIZES = [70, 1, 33, 2, 2, 17, 5, 14, 3]
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(len(SIZES)), SIZES))
N = len(LABELS)


def naive(x, positive, negative):
    """The sums with all n³ terms."""
    terms = jnp.where(negative[:, None, :], x[:, None, :] + x[None, :, :], -jnp.inf)
    top = jnp.max(terms, axis=2, keepdims=True)
    sums = jnp.sum(jnp.exp(terms - top), axis=2)
    return jnp.where(positive, jnp.log(sums) + top[:, :, 0], 0)


def masks(labels):
    same = labels[:, None] == labels[None, :]
    return same & ~jnp.eye(len(labels), dtype=bool), ~same


def fast(x, labels, positive, negative):
    return pair_log_sum_exp(x, x, (labels, labels), mining.Candidates(positive=positive, negative=negative))[0]


@functools.cache
def compiled(use_naive):
    """(x, labels, weights) -> the sums and the gradient of their weighted total."""

    def total(x, labels, weights):
        positive, negative = masks(labels)
        logs = naive(x, positive, negative) if use_naive else fast(x, labels, positive, negative)
        return jnp.sum(weights * logs), logs

    return jax.jit(jax.grad(total, has_aux=True))


def assert_equals_naive(x, labels, dtype, tolerance):
    weights = np.random.default_rng(1).normal(size=x.shape)
    with jax.enable_x64(True):
        expected = compiled(True)(*map(jnp.asarray, (x, labels, weights)))
    with jax.enable_x64(dtype == np.float64):
        got = compiled(False)(jnp.asarray(x, dtype), jnp.asarray(labels), jnp.asarray(weights, dtype))
        for mine, theirs in zip(got, expected, strict=True):
            assert mine.dtype == dtype
            np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max())


# exp(x) leaves the range of float32 at a spread of 50, that of float64 at 500.
@pytest.mark.parametrize("spread", [0.01, 3.0, 50.0, 500.0, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_and_their_gradient_equal_the_naive_ones(spread, dtype):
    x = spread * np.random.default_rng(2).normal(size=(N, N))
    if spread > 1000:
        # Numbers of which float32 rounds no sum: the gradient is all or nothing here, so rounding would show in full.
        x = np.round(x / 1000) * 1000
    # The gradient's relative error is the absolute one of x, which float32 must round first.
    tolerance = (max(1e-5, spread * 2e-6) if spread <= 1000 else 1e-5) if dtype == np.float32 else 1e-10
    assert_equals_naive(x, LABELS, dtype, tolerance)


@pytest.mark.parametrize("labels", [np.zeros(N, int), np.arange(N)], ids=["one_class", "all_differ"])
def test_without_negatives_or_positives_everything_is_zero(labels):
    gradient, logs = compiled(False)(jnp.ones((N, N)), jnp.asarray(labels), jnp.ones((N, N)))
    np.testing.assert_array_equal(logs, 0)
    np.testing.assert_array_equal(gradient, 0)


def test_only_blocks_that_hold_positives_are_computed():
    positive, _ = masks(jnp.asarray(LABELS))
    orders = jnp.argsort(LABELS), jnp.argsort(LABELS)
    steps = _pair_log_sum_exp._fold_blocks(lambda i, j, n: n + 1, 0, positive, orders, block=16)
    assert steps < (N // 16) ** 2 / 2


def test_angular_under_vmap():
    points = (
        jnp.asarray(np.random.default_rng(3).normal(size=(3, 9, 4)), jnp.float32)
        * jnp.array([0.1, 1, 30])[:, None, None]
    )
    labels = jnp.asarray(np.random.default_rng(4).integers(0, 3, size=(3, 9)))
    alone = jax.jit(jax.value_and_grad(angular))
    together = jax.jit(jax.vmap(jax.value_and_grad(angular)))(points, labels)
    for i in range(3):
        value, gradient = alone(points[i], labels[i])
        np.testing.assert_allclose(together[0][i], value, rtol=1e-5)
        np.testing.assert_allclose(together[1][i], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0, 90, -3])
def test_angle_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match=f"alpha={alpha}"):
        angular(jnp.ones((4, 2)), jnp.array([0, 0, 1, 1]), alpha=alpha)
