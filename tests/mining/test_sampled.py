import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from reference import mining as oracle

from siamjax import distances, mining

LABELS = np.array([5, 1, 5, 1, 5, 8, 5, 1, 2])
POINTS = np.random.default_rng(0).normal(size=(9, 3))
UNIT = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
MARGIN = 0.2


@functools.partial(jax.jit, static_argnames="count")
def draw(keys, labels, where, count):
    points = jnp.asarray(POINTS, jnp.float32)
    d = distances.pairwise_euclidean(points, points)
    return d, jax.vmap(lambda key: mining.random_triplets(key, d, labels, count=count, margin=MARGIN, where=where))(
        keys
    )


def drawn(count, repeats=1, labels=LABELS, where=None):
    """[repeats] lists of valid triplets, and the result."""
    where = np.ones(len(labels), bool) if where is None else where
    d, result = draw(jax.random.split(jax.random.key(7), repeats), jnp.asarray(labels), jnp.asarray(where), count)
    d, result = jax.tree.map(np.asarray, (d, result))
    everything = set(oracle.triplets(*oracle.masks(labels, where)))
    share = oracle.active_share(d.astype(float), *oracle.masks(labels, where), MARGIN)
    np.testing.assert_allclose(result.active_share, share, rtol=1e-5)
    lists = []
    for a, p, n, valid in zip(result.anchor, result.positive, result.negative, result.valid, strict=True):
        lists.append(list(zip(a[valid], p[valid], n[valid], strict=True)))
        assert len(set(lists[-1])) == len(lists[-1]) == min(count, len(everything))
        assert set(lists[-1]) <= everything
    return lists, everything


# Below a quarter of all triplets they are drawn until different, else taken from the list of them all.
@pytest.mark.parametrize("count", [7, 40])
def test_random_triplets_are_uniform_over_all_valid_ones(count):
    lists, everything = drawn(count, repeats=3000)
    counts = dict.fromkeys(everything, 0)
    for triplets in lists:
        for triplet in triplets:
            counts[triplet] += 1
    assert len(everything) > 4 * 7
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-3
    firsts = [list(everything).index(triplets[0]) for triplets in lists]
    assert scipy.stats.chisquare(np.bincount(firsts, minlength=len(everything))).pvalue > 1e-3


def test_random_triplets_where_there_are_fewer_are_all_of_them():
    lists, everything = drawn(100)
    assert set(lists[0]) == everything
    where = np.array([1, 1, 1, 0, 0, 1, 0, 1, 1], bool)
    lists, everything = drawn(100, where=where)
    assert set(lists[0]) == everything and len(everything) < 25


@pytest.mark.parametrize("labels", [np.arange(9), np.zeros(9, int)], ids=["no positives", "one class"])
@pytest.mark.parametrize("count", [7, 100])
def test_random_triplets_of_none(labels, count):
    assert drawn(count, labels=labels)[0] == [[]]


def test_random_triplets_of_very_uneven_classes():
    labels = jnp.asarray(np.r_[np.zeros(60, int), np.arange(1, 40), [40, 40]])
    mined = jax.jit(functools.partial(mining.random_triplets, count=500))(
        jax.random.key(3), jnp.zeros((len(labels), len(labels))), labels
    )
    triplets = set(zip(*(np.asarray(x).tolist() for x in (mined.anchor, mined.positive, mined.negative)), strict=True))
    assert np.all(mined.valid) and len(triplets) == 500
    assert triplets <= set(oracle.triplets(*oracle.masks(np.asarray(labels))))


@functools.partial(jax.jit, static_argnames=("dimension", "k"))
def weigh(key, points, labels, where, dimension, k):
    d = distances.pairwise_euclidean(points, points)
    return d, mining.distance_weighted(
        key, d, labels, dimension=dimension, k=k, cutoff=0.6, nonzero_loss_cutoff=1.7, margin=MARGIN, where=where
    )


