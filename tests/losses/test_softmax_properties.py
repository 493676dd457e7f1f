"""Properties of all softmax-like batch losses: N-pair to ranked list."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.core import jaxprs_in_params
from reference import angular as angular_oracle
from reference import distances as distance_oracle
from reference import lifted as lifted_oracle
from reference import multi_similarity as multi_similarity_oracle
from reference import ranked_list as ranked_list_oracle
from reference import softmax as oracle

from siamjax import distances
from siamjax.losses import (
    angular,
    angular_n_pair,
    generalized_lifted_structure,
    info_nce,
    lifted_structure,
    multi_similarity,
    n_pair,
    ntxent,
    ranked_list,
    supervised_contrastive,
)

# Classes of 4, 3, 1 and 2; the length of the embeddings and the scale of their components differ widely.
LABELS = np.array([7, -3, 7, 7, 11, -3, 7, 500, -3, 11])
EMBEDDINGS = np.random.default_rng(0).normal(size=(10, 4)) * [1.0, 0.2, 1.6, 0.5] * np.linspace(0.3, 1.2, 10)[:, None]
WHERE = np.array([1, 1, 1, 0, 1, 1, 1, 1, 0, 1], bool)
ALL = np.ones(10, bool)
RANKS = {"alpha": 1.9, "margin": 0.7, "positive_temperature": 1.5, "negative_temperature": 3.0, "imbalance": 0.3}


def case(loss, terms, **parameters):
    """A loss, and its oracle of (embeddings, labels, where)."""
    return functools.partial(loss, **parameters), functools.partial(terms, **parameters)


def negative_squares(a, b):
    return -distance_oracle.squared_euclidean(a, b)


LOSSES = {
    "n_pair": (n_pair, functools.partial(oracle.each_positive, distance_oracle.dot)),
    "ntxent": (
        functools.partial(ntxent, temperature=0.3),
        functools.partial(oracle.each_positive, oracle.cosine, scale=1 / 0.3),
    ),
    "info_nce": (
        functools.partial(info_nce, scale=1.7, distance=distances.pairwise_squared_euclidean),
        functools.partial(oracle.each_positive, negative_squares, scale=1.7),
    ),
    "supervised_contrastive": case(supervised_contrastive, oracle.supervised_contrastive, temperature=0.4),
    "multi_similarity": case(multi_similarity, multi_similarity_oracle.multi_similarity, alpha=2.5, beta=9.0, base=0.4),
    "multi_similarity_mined": case(
        multi_similarity, multi_similarity_oracle.multi_similarity, alpha=2.5, beta=9.0, base=0.4, epsilon=0.1
    ),
    "lifted_structure": case(lifted_structure, lifted_oracle.lifted_structure, margin=0.8),
    "generalized_lifted_structure": case(
        generalized_lifted_structure, lifted_oracle.generalized_lifted_structure, margin=0.8
    ),
    "ranked_list": (
        functools.partial(ranked_list, constant_weights=False, **RANKS),
        functools.partial(ranked_list_oracle.ranked_list, **RANKS),
    ),
    "angular": case(angular, angular_oracle.angular, alpha=40.0),
    "angular_n_pair": case(angular_n_pair, angular_oracle.angular_n_pair, alpha=50.0, angular_weight=0.3),
}
PER_PAIR = ("n_pair", "ntxent", "info_nce", "lifted_structure", "angular", "angular_n_pair")
each_loss = pytest.mark.parametrize("name", LOSSES)


def looped(name, embeddings, labels, where):
    terms = LOSSES[name][1](embeddings, labels, where)
    return sum(terms) / max(len(terms), 1)


@functools.cache
def compiled(name):
    """(embeddings, labels, where) -> value and gradient; compiled once for all tests of one shape and type."""
    loss = LOSSES[name][0]
    return jax.jit(jax.value_and_grad(lambda embeddings, labels, where: loss(embeddings, labels, where=where)))


def run(name, embeddings, labels=LABELS, where=ALL):
    value, gradient = compiled(name)(jnp.asarray(embeddings, jnp.float32), jnp.asarray(labels), jnp.asarray(where))
    return np.asarray(value), np.asarray(gradient)


@pytest.mark.sweep
@each_loss
@pytest.mark.parametrize("where", [ALL, WHERE], ids=["all", "some"])
def test_value_equals_the_loop_in_float32(name, where):
    value, _ = run(name, EMBEDDINGS, where=where)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, looped(name, EMBEDDINGS, LABELS, where), rtol=1e-5)


@pytest.mark.sweep
@each_loss
def test_value_and_gradient_equal_the_loop_in_float64(name):
    with jax.enable_x64(True):
        value, gradient = compiled(name)(jnp.asarray(EMBEDDINGS), jnp.asarray(LABELS), jnp.asarray(WHERE))
        assert value.dtype == np.float64
    np.testing.assert_allclose(value, looped(name, EMBEDDINGS, LABELS, WHERE), rtol=1e-10)
    slope = differences(lambda embeddings: looped(name, embeddings, LABELS, WHERE), EMBEDDINGS)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-8)
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
@pytest.mark.parametrize("scale", [1e4, 1e-6])
def test_value_equals_the_loop_at_any_scale(name, scale):
    value, _ = run(name, EMBEDDINGS * scale)
    np.testing.assert_allclose(value, looped(name, EMBEDDINGS * scale, LABELS, ALL), rtol=1e-5)


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


@each_loss
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), order=st.permutations(range(10)))
def test_order_numbering_and_axes_do_not_matter(name, seed, order):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(10, 4))
    names = rng.choice(1000, size=4, replace=False)[np.unique(LABELS, return_inverse=True)[1]]
    turned = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    value, gradient = run(name, points, where=WHERE)
    order = np.array(order)
    other, other_gradient = run(name, (points @ turned)[order], names[order], WHERE[order])
    np.testing.assert_allclose(other, value, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(other_gradient, (gradient @ turned)[order], rtol=1e-3, atol=1e-4)


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
    images, weights = rng.normal(size=(16, 5)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32) / 2
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


@pytest.mark.sweep
@each_loss
def test_unreduced_values_are_what_is_reduced(name):
    loss = functools.partial(LOSSES[name][0], jnp.asarray(EMBEDDINGS, jnp.float32), jnp.asarray(LABELS))
    both = jax.jit(lambda where: [loss(where=where, reduce_fn=reduce_fn) for reduce_fn in (None, jnp.sum)])
    values, total = map(np.asarray, both(jnp.asarray(WHERE)))
    terms = LOSSES[name][1](EMBEDDINGS, LABELS, WHERE)
    np.testing.assert_array_equal(values[~WHERE], 0)
    if name in PER_PAIR:
        same = (LABELS[:, None] == LABELS[None, :]) & ~np.eye(10, dtype=bool) & WHERE[:, None] & WHERE[None, :]
        np.testing.assert_allclose(values[same], terms, rtol=1e-4)
        np.testing.assert_array_equal(values[~same], 0)
    else:
        assert values.shape == (10,)
    np.testing.assert_allclose(values.sum(), sum(terms), rtol=1e-5)
    np.testing.assert_allclose(total, sum(terms), rtol=1e-5)


@each_loss
def test_no_array_is_larger_than_a_few_of_all_pairs(name):
    # Traced, not run: every intermediate of value and gradient is looked at, those of loops and branches too.
    n = 200
    program = jax.make_jaxpr(jax.value_and_grad(LOSSES[name][0]))(jnp.ones((n, 4)), jnp.arange(n) // 8)
    assert largest_array(program.jaxpr) <= 4 * n * n


def largest_array(jaxpr):
    largest = 0
    for equation in jaxpr.eqns:
        sizes = [variable.aval.size for variable in equation.outvars if hasattr(variable.aval, "size")]
        largest = max(largest, *sizes, *map(largest_array, jaxprs_in_params(equation.params)), 0)
    return largest


def differences(function, x, step=1e-6):
    """Gradient of `function` at x by central differences."""
    result = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        result[index] = (function(up) - function(down)) / (2 * step)
    return result
