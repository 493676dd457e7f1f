import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import triplet as oracle

from siamjax import distances, losses

# Classes of 5, 3, 1, 2 and 2.
LABELS = np.array([7, -3, 7, 7, 11, -3, 7, 2**31 - 1, -3, 11, 0, 7, 0])
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(13, 3)) * [1.0, 0.3, 1.6] * np.linspace(0.3, 1.2, 13)[:, None]
WHERE = np.array([1, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1], bool)
ALL = np.ones(13, bool)
PLAIN, SQUARED = distances.pairwise_euclidean, distances.pairwise_squared_euclidean


def mined(choose, margin, shape=oracle.hinge, active_only=False, **parameters):
    """Oracle of a loss: (embeddings, labels, where) -> value and share of active triplets."""
    return lambda *batch: oracle.loss_and_share(choose(*batch, **parameters), margin, shape, active_only)


SEMI_HARD, EASY = oracle.semi_hard_triplets, oracle.easy_positive_triplets
LOSSES = {
    "all": (losses.batch_all_triplet, {}, mined(oracle.all_triplets, 0.2, distance=oracle.plain)),
    "all_active": (
        losses.batch_all_triplet,
        {"margin": 0.6, "distance": SQUARED, "active_only": True},
        mined(oracle.all_triplets, 0.6, active_only=True, distance=oracle.squared),
    ),
    "all_snr": (
        losses.batch_all_triplet,
        {"margin": 0.5, "distance": losses.pairwise_snr_distance},
        mined(oracle.all_triplets, 0.5, distance=oracle.snr),
    ),
    "all_soft": (
        losses.batch_all_triplet,
        {"soft": True},
        mined(oracle.all_triplets, 0.0, oracle.softplus, distance=oracle.plain),
    ),
    "semi_hard": (losses.semi_hard_triplet, {}, mined(SEMI_HARD, 0.2, distance=oracle.squared, fallback=True)),
    "semi_hard_only": (
        losses.semi_hard_triplet,
        {"margin": 0.06, "distance": PLAIN, "fallback": False},
        mined(SEMI_HARD, 0.06, distance=oracle.plain, fallback=False),
    ),
    "semi_hard_soft": (
        losses.semi_hard_triplet,
        {"margin": 0.1, "soft": True},
        mined(SEMI_HARD, 0.1, oracle.softplus, distance=oracle.squared, fallback=True),
    ),
    "hard": (losses.batch_hard_triplet, {}, mined(oracle.hard_triplets, 0.2, distance=oracle.plain)),
    "hard_soft": (
        losses.batch_hard_triplet,
        {"soft": True, "distance": SQUARED},
        mined(oracle.hard_triplets, 0.0, oracle.softplus, distance=oracle.squared),
    ),
    "easy": (losses.easy_positive_triplet, {}, mined(EASY, 0.2, distance=oracle.squared, semi_hard=False)),
    "easy_semi_hard": (
        losses.easy_positive_triplet,
        {"margin": 0.8, "semi_hard": True, "distance": PLAIN},
        mined(EASY, 0.8, distance=oracle.plain, semi_hard=True),
    ),
}
each_loss = pytest.mark.parametrize("name", LOSSES)
# Those that differ in more than their parameters.
each_kind = pytest.mark.parametrize("name", ["all", "semi_hard", "hard"])


def loss_of(name):
    return functools.partial(LOSSES[name][0], **LOSSES[name][1])


@functools.cache
def compiled(name):
    """(embeddings, labels, where) -> ((value, share), gradient); compiled once for all tests of one shape and type."""
    loss = loss_of(name)
    return jax.jit(
        jax.value_and_grad(lambda x, labels, where: loss(x, labels, where=where, has_aux=True), has_aux=True)
    )


def run(name, embeddings, labels=LABELS, where=ALL, dtype=jnp.float32):
    result = compiled(name)(jnp.asarray(embeddings, dtype), jnp.asarray(labels), jnp.asarray(where))
    return jax.tree.map(np.asarray, result)


