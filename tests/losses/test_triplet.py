import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import triplet as oracle

from siamjax import distances, losses

RNG = np.random.default_rng(3)
# Anchor, positive, negative and the fourth of a quadruplet; some triplets are fulfilled, some not.
POINTS = RNG.normal(size=(4, 9, 3)) * [1.0, 0.4, 1.7] + np.array([0, 0.2, 0.9, -0.8])[:, None, None]
WHERE = np.array([1, 1, 0, 1, 1, 1, 0, 1, 1], bool)
ALL = np.ones(9, bool)
SQUARED = distances.squared_euclidean


def each(one, **parameters):
    """Oracle of one triplet or quadruplet -> oracle of arrays of them, per-item values."""

    def values(*points):
        return np.array([one(*(p[i] for p in points), **parameters) for i in range(len(points[0]))])

    return values


LOSSES = {
    "hinge": (3, functools.partial(losses.triplet_margin), each(oracle.triplet, margin=0.2)),
    "hinge_squared": (
        3,
        functools.partial(losses.triplet_margin, margin=1.1, distance=SQUARED),
        each(oracle.triplet, margin=1.1, distance=oracle.squared),
    ),
    "hinge_swap": (
        3,
        functools.partial(losses.triplet_margin, margin=0.7, swap=True),
        each(oracle.triplet, margin=0.7, swap=True),
    ),
    "soft": (
        3,
        functools.partial(losses.triplet_margin, soft=True),
        each(oracle.triplet, margin=0.0, shape=oracle.softplus),
    ),
    "soft_squared_swap": (
        3,
        functools.partial(losses.triplet_margin, soft=True, margin=0.3, distance=SQUARED, swap=True),
        each(oracle.triplet, margin=0.3, shape=oracle.softplus, distance=oracle.squared, swap=True),
    ),
    "snr": (
        3,
        functools.partial(losses.triplet_margin, distance=losses.snr_distance),
        each(oracle.triplet, margin=0.2, distance=oracle.snr),
    ),
    "quadruplet": (4, losses.quadruplet, each(oracle.quadruplet, margin=1.0, second_margin=0.5)),
    "quadruplet_plain": (
        4,
        functools.partial(losses.quadruplet, margin=0.9, second_margin=0.1, distance=distances.euclidean),
        each(oracle.quadruplet, margin=0.9, second_margin=0.1, distance=oracle.plain),
    ),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


@functools.cache
def compiled(name):
    """(points [k, n, d], where) -> value and gradient; compiled once for all tests of one shape and type."""
    loss = LOSSES[name][1]
    return jax.jit(jax.value_and_grad(lambda points, where: loss(*points, where=where)))


def run(name, points, where=ALL, dtype=jnp.float32):
    points = jnp.asarray(points[: LOSSES[name][0]], dtype)
    value, gradient = compiled(name)(points, jnp.asarray(where))
    return np.asarray(value), np.asarray(gradient)


@pytest.mark.sweep
@each_loss
@pytest.mark.parametrize("dtype,tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_equals_the_loop(name, dtype, tolerance):
    arity, _, expected = LOSSES[name]
    with jax.enable_x64(dtype == np.float64):
        value, _ = run(name, POINTS, WHERE, dtype)
    assert value.dtype == dtype
    np.testing.assert_allclose(value, expected(*POINTS[:arity])[WHERE].mean(), rtol=tolerance)


@each_loss
def test_gradient_equals_finite_differences(name):
    arity, _, expected = LOSSES[name]
    points = POINTS[:arity]
    with jax.enable_x64(True):
        _, gradient = run(name, points, WHERE, np.float64)
    differences = np.zeros_like(points)
    for place in np.ndindex(points.shape):
        step = np.zeros_like(points)
        step[place] = 1e-6
        up, down = (expected(*(points + sign * step))[WHERE].mean() for sign in (1, -1))
        differences[place] = (up - down) / 2e-6
    np.testing.assert_allclose(gradient, differences, atol=1e-8)
    np.testing.assert_array_equal(gradient[:, ~WHERE], 0)


@each_loss
@pytest.mark.parametrize(
    "points",
    [np.zeros_like(POINTS), np.ones_like(POINTS), POINTS * 1e4, POINTS * 1e-6, np.repeat(POINTS[:1], 4, axis=0)],
    ids=["zero", "one_point", "huge", "tiny", "coincident"],
)
def test_finite_everywhere(name, points):
    value, gradient = run(name, points)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))


@each_loss
def test_nothing_selected_gives_zero_and_no_gradient(name):
    value, gradient = run(name, POINTS, ~ALL)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@each_loss
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_order_and_axes_do_not_matter(name, seed):
    rng = np.random.default_rng(seed)
    points, order = rng.normal(size=POINTS.shape), rng.permutation(9)
    # The variance over components knows their axes: these may change places, no more.
    turn = np.eye(3)[rng.permutation(3)] if name == "snr" else np.linalg.qr(rng.normal(size=(3, 3)))[0]
    value, _ = run(name, points, WHERE)
    other, _ = run(name, (points @ turn)[:, order], WHERE[order])
    np.testing.assert_allclose(other, value, rtol=1e-4, atol=1e-6)


@each_loss
def test_unreduced_values_and_their_sum(name):
    arity, loss, expected = LOSSES[name]
    points = jnp.asarray(POINTS[:arity], jnp.float32)
    values, total = jax.jit(lambda points: [loss(*points, where=WHERE, reduce_fn=f) for f in (None, jnp.sum)])(points)
    np.testing.assert_allclose(values, expected(*POINTS[:arity]) * WHERE, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(total, np.sum(values), rtol=1e-6)


def test_all_pairs_of_the_signal_to_noise_distance():
    a, b = POINTS[0], POINTS[1][:4]
    expected = np.array([[oracle.snr(x, y) for y in b] for x in a])
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(losses.pairwise_snr_distance)(a, b), expected, rtol=1e-10)
        np.testing.assert_allclose(
            losses.snr_distance(a, POINTS[1]), [oracle.snr(*x) for x in zip(a, POINTS[1], strict=True)]
        )


def test_signal_to_noise_without_a_signal():
    still, moving = jnp.full((3, 4), 2.0), jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda x: losses.pairwise_snr_distance(x, moving).sum()))(still)
    np.testing.assert_array_equal(losses.pairwise_snr_distance(still, moving), np.zeros((3, 3)))
    np.testing.assert_array_equal(gradient, np.zeros((3, 4)))


def test_zero_mean_regularizer():
    points = POINTS[0]
    expected = [abs(sum(x)) for x, counts in zip(points, WHERE, strict=True) if counts]
    with jax.enable_x64(True):
        value = jax.jit(losses.zero_mean_regularizer)(jnp.asarray(points), where=WHERE)
        np.testing.assert_allclose(value, np.mean(expected), rtol=1e-10)
    assert losses.zero_mean_regularizer(jnp.asarray(points), where=~ALL) == 0
