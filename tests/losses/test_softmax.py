import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import softmax as oracle

from siamjax.losses import info_nce, n_pair, n_pair_mc, ntxent, supervised_contrastive

RNG = np.random.default_rng(2)
ANCHORS, POSITIVES = RNG.normal(size=(2, 8, 3)) * [1.4, 0.6, 0.9]
LABELS = np.array([4, 9, 4, -2, 9, 30, 31, 4])
WHERE = np.array([1, 1, 1, 0, 1, 1, 0, 1], bool)
ALL = np.ones(8, bool)


@functools.cache
def compiled():
    def loss(pairs, labels, where):
        return n_pair_mc(*pairs, labels, where=where)

    return jax.jit(jax.value_and_grad(loss))


def run_n_pair_mc(pairs, labels=LABELS, where=ALL, dtype=np.float32):
    with jax.enable_x64(dtype == np.float64):
        value, gradient = compiled()(jnp.asarray(pairs, dtype), jnp.asarray(labels), jnp.asarray(where))
        return np.asarray(value), np.asarray(gradient)


def mean(terms):
    return sum(terms) / max(len(terms), 1)


@pytest.mark.parametrize("dtype,tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
@pytest.mark.parametrize("where", [ALL, WHERE], ids=["all", "some"])
def test_n_pair_mc_equals_the_loop(dtype, tolerance, where):
    value, _ = run_n_pair_mc([ANCHORS, POSITIVES], where=where, dtype=dtype)
    assert value.dtype == dtype
    np.testing.assert_allclose(value, mean(oracle.n_pair_mc(ANCHORS, POSITIVES, LABELS, where)), rtol=tolerance)


def test_n_pair_mc_gradient_equals_differences():
    pairs = np.stack([ANCHORS, POSITIVES])
    _, gradient = run_n_pair_mc(pairs, where=WHERE, dtype=np.float64)
    np.testing.assert_array_equal(gradient[:, ~WHERE], 0)
    for index in np.ndindex(pairs.shape):
        step = np.zeros_like(pairs)
        step[index] = 1e-6
        up, down = (mean(oracle.n_pair_mc(*there, LABELS, WHERE)) for there in (pairs + step, pairs - step))
        np.testing.assert_allclose(gradient[index], (up - down) / 2e-6, rtol=1e-6, atol=1e-8)


def test_n_pair_mc_without_labels_treats_all_pairs_as_different():
    pairs = jnp.asarray([ANCHORS, POSITIVES], jnp.float32)
    np.testing.assert_allclose(n_pair_mc(*pairs), run_n_pair_mc(pairs, np.arange(8))[0], rtol=1e-6)


@pytest.mark.parametrize("labels", [LABELS, np.zeros(8, int)], ids=["mixed", "one_class"])
@pytest.mark.parametrize("scale", [0, 1e-6, 1e4])
def test_n_pair_mc_is_finite(labels, scale):
    for value in run_n_pair_mc(np.stack([ANCHORS, POSITIVES]) * scale, labels):
        assert np.all(np.isfinite(value))


def test_n_pair_mc_of_no_pair_is_zero():
    value, gradient = run_n_pair_mc([ANCHORS, POSITIVES], where=~ALL)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("labelled", [True, False])
def test_n_pair_mc_split_over_devices_equals_one_device(labelled):
    pairs = RNG.normal(size=(2, 16, 3)).astype(np.float32)
    labels, where = (RNG.integers(0, 5, 16) if labelled else None), RNG.random(16) < 0.8

    def loss(scale, anchors, positives, where, labels=None, axis_name=None):
        return n_pair_mc(scale * anchors, positives, labels, where=where, axis_name=axis_name)

    def on_a_device(*shares):
        value, gradient = jax.value_and_grad(loss)(jnp.float32(0.7), *shares, axis_name="devices")
        return value, jax.lax.pmean(gradient, "devices")

    shares = [x.reshape(8, 2, *x.shape[1:]) for x in (*pairs, where, labels) if x is not None]
    values, gradients = jax.pmap(on_a_device, "devices")(*shares)
    value, gradient = jax.value_and_grad(loss)(jnp.float32(0.7), *pairs, where, labels)
    np.testing.assert_allclose(values, np.full(8, value), rtol=1e-5)
    np.testing.assert_allclose(gradients, np.full(8, gradient), rtol=1e-5)


def test_n_pair_of_a_batch_is_n_pair_mc_where_negatives_are_the_same():
    # Two classes of one pair each: the other pair's two items are the negatives, against its second one alone.
    anchors, positives = jnp.asarray([ANCHORS[:2], POSITIVES[:2]], jnp.float32)
    twice = jnp.stack([positives[1], positives[1]])
    batch = n_pair(jnp.concatenate([anchors[:1], positives[:1], twice]), jnp.array([0, 0, 1, 2]), reduce_fn=None)
    given = n_pair_mc(jnp.tile(anchors[:1], (3, 1)), jnp.concatenate([positives[:1], twice]), reduce_fn=None)
    np.testing.assert_allclose(batch[0, 1], given[0], rtol=1e-5)


def test_ntxent_is_info_nce_of_the_cosine_at_the_inverse_scale():
    points, labels = jnp.asarray(ANCHORS, jnp.float32), jnp.asarray(LABELS)
    np.testing.assert_allclose(ntxent(points, labels, temperature=0.2), info_nce(points, labels, scale=5.0), rtol=1e-6)


@pytest.mark.parametrize(
    "loss,parameter", [(info_nce, "scale"), (ntxent, "temperature"), (supervised_contrastive, "temperature")]
)
def test_scale_may_be_learned(loss, parameter):
    with jax.enable_x64(True):
        points, labels = jnp.asarray(ANCHORS), jnp.asarray(LABELS)
        of = jax.jit(lambda x: loss(points, labels, **{parameter: x}))
        slope = jax.grad(of)(jnp.asarray(0.6))
        np.testing.assert_allclose(slope, (of(0.6 + 1e-6) - of(0.6 - 1e-6)) / 2e-6, rtol=1e-6)


def test_a_far_positive_does_not_reduce_the_loss_of_a_near_one():
    points = jnp.array([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0], [0.0, 1.0]])
    of_all = ntxent(points, jnp.array([0, 0, 0, 1]), temperature=0.5, reduce_fn=None)
    of_two = ntxent(points, jnp.array([0, 0, 0, 1]), temperature=0.5, where=jnp.arange(4) != 2, reduce_fn=None)
    np.testing.assert_allclose(of_all[0, 1], of_two[0, 1], rtol=1e-6)


def test_supervised_contrastive_of_perfect_classes_is_the_logarithm_of_their_positives():
    points = jnp.repeat(jnp.eye(3), 4, axis=0)
    value = supervised_contrastive(points, jnp.repeat(jnp.arange(3), 4), temperature=0.02)
    np.testing.assert_allclose(value, math.log(3), rtol=1e-6)


def test_a_temperature_of_zero_is_refused_with_its_name():
    for loss in (ntxent, supervised_contrastive):
        with pytest.raises(ValueError, match="temperature=0 must be above 0"):
            loss(jnp.eye(3), jnp.arange(3), temperature=0)
