import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import pair as differences
from reference import proxy as oracle

from siamjax import losses

# Five classes, of which one has no item and one has four; lengths and scales differ widely.
RNG = np.random.default_rng(0)
LABELS = np.array([0, 3, 0, 0, 4, 3, 0, 1, 3])
EMBEDDINGS = RNG.normal(size=(9, 4)) * [1.0, 0.2, 1.6, 0.5] * np.linspace(0.3, 2.5, 9)[:, None]
PROXIES = RNG.normal(size=(5, 4)) * np.linspace(0.5, 2.0, 5)[:, None]
CENTERS = RNG.normal(size=(5, 3, 4)) * np.linspace(0.5, 2.0, 5)[:, None, None]
WHERE = np.array([1, 1, 1, 0, 1, 1, 1, 1, 0], bool)
ALL = np.ones(9, bool)

PARAMETERS = {
    "nca": ("proxy_nca", {"scale": 0.7}),
    "nca_with_positive": ("proxy_nca", {"scale": 1.3, "include_positive": True}),
    "anchor": ("proxy_anchor", {"delta": 0.1, "alpha": 12.0}),
    "arcface": ("arcface", {"m": 0.5, "s": 10.0}),
    "arcface_wide": ("arcface", {"m": 2.0, "s": 4.0}),
    "cosface": ("cosface", {"m": 0.35, "s": 10.0}),
    "soft_triple": ("soft_triple", {"lam": 20.0, "delta": 0.05, "gamma": 0.2}),
}
LOSSES = {
    name: (functools.partial(getattr(losses, which), **given), functools.partial(getattr(oracle, which), **given))
    for name, (which, given) in PARAMETERS.items()
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def points_of(name):
    return CENTERS if name == "soft_triple" else PROXIES


@functools.cache
def compiled(name):
    """(embeddings, points, labels, where) -> value and both gradients; compiled once for one shape and type."""

    def loss(embeddings, points, labels, where):
        return LOSSES[name][0](embeddings, labels, points, where=where)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def run(name, embeddings, points=None, labels=LABELS, where=ALL):
    points = points_of(name) if points is None else points
    value, gradients = compiled(name)(
        jnp.asarray(embeddings, jnp.float32), jnp.asarray(points, jnp.float32), jnp.asarray(labels), jnp.asarray(where)
    )
    return np.asarray(value), *map(np.asarray, gradients)


@each_loss
@pytest.mark.parametrize("where", [ALL, WHERE])
def test_value_equals_the_loop_in_float32(name, where):
    value, *_ = run(name, EMBEDDINGS, where=where)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, LOSSES[name][1](EMBEDDINGS, LABELS, points_of(name), where), rtol=1e-5)