@pytest.mark.parametrize("dimension", [3, 16])
def test_distance_weighted_negatives_follow_the_formula(dimension):
    k = 4000
    where = np.arange(9) != 3
    d, mined = weigh(
        jax.random.key(1), jnp.asarray(UNIT, jnp.float32), jnp.asarray(LABELS), jnp.asarray(where), dimension, k
    )
    d, mined = np.asarray(d, np.float64), jax.tree.map(np.asarray, mined)
    positive, negative = oracle.masks(LABELS, where)
    weights = oracle.distance_weights(d, negative, dimension, 0.6, 1.7)
    np.testing.assert_array_equal(mined.anchor, np.repeat(np.arange(9), k))
    for a in range(9):
        rows = slice(a * k, (a + 1) * k)
        complete = any(positive[a]) and sum(weights[a]) > 0
        assert np.all(mined.valid[rows] == complete)
        if complete:
            seen = np.bincount(mined.negative[rows], minlength=9)
            likely = np.array(weights[a]) > 0
            assert not np.any(seen[~likely])
            if likely.sum() > 1:
                assert scipy.stats.chisquare(seen[likely], k * np.array(weights[a])[likely]).pvalue > 1e-3
            ps = oracle.columns(positive[a])
            seen = np.bincount(mined.positive[rows], minlength=9)
            assert seen.sum() == seen[ps].sum()
            if len(ps) > 1:
                assert scipy.stats.chisquare(seen[ps]).pvalue > 1e-3
    np.testing.assert_allclose(mined.active_share, oracle.active_share(d, positive, negative, MARGIN), rtol=1e-5)


@pytest.mark.parametrize("points", [np.zeros((9, 3)), np.tile([[1.0, 0, 0], [-1.0, 0, 0], [1.0, 0, 0]], (3, 1))])
def test_distance_weighted_at_coincident_and_opposite_points(points):
    positive, negative = (np.asarray(x) for x in oracle.masks(LABELS))
    for dimension in (3, 16):
        d, mined = weigh(
            jax.random.key(1), jnp.asarray(points, jnp.float32), jnp.asarray(LABELS), jnp.ones(9, bool), dimension, 4000
        )
        valid = np.asarray(mined.valid)
        assert np.all(positive[mined.anchor, mined.positive][valid])
        assert np.all((negative & (np.asarray(d) < 1.7))[mined.anchor, mined.negative][valid])
        complete = positive.any(axis=1) & (negative & (np.asarray(d) < 1.7)).any(axis=1)
        np.testing.assert_array_equal(valid.reshape(9, -1).all(axis=1), complete)
        np.testing.assert_array_equal(valid.reshape(9, -1).any(axis=1), complete)


@pytest.mark.parametrize("dimension", [2, 3, 128])
def test_distance_weighted_without_a_cutoff(dimension):
    """Anchor 0 coincides with negatives 2 and 3: in two dimensions 1/q is (1 − d²/4)^½, in more they outweigh all."""
    points = jnp.asarray([[1.0, 0], [0, 1], [1, 0], [1, 0], [0, 1], [0.6, 0.8]])
    d = jnp.round(distances.pairwise_euclidean(points, points), 3)
    labels, k = np.array([0, 0, 1, 1, 1, 1]), 3000
    mined = mining.distance_weighted(jax.random.key(0), d, labels, dimension=dimension, k=k, cutoff=0.0)
    negatives = np.asarray(mined.negative[:k])
    assert np.all(mined.valid[:k])
    weights = np.array([1.0, 1.0, 0, np.sqrt(1 - 0.8 / 4)] if dimension == 2 else [1.0, 1.0, 0, 0])
    seen = np.bincount(negatives, minlength=6)[2:]
    near = weights > 0  # Item 4 is beyond the cut-off of 1.4.
    assert not seen[~near].any()
    assert scipy.stats.chisquare(seen[near], k * weights[near] / weights.sum()).pvalue > 1e-4


def test_nothing_to_draw_from_is_refused():
    d, labels = jnp.zeros((0, 0)), np.zeros(0, int)
    for draw_from in (
        functools.partial(mining.random_triplets, count=3),
        functools.partial(mining.distance_weighted, dimension=3),
    ):
        with pytest.raises(ValueError, match="distances: found shape .0, 0., with no items"):
            draw_from(jax.random.key(0), d, labels)
    with pytest.raises(ValueError, match="dimension=1"):
        mining.distance_weighted(jax.random.key(0), jnp.zeros((2, 2)), np.arange(2), dimension=1)


def test_the_same_key_draws_the_same():
    assert drawn(7) == drawn(7)
