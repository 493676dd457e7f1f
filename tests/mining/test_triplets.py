import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mining as oracle

from siamjax import distances, mining

LABELS = np.array([3, 7, 3, -2, 3, 50, 9, 3, 7, -2, 9, 3, 9, -2])
WHERE = np.array([1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1], bool)
POINTS = np.random.default_rng(0).normal(size=(14, 4)) * np.array([1.0, 0.3, 2.0, 0.7])
MARGIN = 0.4
ANGLE = 25.0
K = 4


@functools.partial(jax.jit, static_argnames="k")
def mine(anchors, others, found, k=K):
    """Every miner of triplets and pairs, in one program."""
    d = distances.pairwise_euclidean(anchors, others)
    squared = distances.pairwise_squared_euclidean(anchors, others)
    between = distances.pairwise_squared_euclidean(others, others)
    return d, {
        "batch_hard": mining.batch_hard(d, found, margin=MARGIN),
        "batch_easy": mining.batch_easy(d, found, margin=MARGIN),
        "easy_positive": mining.easy_positive(d, found, margin=MARGIN),
        "easy_positive_semi_hard": mining.easy_positive(d, found, margin=MARGIN, semi_hard=True),
        "semi_hard": mining.semi_hard(d, found, margin=MARGIN),
        "semi_hard_fallback": mining.semi_hard(d, found, margin=MARGIN, fallback=True),
        "hardest_k": mining.hardest_k(d, found, k=k, margin=MARGIN),
        "angular": mining.angular(squared, found, k=k, angle=ANGLE, between=between),
        "multi_similarity": mining.multi_similarity(d, found, epsilon=MARGIN),
        "hardest_pairs": mining.hardest_pairs(d, found, k=k, margin=MARGIN),
    }


def run(anchors, others, positive, negative, dtype=np.float32, k=K):
    with jax.enable_x64(dtype == np.float64):
        found = mining.Candidates(positive=jnp.asarray(positive), negative=jnp.asarray(negative))
        d, mined = mine(jnp.asarray(anchors, dtype), jnp.asarray(others, dtype), found, k=k)
        assert all(result.active_share.dtype == dtype for result in mined.values())
        return jax.tree.map(np.asarray, (d, mined))


def chosen(mined):
    """The valid triplets in order."""
    return [t[:3] for t in zip(mined.anchor, mined.positive, mined.negative, mined.valid, strict=True) if t[3]]


def per_anchor(pairs):
    return [(a, p, n) for a, (p, n) in sorted(pairs.items())]


def where(mask):
    return set(zip(*np.nonzero(mask), strict=True))


def check(anchors, others, positive, negative, dtype=np.float32, k=K):
    """Every miner against its loop."""
    d, mined = run(anchors, others, positive, negative, dtype, k)
    looped = {
        "batch_hard": per_anchor(oracle.one_each(d, positive, negative, max, min)),
        "batch_easy": per_anchor(oracle.one_each(d, positive, negative, min, max)),
        "easy_positive": per_anchor(oracle.one_each(d, positive, negative, min, min)),
        "easy_positive_semi_hard": per_anchor(oracle.easy_positive_semi_hard(d, positive, negative)),
        "hardest_k": [(a, p, n) for a, best in enumerate(oracle.hardest_k(d, positive, negative, k)) for p, n in best],
    }
    for name, fallback in [("semi_hard", False), ("semi_hard_fallback", True)]:
        pairs = oracle.semi_hard(d, positive, negative, MARGIN, fallback)
        looped[name] = [(a, p, n) for (a, p), n in sorted(pairs.items())]
    angles = oracle.angular(anchors, others, positive, negative, ANGLE)
    widest = sorted((a, -found[0][0], p, found[0][1]) for (a, p), found in angles.items())
    looped["angular"] = [(a, p, n) for i, (a, _, p, n) in enumerate(widest) if i < k or widest[i - k][0] != a]
    tolerance = 1e-10 if dtype == np.float64 else 1e-5
    share = oracle.active_share(d, positive, negative, MARGIN)
    for name, expected in looped.items():
        assert chosen(mined[name]) == expected, name
        if name != "angular":
            np.testing.assert_allclose(mined[name].active_share, share, rtol=tolerance)
    everything = max(len(oracle.triplets(positive, negative)), 1)
    wide = sum(len(found) for found in angles.values())
    np.testing.assert_allclose(mined["angular"].active_share, wide / everything, rtol=tolerance)
    violating = oracle.violating_pairs(d, positive, negative, MARGIN)
    for name, expected in [
        ("multi_similarity", violating),
        ("hardest_pairs", oracle.hardest_pairs(d, positive, negative, k)),
    ]:
        assert where(mined[name].positive) == expected & where(positive), name
        assert where(mined[name].negative) == expected & where(negative), name
        pairs = max(np.sum(positive) + np.sum(negative), 1)
        np.testing.assert_allclose(mined[name].active_share, len(violating) / pairs, rtol=tolerance)