@pytest.mark.sweep
@each_loss
@pytest.mark.parametrize("dtype,tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_equals_the_loop(name, dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        (value, share), _ = run(name, EMBEDDINGS, LABELS, WHERE, dtype)
    assert value.dtype == share.dtype == dtype
    expected, expected_share = LOSSES[name][2](EMBEDDINGS, LABELS, WHERE)
    np.testing.assert_allclose(value, expected, rtol=tolerance)
    np.testing.assert_allclose(share, expected_share, rtol=1e-6)
    assert share > 0


@each_loss
def test_gradient_equals_finite_differences(name):
    with jax.enable_x64(True):
        _, gradient = run(name, EMBEDDINGS, LABELS, WHERE, np.float64)
    differences = np.zeros_like(EMBEDDINGS)
    for place in np.ndindex(EMBEDDINGS.shape):
        step = np.zeros_like(EMBEDDINGS)
        step[place] = 1e-6
        up, down = (LOSSES[name][2](EMBEDDINGS + sign * step, LABELS, WHERE)[0] for sign in (1, -1))
        differences[place] = (up - down) / 2e-6
    np.testing.assert_allclose(gradient, differences, atol=1e-8)
    np.testing.assert_array_equal(gradient[~WHERE], 0)


@each_loss
@pytest.mark.parametrize("labels", [LABELS, np.zeros(13, int), np.arange(13)], ids=["classes", "one_class", "no_pairs"])
@pytest.mark.parametrize(
    "points",
    [np.zeros((13, 3)), np.full((13, 3), 0.1), EMBEDDINGS * 1e4, EMBEDDINGS * 1e-6, EMBEDDINGS[[0] * 7 + [1] * 6]],
    ids=["zero", "one_point", "huge", "tiny", "two_points"],
)
def test_finite_everywhere(name, labels, points):
    (value, share), gradient = run(name, points, labels)
    assert np.isfinite(value) and np.isfinite(share) and np.all(np.isfinite(gradient))
    if labels is not LABELS:
        assert value == share == 0
        np.testing.assert_array_equal(gradient, 0)


@each_loss
def test_no_item_selected_gives_zero(name):
    (value, share), gradient = run(name, EMBEDDINGS, where=~ALL)
    assert value == share == 0
    np.testing.assert_array_equal(gradient, 0)


@each_kind
def test_a_batch_of_one_gives_zero(name):
    (value, share), gradient = run(name, np.ones((1, 3)), np.array([5]), np.array([True]))
    assert value == share == 0
    np.testing.assert_array_equal(gradient, 0)


@each_loss
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), order=st.permutations(range(13)))
def test_order_numbering_and_axes_do_not_matter(name, seed, order):
    rng = np.random.default_rng(seed)
    points, order = rng.normal(size=(13, 3)), np.array(order)
    names = (rng.choice(1000, size=5, replace=False) - 500)[np.unique(LABELS, return_inverse=True)[1]]
    # The variance over components knows their axes: these may change places, no more.
    turn = np.eye(3)[rng.permutation(3)] if name == "all_snr" else np.linalg.qr(rng.normal(size=(3, 3)))[0]
    (value, share), gradient = run(name, points, where=WHERE)
    (other, other_share), other_gradient = run(name, (points @ turn)[order], names[order], WHERE[order])
    np.testing.assert_allclose(other, value, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(other_share, share, atol=1e-6)
    np.testing.assert_allclose(other_gradient, (gradient @ turn)[order], rtol=1e-3, atol=2e-5)


@each_loss
@settings(max_examples=10, deadline=None)
@given(where=st.lists(st.booleans(), min_size=13, max_size=13))
def test_masked_items_change_nothing(name, where):
    where = np.array(where)
    (value, _), gradient = run(name, EMBEDDINGS, where=where)
    np.testing.assert_array_equal(gradient[~where], 0)
    moved = np.where(where[:, None], EMBEDDINGS, EMBEDDINGS[::-1] + 1)
    np.testing.assert_allclose(run(name, moved, where=where)[0][0], value, rtol=1e-5, atol=1e-6)


@pytest.mark.sweep
@each_kind
@pytest.mark.parametrize("spread", ["pmap", "shard_map"])
def test_split_over_devices_equals_one_device(name, spread):
    loss = loss_of(name)
    rng = np.random.default_rng(1)
    images, weights = rng.normal(size=(16, 5)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    labels, where = rng.integers(0, 4, size=16), rng.random(16) < 0.8

    def of_weights(weights, images, labels, where, axis_name=None):
        return loss(images @ weights, labels, where=where, axis_name=axis_name, has_aux=True)

    def on_a_device(weights, *shares):
        result, gradient = jax.value_and_grad(of_weights, has_aux=True)(weights, *shares, axis_name="devices")
        return result, jax.lax.pmean(gradient, "devices")

    if spread == "pmap":
        shares = [x.reshape(8, 2, *x.shape[1:]) for x in (images, labels, where)]
        result = jax.pmap(on_a_device, "devices", in_axes=(None, 0, 0, 0))(weights, *shares)
    else:
        mesh = jax.make_mesh((8,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
        split = jax.P("devices")

        def on_the_mesh(weights, *shares):
            # What is the same on all devices must be said to be one per device, for its gradient not to be summed.
            weights = jax.lax.pcast(weights, "devices", to="varying")
            return jax.tree.map(lambda x: x[None], on_a_device(weights, *shares))

        specs = (jax.P(), split, split, split)
        result = jax.jit(jax.shard_map(on_the_mesh, mesh=mesh, in_specs=specs, out_specs=split))(
            weights, images, labels, where
        )
    expected = jax.jit(jax.value_and_grad(of_weights, has_aux=True))(weights, images, labels, where)
    for theirs, ours in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        for each in theirs:
            np.testing.assert_allclose(each, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["all", "all_soft"])
def test_unreduced_values_are_the_sums_of_anchors(name):
    loss = functools.partial(loss_of(name), jnp.asarray(EMBEDDINGS, jnp.float32), jnp.asarray(LABELS), where=WHERE)
    values, total = jax.jit(lambda: [loss(reduce_fn=f) for f in (None, jnp.sum)])()
    triplets = oracle.all_triplets(EMBEDDINGS, LABELS, WHERE, oracle.plain)
    margin, shape = (0.0, oracle.softplus) if name == "all_soft" else (0.2, oracle.hinge)
    np.testing.assert_allclose(values, oracle.sums_of_anchors(triplets, 13, margin, shape), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(total, np.sum(values), rtol=1e-5)


def all_triplets_at_once(x, labels, margin, soft):
    """Sum of losses and number of active triplets by the [n, n, n] array."""
    d = distances.pairwise_euclidean(x, x)
    same = labels[:, None] == labels[None, :]
    valid = (same & ~np.eye(len(labels), dtype=bool))[:, :, None] & ~same[:, None, :]
    gaps = d[:, :, None] - d[:, None, :] + margin
    values = jax.nn.softplus(gaps) if soft else jnp.maximum(gaps, 0)
    return jnp.sum(jnp.where(valid, values, 0)), jnp.sum(valid & (gaps > 0))


@pytest.mark.parametrize("soft", [False, True], ids=["hinge", "soft"])
def test_large_classes_and_several_blocks_equal_the_cube(soft):
    rng = np.random.default_rng(4)
    labels = rng.permutation(np.repeat([3, 1, 4, 15, 92, 65], [70, 41, 20, 9, 1, 2]))
    x = rng.normal(size=(len(labels), 4))
    margin = 0.0 if soft else 0.3

    def ours(x, margin):
        return losses.batch_all_triplet(x, labels, margin=margin, soft=soft, has_aux=True, reduce_fn=jnp.sum)

    def cube(x, margin):
        return all_triplets_at_once(x, labels, margin, soft)

    with jax.enable_x64(True):
        (value, share), gradients = jax.jit(jax.value_and_grad(ours, argnums=(0, 1), has_aux=True))(x, margin)
        (expected, active), cubes = jax.jit(jax.value_and_grad(cube, argnums=(0, 1), has_aux=True))(x, margin)
    counts = np.bincount(labels)
    triplets = np.sum(counts * (counts - 1) * (len(labels) - counts))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(float(share) * triplets, active, rtol=1e-12)
    for mine, theirs in zip(gradients, cubes, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)


def whole_squares(a, b):
    return jnp.sum(jnp.square(a[:, None] - b[None, :]), axis=-1)


@functools.partial(jax.jit, static_argnames="margin")
def on_whole_squares(x, labels, margin):
    return losses.batch_all_triplet(x, labels, margin=margin, distance=whole_squares, has_aux=True)


@pytest.mark.parametrize(
    "x,margin",
    [
        # Points at whole distances: many triplets lie exactly on the margin, where they are not active.
        (np.arange(12.0) ** 2 % 7, 3.0),
        # In float32 1e8 + 0.2 is 1e8, which must not hide that triplets are active.
        (np.array([0, 1e4] * 6), 0.2),
    ],
    ids=["on_the_margin", "huge"],
)
def test_ties_are_counted_as_the_sum_counts_them(x, margin):
    x, labels = x[:, None], np.arange(12) % 3
    triplets = oracle.all_triplets(x, labels, np.ones(12, bool), oracle.squared)
    assert any(near - far in (0, -margin) for _, near, far in triplets)
    expected, expected_share = oracle.loss_and_share(triplets, margin)
    value, share = on_whole_squares(jnp.asarray(x, jnp.float32), jnp.asarray(labels), margin)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(share, expected_share, rtol=1e-6)


def test_half_precision_counts_in_single():
    rng = np.random.default_rng(8)
    x, labels = jnp.asarray(rng.normal(size=(300, 4)), jnp.bfloat16), jnp.asarray(rng.integers(0, 3, size=300))
    value, share = on_whole_squares(x, labels, 0.2)
    assert value.dtype == share.dtype == jnp.float32
    expected, expected_share = on_whole_squares(x.astype(jnp.float32), labels, 0.2)
    np.testing.assert_allclose(value, expected, rtol=0.01)
    np.testing.assert_allclose(share, expected_share, rtol=0.01)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["all", "all_soft"])
def test_batches_map_and_second_derivatives(name):
    loss = loss_of(name)
    with jax.enable_x64(True):
        batches = jnp.stack([jnp.asarray(EMBEDDINGS), jnp.asarray(EMBEDDINGS) * 2])
        labels = jnp.asarray(np.stack([LABELS, LABELS[::-1]]))
        mapped = jax.jit(jax.vmap(jax.value_and_grad(loss)))(batches, labels)
        one = jax.jit(jax.value_and_grad(loss))
        for i in range(2):
            for theirs, ours in zip(mapped, one(batches[i], labels[i]), strict=True):
                np.testing.assert_allclose(theirs[i], ours, rtol=1e-10, atol=1e-12)
        direction = jnp.asarray(RNG.normal(size=EMBEDDINGS.shape))
        curved = jax.jit(lambda x: jax.jvp(lambda x: one(x, labels[0])[1], (x,), (direction,))[1])(batches[0])
        up, down = (one(batches[0] + sign * 1e-6 * direction, labels[0])[1] for sign in (1, -1))
        np.testing.assert_allclose(curved, (up - down) / 2e-6, atol=1e-7)


def test_active_only_with_the_soft_margin_is_refused():
    with pytest.raises(ValueError, match="active_only"):
        losses.batch_all_triplet(jnp.zeros((4, 2)), jnp.arange(4), soft=True, active_only=True)
