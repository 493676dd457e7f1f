import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import pair as oracle

from siamjax import losses

# Classes of 4, 3, 1 and 2; the length of the embeddings and the scale of their components differ widely.
LABELS = np.array([7, -3, 7, 7, 11, -3, 7, 500, -3, 11])
EMBEDDINGS = np.random.default_rng(0).normal(size=(10, 4)) * [1.0, 0.2, 1.6, 0.5] * np.linspace(0.3, 1.2, 10)[:, None]
WHERE = np.array([1, 1, 1, 0, 1, 1, 1, 1, 0, 1], bool)
ALL = np.ones(10, bool)


def over_pairs(pair_loss, metric, balance=0.5, **parameters):
    """Oracle of a batch loss that is a pair loss of a distance."""

    def on_points(a, b, same):
        return pair_loss(metric(a, b), same, **parameters)

    return lambda embeddings, labels, where: oracle.on_all_pairs(on_points, embeddings, labels, where, balance)


def cosine_pairs(embeddings, labels, where):
    on_points = functools.partial(oracle.cosine_embedding, margin=0.3)
    return oracle.on_all_pairs(on_points, embeddings, labels, where, 0.5)


TWO_MARGINS = {"pos_margin": 0.6, "neg_margin": 2.0}
LOSSES = {
    "exponential": (
        functools.partial(losses.batch_exponential_contrastive, q=3.1),
        over_pairs(oracle.exponential_contrastive, oracle.l1, q=3.1),
    ),
    "hadsell": (
        functools.partial(losses.batch_contrastive, margin=2.0, balance=0.3),
        over_pairs(oracle.contrastive, oracle.euclidean, balance=0.3, margin=2.0),
    ),
    "hadsell_unbalanced": (
        functools.partial(losses.batch_contrastive, margin=2.0, balance=None),
        over_pairs(oracle.contrastive, oracle.euclidean, balance=None, margin=2.0),
    ),
    "double_margin": (
        functools.partial(losses.batch_double_margin_contrastive, **TWO_MARGINS),
        over_pairs(oracle.double_margin_contrastive, oracle.euclidean, **TWO_MARGINS),
    ),
    "linear": (
        functools.partial(losses.batch_linear_contrastive, **TWO_MARGINS),
        over_pairs(oracle.linear_contrastive, oracle.euclidean, **TWO_MARGINS),
    ),
    "cosine": (functools.partial(losses.batch_cosine_embedding, margin=0.3), cosine_pairs),
    "sigmoid": (
        functools.partial(losses.batch_pairwise_sigmoid, t=3.0, b=-2.0),
        functools.partial(oracle.batch_pairwise_sigmoid, t=3.0, b=-2.0),
    ),
    "circle": (
        functools.partial(losses.circle, m=0.4, gamma=12.0),
        functools.partial(oracle.circle, m=0.4, gamma=12.0),
    ),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


@functools.cache
def compiled(name):
    """(embeddings, labels, where) -> value and gradient; compiled once for all tests of one shape and type."""
    loss = LOSSES[name][0]
    return jax.jit(jax.value_and_grad(lambda embeddings, labels, where: loss(embeddings, labels, where=where)))


def run(name, embeddings, labels=LABELS, where=ALL):
    value, gradient = compiled(name)(jnp.asarray(embeddings, jnp.float32), jnp.asarray(labels), jnp.asarray(where))
    return np.asarray(value), np.asarray(gradient)


@each_loss
@pytest.mark.parametrize("where", [ALL, WHERE])
def test_value_equals_the_loop_in_float32(name, where):
    value, _ = run(name, EMBEDDINGS, where=where)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, LOSSES[name][1](EMBEDDINGS, LABELS, where), rtol=1e-5)


@each_loss
def test_value_and_gradient_equal_the_loop_in_float64(name):
    looped = functools.partial(LOSSES[name][1], labels=LABELS, where=WHERE)
    with jax.enable_x64(True):
        value, gradient = compiled(name)(jnp.asarray(EMBEDDINGS), jnp.asarray(LABELS), jnp.asarray(WHERE))
        assert value.dtype == np.float64
    np.testing.assert_allclose(value, looped(EMBEDDINGS), rtol=1e-10)
    if name == "circle":
        looped = functools.partial(looped, weights_at=EMBEDDINGS)
    np.testing.assert_allclose(gradient, oracle.gradient(looped, EMBEDDINGS), rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(gradient[~WHERE], 0)


@each_loss
@pytest.mark.parametrize("labels", [LABELS, np.zeros(10, int), np.arange(10)], ids=["mixed", "one_class", "all_differ"])
@pytest.mark.parametrize(
    "points",
    [EMBEDDINGS, np.zeros((10, 4)), np.full((10, 4), 0.7), EMBEDDINGS * 1e4, EMBEDDINGS * 1e-6],
    ids=["usual", "zero", "coincident", "huge", "tiny"],
)
def test_value_and_gradient_are_finite(name, labels, points):
    value, gradient = run(name, points, labels)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))


@each_loss
@pytest.mark.parametrize("where", [np.zeros(10, bool), np.arange(10) == 3], ids=["none", "one"])
def test_no_pair_gives_zero_and_no_gradient(name, where):
    value, gradient = run(name, EMBEDDINGS, where=where)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@each_loss