@pytest.mark.sweep
@each_loss
def test_value_and_gradients_equal_the_loop_in_float64(name):
    looped, points = LOSSES[name][1], points_of(name)
    with jax.enable_x64(True):
        arrays = map(jnp.asarray, (EMBEDDINGS, points, LABELS, WHERE))
        value, (of_embeddings, of_points) = compiled(name)(*arrays)
        assert value.dtype == np.float64
    np.testing.assert_allclose(value, looped(EMBEDDINGS, LABELS, points, WHERE), rtol=1e-10)
    expected = differences.gradient(lambda x: looped(x, LABELS, points, WHERE), EMBEDDINGS)
    np.testing.assert_allclose(of_embeddings, expected, rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(of_embeddings[~WHERE], 0)
    expected = differences.gradient(lambda x: looped(EMBEDDINGS, LABELS, x, WHERE), points)
    np.testing.assert_allclose(of_points, expected, rtol=1e-5, atol=1e-8)


@each_loss
@pytest.mark.parametrize("labels", [LABELS, np.zeros(9, int)], ids=["mixed", "one_class"])
@pytest.mark.parametrize(
    "embeddings",
    [EMBEDDINGS, np.zeros((9, 4)), PROXIES[LABELS], -PROXIES[LABELS], EMBEDDINGS * 1e4, EMBEDDINGS * 1e-6],
    ids=["usual", "zero", "on_proxies", "opposite", "huge", "tiny"],
)
def test_value_and_gradients_are_finite(name, labels, embeddings):
    for result in run(name, embeddings, labels=labels):
        assert np.all(np.isfinite(result))


@each_loss
@pytest.mark.parametrize("points", [0.0, 0.7, 1e-6, 1e4])
def test_coincident_points_are_finite(name, points):
    points = np.full_like(points_of(name), points)
    for result in run(name, EMBEDDINGS, points):
        assert np.all(np.isfinite(result))


@each_loss
@pytest.mark.parametrize("labels", [LABELS, np.full(9, -1), np.full(9, 77)], ids=["known", "negative", "unknown"])
def test_no_item_gives_zero_and_no_gradient(name, labels):
    for result in run(name, EMBEDDINGS, labels=labels, where=np.zeros(9, bool)):
        np.testing.assert_array_equal(result, 0)


@each_loss
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), order=st.permutations(range(9)))
def test_order_numbering_and_axes_do_not_matter(name, seed, order):
    rng = np.random.default_rng(seed)
    embeddings, points = rng.normal(size=(9, 4)), rng.normal(size=points_of(name).shape)
    names, order, turn = rng.permutation(5), np.array(order), np.linalg.qr(rng.normal(size=(4, 4)))[0]
    value, of_embeddings, of_points = run(name, embeddings, points, where=WHERE)
    renamed = np.empty_like(points)
    renamed[names] = points @ turn
    other = run(name, (embeddings @ turn)[order], renamed, names[LABELS][order], WHERE[order])
    np.testing.assert_allclose(other[0], value, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(other[1], (of_embeddings @ turn)[order], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(other[2][names], of_points @ turn, rtol=1e-3, atol=1e-4)


@each_loss
@settings(max_examples=10, deadline=None)
@given(where=st.lists(st.booleans(), min_size=9, max_size=9), stray=st.integers(-5, 10))
def test_masked_items_change_nothing(name, where, stray):
    where = np.array(where)
    value, of_embeddings, of_points = run(name, EMBEDDINGS, where=where)
    np.testing.assert_array_equal(of_embeddings[~where], 0)
    moved = np.where(where[:, None], EMBEDDINGS, EMBEDDINGS[::-1] + 1)
    others = run(name, moved, labels=np.where(where, LABELS, stray), where=where)
    np.testing.assert_allclose(others[0], value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(others[2], of_points, rtol=1e-4, atol=1e-5)


@pytest.mark.sweep
@each_loss
def test_split_over_devices_equals_one_device(name):
    rng = np.random.default_rng(1)
    images, weights = rng.normal(size=(16, 6)).astype(np.float32), rng.normal(size=(6, 4)).astype(np.float32)
    points, labels, where = points_of(name).astype(np.float32), rng.integers(0, 5, size=16), rng.random(16) < 0.8

    def loss(parameters, images, labels, where, axis_name=None):
        weights, points = parameters
        return LOSSES[name][0](images @ weights, labels, points, where=where, axis_name=axis_name)

    def on_a_device(parameters, *shares):
        value, gradients = jax.value_and_grad(loss)(parameters, *shares, axis_name="devices")
        return value, jax.lax.pmean(gradients, "devices")

    shares = [x.reshape(8, 2, *x.shape[1:]) for x in (images, labels, where)]
    values, gradients = jax.pmap(on_a_device, "devices", in_axes=(None, 0, 0, 0))((weights, points), *shares)
    value, expected = jax.jit(jax.value_and_grad(loss))((weights, points), images, labels, where)
    np.testing.assert_allclose(values, np.full(8, value), rtol=1e-5)
    for got, one in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(got, np.broadcast_to(one, got.shape), rtol=1e-4, atol=1e-5)


@each_loss
def test_unreduced_values_are_what_is_summed(name):
    loss = functools.partial(LOSSES[name][0], jnp.asarray(EMBEDDINGS, jnp.float32), jnp.asarray(LABELS))
    points = jnp.asarray(points_of(name), jnp.float32)
    both = jax.jit(lambda where: [loss(points, where=where, reduce_fn=reduce_fn) for reduce_fn in (None, jnp.sum)])
    values, total = map(np.asarray, both(jnp.asarray(WHERE)))
    assert values.shape == ((5,) if name == "anchor" else (9,))
    np.testing.assert_allclose(total, values.sum(), rtol=1e-5)
    if name != "anchor":
        np.testing.assert_array_equal(values[~WHERE], 0)


@pytest.mark.parametrize("dtype,tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_soft_triple_regularizer(dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        value, gradient = jax.jit(jax.value_and_grad(losses.soft_triple_regularizer))(jnp.asarray(CENTERS, dtype))
    np.testing.assert_allclose(value, oracle.soft_triple_regularizer(CENTERS), rtol=tolerance)
    if dtype == np.float64:
        expected = differences.gradient(oracle.soft_triple_regularizer, CENTERS)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("centers", [np.zeros((2, 3, 4)), np.full((2, 3, 4), 0.7), CENTERS[:, :1]])
def test_soft_triple_regularizer_is_finite_where_centres_coincide(centers):
    loss = jax.jit(jax.value_and_grad(losses.soft_triple_regularizer))
    value, gradient = loss(jnp.asarray(centers, jnp.float32))
    assert abs(value) < 1e-3 and np.all(np.isfinite(gradient))


def test_arcface_keeps_the_margin_of_items_that_nearly_agree_with_their_weight():
    weights, embeddings = np.eye(2), np.array([[np.cos(1e-3), np.sin(1e-3)]])
    loss = jax.jit(functools.partial(losses.arcface, m=0.5, s=1.0))
    value = loss(jnp.asarray(embeddings, jnp.float32), jnp.array([0]), jnp.asarray(weights, jnp.float32))
    np.testing.assert_allclose(value, oracle.arcface(embeddings, [0], weights, [True], m=0.5, s=1.0), rtol=1e-6)


def test_proxy_nca_refuses_a_single_class_without_the_positive():
    with pytest.raises(ValueError, match="include_positive"):
        losses.proxy_nca(jnp.ones((2, 3)), jnp.zeros(2, int), jnp.ones((1, 3)))


@pytest.mark.parametrize("name", ["arcface", "proxy_nca"])
def test_nan_does_not_reach_the_proxies_if_nothing_is_selected(name):
    x, proxies = jnp.full((4, 3), jnp.nan), jnp.eye(3)
    loss = functools.partial(getattr(losses, name), x, jnp.array([0, 1, 2, 0]), where=jnp.zeros(4, bool))
    value, slope = jax.value_and_grad(loss)(proxies)
    assert value == 0
    np.testing.assert_array_equal(slope, 0)
