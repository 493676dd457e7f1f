import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import pair as oracle

from siamjax import losses

LOGITS = np.array([2.5, -0.3, 0.0, -7.0, 1.1, 40.0, -120.0])
DISTANCES = np.array([0.4, 0.9, 1.7, 0.02, 2.6, 1.3, 0.71])
SAME = np.array([1, 0, 1, 0, 0, 1, 1])
WHERE = np.array([1, 1, 0, 1, 1, 0, 1], bool)

ON_DISTANCES = {
    "exponential": (losses.exponential_contrastive, oracle.exponential_contrastive, {"q": 3.1}),
    "hadsell": (losses.contrastive, oracle.contrastive, {"margin": 1.4}),
    "double_margin": (
        losses.double_margin_contrastive,
        oracle.double_margin_contrastive,
        {"pos_margin": 0.5, "neg_margin": 1.4},
    ),
    "linear": (losses.linear_contrastive, oracle.linear_contrastive, {"pos_margin": 0.5, "neg_margin": 1.4}),
    "sigmoid": (losses.pairwise_sigmoid, oracle.pairwise_sigmoid, {"t": 3.0, "b": -2.0}),
    "cross_entropy": (losses.binary_cross_entropy, oracle.binary_cross_entropy, {}),
    "smoothed": (losses.binary_cross_entropy, oracle.binary_cross_entropy, {"label_smoothing": 0.2}),
}


def expected(pair_loss, values, where=WHERE, balance=None, **parameters):
    counted = [pair_loss(v, s, **parameters) for v, s, w in zip(values, SAME, where, strict=True) if w]
    return oracle.balanced(counted, SAME[where], balance)


@pytest.mark.parametrize("dtype,tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
@pytest.mark.parametrize("name", ON_DISTANCES)
def test_value_and_gradient_equal_the_loop(name, dtype, tolerance):
    function, pair_loss, parameters = ON_DISTANCES[name]
    points = LOGITS if function is losses.binary_cross_entropy else DISTANCES
    with jax.enable_x64(dtype == np.float64):
        loss = functools.partial(function, same=jnp.asarray(SAME), where=jnp.asarray(WHERE), **parameters)
        value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(points, dtype))
        assert value.dtype == dtype and gradient.dtype == dtype
    np.testing.assert_allclose(value, expected(pair_loss, points, **parameters), rtol=tolerance)
    if dtype == np.float64:
        differences = oracle.gradient(lambda x: expected(pair_loss, x, **parameters), points)
        np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-8)
        np.testing.assert_array_equal(gradient[~WHERE], 0)


@pytest.mark.parametrize("dtype,tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_cosine_embedding_equals_the_loop(dtype, tolerance):
    a, b = np.random.default_rng(3).normal(size=(2, 7, 5)) * np.linspace(0.1, 30, 5)

    def looped(a, b):
        values = [oracle.cosine_embedding(x, y, s, 0.1) for x, y, s in zip(a, b, SAME, strict=True)]
        return oracle.mean([value for value, counts in zip(values, WHERE, strict=True) if counts])

    with jax.enable_x64(dtype == np.float64):
        loss = functools.partial(losses.cosine_embedding, same=jnp.asarray(SAME), margin=0.1, where=jnp.asarray(WHERE))
        value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(jnp.asarray(a, dtype), jnp.asarray(b, dtype))
    np.testing.assert_allclose(value, looped(a, b), rtol=tolerance)
    if dtype == np.float64:
        np.testing.assert_allclose(gradients[0], oracle.gradient(lambda x: looped(x, b), a), rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(gradients[1], oracle.gradient(lambda x: looped(a, x), b), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("balance", [0.5, 0.8])
def test_balance_weights_each_kind_separately(balance):
    loss = functools.partial(losses.binary_cross_entropy, balance=balance, where=jnp.asarray(WHERE))
    logits, same = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(SAME)
    value = expected(oracle.binary_cross_entropy, LOGITS, balance=balance)
    np.testing.assert_allclose(loss(logits, same), value, rtol=1e-5)
    each = np.where(SAME, balance, 1 - balance) * losses.binary_cross_entropy(logits, same, reduce_fn=None)
    np.testing.assert_allclose(loss(logits, same, reduce_fn=None), np.where(WHERE, each, 0), rtol=1e-6)
    np.testing.assert_allclose(loss(logits, same, reduce_fn=jnp.sum), each[WHERE].sum(), rtol=1e-6)


def test_balanced_cross_entropy_weights_both_kinds_equally():
    got = losses.balanced_binary_cross_entropy(
        jnp.asarray(LOGITS, jnp.float32), jnp.asarray(SAME), where=jnp.asarray(WHERE)
    )
    np.testing.assert_allclose(got, expected(oracle.binary_cross_entropy, LOGITS, balance=0.5), rtol=1e-5)


@pytest.mark.parametrize(
    "loss,points",
    [
        (losses.balanced_binary_cross_entropy, LOGITS),
        (losses.binary_cross_entropy, LOGITS),
        (losses.pairwise_sigmoid, LOGITS),
        (losses.exponential_contrastive, DISTANCES),
        (losses.contrastive, DISTANCES),
        (losses.double_margin_contrastive, DISTANCES),
        (losses.linear_contrastive, DISTANCES),
    ],
)
@pytest.mark.parametrize("same", [np.zeros(7), np.ones(7), SAME])
def test_nothing_selected_gives_zero_and_no_gradient(loss, points, same):
    @jax.jit
    def value_and_gradient(points, where):
        return jax.value_and_grad(lambda x: loss(x, jnp.asarray(same), where=where))(points)

    points = jnp.asarray(points, jnp.float32)
    value, gradient = value_and_gradient(points, jnp.zeros(7, bool))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(7))
    value, gradient = value_and_gradient(points, jnp.ones(7, bool))
    assert np.isfinite(value) and np.all(np.isfinite(gradient))


@pytest.mark.parametrize("name", ON_DISTANCES)
@pytest.mark.parametrize("distance", [0.0, 1e-6, 1e4])
def test_extreme_distances_are_finite(name, distance):
    function, _, parameters = ON_DISTANCES[name]
    loss = functools.partial(function, same=jnp.array([1, 0]), **parameters)
    value, gradient = jax.value_and_grad(loss)(jnp.full(2, distance, jnp.float32))
    assert np.isfinite(value) and np.all(np.isfinite(gradient))


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e4])
def test_cosine_embedding_is_finite_where_points_coincide(scale):
    points = jnp.full((2, 3), scale, jnp.float32)
    loss = functools.partial(losses.cosine_embedding, same=jnp.array([1, 0]))
    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(points, points)
    assert np.isfinite(value) and np.all(np.isfinite(gradients))


def test_per_item_values_and_sum():
    logits, same, where = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(SAME), jnp.asarray(WHERE)
    values = losses.binary_cross_entropy(logits, same, where=where, reduce_fn=None)
    assert values.shape == (7,) and values[2] == 0 and values[5] == 0
    total = losses.binary_cross_entropy(logits, same, where=where, reduce_fn=jnp.sum)
    np.testing.assert_allclose(total, values.sum(), rtol=1e-6)


def test_double_margin_without_a_positive_margin_is_hadsells():
    points, same = jnp.asarray(DISTANCES, jnp.float32), jnp.asarray(SAME)
    double = losses.double_margin_contrastive(points, same, pos_margin=0.0, neg_margin=1.4, reduce_fn=None)
    np.testing.assert_allclose(double, losses.contrastive(points, same, margin=1.4, reduce_fn=None), rtol=1e-6)