def test_a_batch_of_one_gives_zero(name):
    value, gradient = run(name, np.ones((1, 4)), np.array([5]), np.array([True]))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("labels", [np.zeros(10, int), np.arange(10)])
def test_circle_needs_both_a_positive_and_a_negative(labels):
    value, gradient = run("circle", EMBEDDINGS, labels)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@each_loss
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), order=st.permutations(range(10)))
def test_order_numbering_and_axes_do_not_matter(name, seed, order):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(10, 4))
    names = rng.choice(1000, size=4, replace=False)[np.unique(LABELS, return_inverse=True)[1]]
    # L1 knows its axes: it may be turned by none but their permutations.
    turned = np.eye(4)[rng.permutation(4)] if name == "exponential" else np.linalg.qr(rng.normal(size=(4, 4)))[0]
    value, gradient = run(name, points, where=WHERE)
    order = np.array(order)
    other, other_gradient = run(name, (points @ turned)[order], names[order], WHERE[order])
    np.testing.assert_allclose(other, value, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(other_gradient, (gradient @ turned)[order], rtol=1e-3, atol=1e-5)


@each_loss
@settings(max_examples=10, deadline=None)
@given(where=st.lists(st.booleans(), min_size=10, max_size=10))
def test_masked_items_change_nothing(name, where):
    where = np.array(where)
    value, gradient = run(name, EMBEDDINGS, where=where)
    np.testing.assert_array_equal(gradient[~where], 0)
    moved = np.where(where[:, None], EMBEDDINGS, EMBEDDINGS[::-1] + 1)
    np.testing.assert_allclose(run(name, moved, where=where)[0], value, rtol=1e-5, atol=1e-6)


@pytest.mark.sweep
@each_loss
def test_split_over_devices_equals_one_device(name):
    loss = LOSSES[name][0]
    rng = np.random.default_rng(1)
    images, weights = rng.normal(size=(16, 5)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    labels, where = rng.integers(0, 4, size=16), rng.random(16) < 0.8

    def of_weights(weights, images, labels, where, axis_name=None):
        return loss(images @ weights, labels, where=where, axis_name=axis_name)

    def on_a_device(weights, *shares):
        value, gradient = jax.value_and_grad(of_weights)(weights, *shares, axis_name="devices")
        return value, jax.lax.pmean(gradient, "devices")

    shares = [x.reshape(8, 2, *x.shape[1:]) for x in (images, labels, where)]
    values, gradients = jax.pmap(on_a_device, "devices", in_axes=(None, 0, 0, 0))(weights, *shares)
    value, gradient = jax.jit(jax.value_and_grad(of_weights))(weights, images, labels, where)
    np.testing.assert_allclose(values, np.full(8, value), rtol=1e-5)
    for each in gradients:
        np.testing.assert_allclose(each, gradient, rtol=1e-4, atol=1e-5)


@each_loss
def test_unreduced_values_are_what_is_reduced(name):
    loss = functools.partial(LOSSES[name][0], jnp.asarray(EMBEDDINGS, jnp.float32), jnp.asarray(LABELS))
    both = jax.jit(lambda where: [loss(where=where, reduce_fn=reduce_fn) for reduce_fn in (None, jnp.sum)])
    values, total = map(np.asarray, both(jnp.asarray(WHERE)))
    per_item = name in ("sigmoid", "circle")
    assert values.shape == ((10,) if per_item else (10, 10))
    np.testing.assert_array_equal(values[~WHERE], 0)
    if not per_item:
        np.testing.assert_array_equal(np.diagonal(values), 0)
        np.testing.assert_array_equal(values[:, ~WHERE], 0)
    np.testing.assert_allclose(total, values.sum(), rtol=1e-5)


def test_cosine_pairs_equal_the_loss_of_given_pairs():
    rows, columns = map(np.ravel, np.mgrid[:10, :10])
    points = jnp.asarray(EMBEDDINGS, jnp.float32)
    given_pairs = losses.cosine_embedding(
        points[rows], points[columns], LABELS[rows] == LABELS[columns], margin=0.3, reduce_fn=None
    )
    batch = losses.batch_cosine_embedding(points, jnp.asarray(LABELS), margin=0.3, balance=None, reduce_fn=None)
    off_diagonal = rows != columns
    np.testing.assert_allclose(batch.ravel()[off_diagonal], given_pairs[off_diagonal], rtol=1e-5, atol=1e-6)


def test_active_only_takes_the_mean_over_active_pairs():
    loss = functools.partial(losses.batch_linear_contrastive, **TWO_MARGINS)
    points, labels = jnp.asarray(EMBEDDINGS, jnp.float32), jnp.asarray(LABELS)
    values = 2 * np.asarray(jax.jit(functools.partial(loss, reduce_fn=None))(points, labels))
    same, active = LABELS[:, None] == LABELS[None, :], values > 0
    assert 0 < active.sum() < 90
    expected = (values[same & active].mean() + values[~same & active].mean()) / 2
    np.testing.assert_allclose(jax.jit(functools.partial(loss, active_only=True))(points, labels), expected, rtol=1e-5)