def check_validity(mined, positive, negative):
    """For any input, nothing invalid is marked valid, no anchor is lost, indices and shares are in range."""
    positive, negative = np.asarray(positive), np.asarray(negative)
    complete = positive.any(axis=1) & negative.any(axis=1)
    for name, result in mined.items():
        assert 0 <= result.active_share <= 1
        if isinstance(result, mining.Pairs):
            assert not np.any(result.positive & ~positive) and not np.any(result.negative & ~negative)
            continue
        for column in (result.positive, result.negative):
            assert np.all((column >= 0) & (column < positive.shape[1]))
        assert np.all(positive[result.anchor, result.positive][result.valid]), name
        assert np.all(negative[result.anchor, result.negative][result.valid]), name
        if name in ("batch_hard", "batch_easy", "easy_positive"):
            np.testing.assert_array_equal(result.anchor, np.arange(len(positive)))
            np.testing.assert_array_equal(result.valid, complete, name)
        if name == "hardest_k":
            per_row = np.minimum(positive.sum(axis=1) * negative.sum(axis=1), len(result.valid) // len(positive))
            np.testing.assert_array_equal(result.valid.reshape(len(positive), -1).sum(axis=1), per_row)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_miners_equal_the_loops(dtype):
    check(POINTS, POINTS, *oracle.masks(LABELS), dtype)
    check(POINTS, POINTS, *oracle.masks(LABELS, WHERE), dtype)


def test_miners_equal_the_loops_against_other_points():
    anchors = np.random.default_rng(1).normal(size=(5, 4))
    same = np.array([[3], [9], [9], [60], [-2]]) == LABELS
    kept = np.random.default_rng(2).random(same.shape) < 0.8
    check(anchors, POINTS, same & kept, ~same & kept, np.float64)


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(
    st.lists(st.integers(-1, 3), min_size=14, max_size=14), st.lists(st.booleans(), min_size=14, max_size=14)
)
def test_any_labels_and_any_part_of_the_batch(labels, part):
    check(POINTS, POINTS, *oracle.masks(labels, part))


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(st.permutations(range(14)), st.permutations(sorted(set(LABELS))))
def test_order_and_names_of_the_labels_change_nothing(order, names):
    order = np.array(order)
    renamed = dict(zip(sorted(set(LABELS)), names, strict=True))
    labels = np.array([renamed[label] for label in LABELS])
    _, plain = run(POINTS, POINTS, *oracle.masks(LABELS))
    _, moved = run(POINTS[order], POINTS[order], *oracle.masks(labels[order]))
    for name, result in plain.items():
        if isinstance(result, mining.Pairs):
            np.testing.assert_array_equal(moved[name].positive, result.positive[np.ix_(order, order)])
            np.testing.assert_array_equal(moved[name].negative, result.negative[np.ix_(order, order)])
        else:
            assert {tuple(order[list(t)]) for t in chosen(moved[name])} == set(chosen(result)), name


@pytest.mark.parametrize(
    "points,labels,part",
    [
        (np.zeros((14, 4)), LABELS, None),
        (np.repeat(POINTS[:2], 7, axis=0), LABELS, None),
        (POINTS, np.arange(14), None),
        (POINTS, np.zeros(14, int), None),
        (POINTS, LABELS, np.arange(14) == 3),
        (POINTS, LABELS, np.zeros(14, bool)),
        (POINTS * 1e4, LABELS, None),
        (POINTS * 1e-6, LABELS, None),
    ],
    ids=["coincident", "two places", "no positives", "one class", "one item", "all masked", "huge", "tiny"],
)
def test_degenerate_batches_are_masked_never_wrong(points, labels, part):
    positive, negative = oracle.masks(labels, part)
    d, mined = run(points, points, positive, negative)
    check_validity(mined, positive, negative)
    share = oracle.active_share(np.asarray(d, np.float64), positive, negative, MARGIN)
    np.testing.assert_allclose(mined["batch_hard"].active_share, share, rtol=1e-5)


def test_a_batch_of_one_item():
    positive, negative = oracle.masks([4])
    _, mined = run(POINTS[:1], POINTS[:1], positive, negative, k=1)
    check_validity(mined, positive, negative)


def test_collapse_shows_as_all_triplets_active_even_far_from_the_origin():
    _, mined = run(np.full((14, 4), 1e8), np.full((14, 4), 1e8), *oracle.masks(LABELS))
    assert mined["batch_hard"].active_share == 1


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_distances_that_overflowed_do_not_make_invalid_triplets(value):
    labels = np.array([0, 0, 1, 1, 2])
    positive, negative = oracle.masks(labels)
    d = np.where(np.asarray(negative), value, 1.0).astype(np.float32)
    mined = jax.jit(mining.batch_hard)(jnp.asarray(d), jnp.asarray(labels))
    assert np.isnan(mined.active_share) == np.isnan(value)
    check_validity({"batch_hard": mined.replace(active_share=jnp.zeros(()))}, positive, negative)


def test_nan_is_mined_first():
    points = POINTS.copy()
    points[6, 1] = np.nan
    d, mined = run(points, points, *oracle.masks(LABELS))
    assert np.all(np.isfinite(np.delete(np.delete(d, 6, 0), 6, 1)))
    for name, result in mined.items():
        assert np.isnan(result.active_share), name
        if isinstance(result, mining.Pairs):
            # The anchor of NaN, and its column for the other anchors.
            assert np.any((result.positive | result.negative)[6]), name
            assert np.all((result.positive | result.negative)[(LABELS != 50) & (np.arange(14) != 6), 6]), name
            continue
        triplets = chosen(result)
        assert {a for a, p, n in triplets if np.isnan(d[a, p]) or np.isnan(d[a, n])} == {a for a, _, _ in triplets}, (
            name
        )
    key, found = jax.random.key(0), jnp.asarray(LABELS)
    assert np.isnan(mining.random_triplets(key, jnp.asarray(d), found, count=3).active_share)
    drawn = mining.distance_weighted(key, jnp.asarray(d), found, dimension=4, nonzero_loss_cutoff=9.0)
    assert all(6 in triplet for triplet in chosen(drawn) if LABELS[triplet[0]] != 9) and np.isnan(drawn.active_share)
    kept = mining.limit_hardness(jnp.asarray(d), found, negatives=0.5, positives=0.5)
    expected = mining.candidates(found)
    np.testing.assert_array_equal(kept.positive[:, 6], expected.positive[:, 6])
    np.testing.assert_array_equal(kept.negative[:, 6], expected.negative[:, 6])


def test_nan_outside_the_mask_changes_nothing():
    points, part = POINTS.copy(), np.arange(14) != 6
    _, expected = run(points, points, *oracle.masks(LABELS, part))
    points[6] = np.nan
    _, mined = run(points, points, *oracle.masks(LABELS, part))
    for name, result in expected.items():
        np.testing.assert_allclose(mined[name].active_share, result.active_share, rtol=1e-6)
        if isinstance(result, mining.Pairs):
            jax.tree.map(np.testing.assert_array_equal, mined[name], result)
        else:
            assert chosen(mined[name]) == chosen(result), name


def test_labels_mean_all_pairs_of_the_batch():
    d = distances.pairwise_euclidean(jnp.asarray(POINTS, jnp.float32), jnp.asarray(POINTS, jnp.float32))
    found = mining.candidates(jnp.asarray(LABELS), where=jnp.asarray(WHERE))
    positive, negative = oracle.masks(LABELS, WHERE)
    np.testing.assert_array_equal(found.positive, positive)
    np.testing.assert_array_equal(found.negative, negative)
    of_labels = jax.jit(mining.batch_hard)(d, jnp.asarray(LABELS), where=jnp.asarray(WHERE))
    of_pairs = jax.jit(mining.batch_hard)(d, found)
    jax.tree.map(np.testing.assert_array_equal, of_labels, of_pairs)


def hinge(points, labels, part):
    d = distances.pairwise_euclidean(points, points)
    mined = mining.batch_hard(d, labels, where=part)
    d_ap, d_an = mined.distances(d)
    anchor, positive, negative = mined.embeddings(points)
    again = distances.euclidean(anchor, positive) - distances.euclidean(anchor, negative)
    values = jnp.maximum(d_ap - d_an + MARGIN, 0) + jnp.square(again)
    return jnp.sum(jnp.where(mined.valid, values, 0))


def test_gradient_flows_through_mined_items_and_not_into_masked_ones():
    with jax.enable_x64(True):
        loss = jax.jit(lambda points: hinge(points, jnp.asarray(LABELS), jnp.asarray(WHERE)))
        gradient = np.asarray(jax.jit(jax.grad(loss))(jnp.asarray(POINTS)))
        step = 1e-6
        for i, j in [(0, 0), (1, 3), (4, 2), (7, 1), (12, 2)]:
            shift = np.zeros_like(POINTS)
            shift[i, j] = step
            difference = (loss(jnp.asarray(POINTS + shift)) - loss(jnp.asarray(POINTS - shift))) / (2 * step)
            np.testing.assert_allclose(gradient[i, j], difference, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(gradient[~WHERE], 0)
    assert np.all(np.any(gradient[WHERE & (LABELS != 50)] != 0, axis=1))


def test_vmap_over_batches_equals_one_at_a_time():
    batches = jnp.asarray(np.stack([POINTS, POINTS[::-1] * 2]), jnp.float32)
    labels = jnp.asarray(np.stack([LABELS, LABELS // 4]))

    def shares(points, labels):
        squared = distances.pairwise_squared_euclidean(points, points)
        hard, wide = mining.semi_hard(squared, labels), mining.angular(squared, labels, k=3)
        return hard, wide

    together = jax.jit(jax.vmap(shares))(batches, labels)
    single = jax.jit(shares)
    for i in range(2):
        one = single(batches[i], labels[i])
        for both, alone in zip(together, one, strict=True):
            np.testing.assert_array_equal(both.valid[i], alone.valid)
            np.testing.assert_array_equal(both.negative[i][alone.valid], alone.negative[alone.valid])
            np.testing.assert_allclose(both.active_share[i], alone.active_share, rtol=1e-6)


def test_invalid_arguments_are_refused():
    d = jnp.ones((4, 4))
    labels = jnp.array([0, 0, 1, 1])
    for k in (0, 5):
        for miner in (mining.hardest_k, mining.angular, mining.hardest_pairs):
            with pytest.raises(ValueError, match=f"k={k}.*1 to 4"):
                miner(d, labels, k=k)
    with pytest.raises(ValueError, match="angle=90"):
        mining.angular(d, labels, angle=90)
    with pytest.raises(ValueError, match="where="):
        mining.batch_hard(d, mining.candidates(labels), where=jnp.ones(4, bool))
    with pytest.raises(ValueError, match="count=0"):
        mining.random_triplets(jax.random.key(0), d, labels, count=0)
