import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import distances as reference_distances
from reference import heads as reference

from siamjax import distances, heads
from siamjax.heads import _aligned

RNG = np.random.default_rng(5)
# 18 components are a map of 3×3 descriptors, too.
A, B = RNG.normal(size=(4, 18)), RNG.normal(size=(3, 18)) + 0.2

DISTANCES = ("squared_euclidean", "euclidean", "l1", "lp", "cosine", "dot")
# name -> (head, its oracle); a name's first part is the one in the configuration.
HEADS = {
    "aligned": (heads.Aligned(cells=3), reference.aligned),
    "aligned-far": (heads.Aligned(cells=3, reach=2), functools.partial(reference.aligned, reach=2)),
    "aligned-in_place": (heads.Aligned(cells=3, reach=0), functools.partial(reference.aligned, reach=0)),
    "aligned-wide": (heads.Aligned(cells=2, columns=3), functools.partial(reference.aligned, rows=2)),
    "aligned-many": (heads.Aligned(cells=3), reference.aligned),
    "aligned-far_many": (heads.Aligned(cells=3, reach=2), functools.partial(reference.aligned, reach=2)),
    "weighted_l1": (heads.WeightedL1(), reference.weighted_l1),
    "binary": (heads.Binary(), reference.binary),
    "binary-two_layers": (heads.Binary(hidden=(7, 5)), reference.binary),
    "binary-no_layer": (heads.Binary(hidden=()), reference.binary),
    "four_feature": (heads.FourFeature(), reference.four_feature),
    "four_feature-narrow": (heads.FourFeature(hidden=5), reference.four_feature),
    "mahalanobis": (heads.Mahalanobis(), reference.mahalanobis),
    "mahalanobis-low_rank": (heads.Mahalanobis(rank=2), reference.mahalanobis),
    "bilinear": (heads.Bilinear(), reference.bilinear),
    "bilinear-asymmetric": (heads.Bilinear(symmetric=False), functools.partial(reference.bilinear, symmetric=False)),
} | {
    f"distance-{name}": (heads.Distance(distance=name, scale=3.0), functools.partial(reference.distance, distance=name))
    for name in DISTANCES
}
BY_NAME = ("weighted_l1", "binary", "four_feature", "mahalanobis", "bilinear", "distance")


@functools.cache
def programs(name):
    """(pairs, all against all, gradient of the latter's weighted sum by parameters and inputs), each compiled once."""
    head, _ = HEADS[name]

    def all_pairs(params, a, b):
        with pytest.MonkeyPatch.context() as patch:
            if name.endswith("many"):  # The sets here are small: as it compares large ones.
                patch.setattr(_aligned, "_FEW", 0)
            return head.apply(params, a, b, method="all_pairs")

    gradient = jax.grad(lambda params, a, b, weights: jnp.sum(weights * all_pairs(params, a, b)), argnums=(0, 1, 2))
    return jax.jit(head.apply), jax.jit(all_pairs), jax.jit(gradient)


def parameters(name, dimension=18, dtype=np.float32):
    """Random parameters: initial biases are 0 and some matrices symmetric, which hides mistakes."""
    empty, rng = jax.ShapeDtypeStruct((2, dimension), np.float32), np.random.default_rng(dimension)
    shapes = jax.eval_shape(HEADS[name][0].init, jax.random.key(0), empty, empty)
    return jax.tree.map(lambda x: np.asarray(rng.normal(size=x.shape) * 0.5, dtype), shapes)


def loop(name, params, a, b):
    score = functools.partial(HEADS[name][1], jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"]))
    return reference_distances.all_pairs(score, a.astype(np.float64), b.astype(np.float64))


@pytest.mark.sweep
@pytest.mark.parametrize("name", HEADS)
def test_a_row_of_nan_affects_only_its_own_scores(name):
    pairs, all_pairs, _ = programs(name)
    params, a, b = parameters(name), A.astype(np.float32), B.astype(np.float32)
    expected, expected_pairs = np.asarray(all_pairs(params, a, b)), np.asarray(pairs(params, a[:3], b))
    for bad in (np.nan, np.inf):
        b[1, 4] = bad
        scores, paired = np.asarray(all_pairs(params, a, b)), np.asarray(pairs(params, a[:3], b))
        assert not np.any(np.isfinite(scores[:, 1])) and not np.isfinite(paired[1])
        np.testing.assert_allclose(scores[:, [0, 2]], expected[:, [0, 2]], rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(paired[[0, 2]], expected_pairs[[0, 2]], rtol=1e-5)


@pytest.mark.sweep
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_embeddings_in_half_precision_are_scored_in_single(name, dtype):
    params, a, b = parameters(name), jnp.asarray(A, dtype), jnp.asarray(B, dtype)
    scores = programs(name)[1](params, a, b)
    assert scores.dtype == np.float32
    expected = programs(name)[1](params, a.astype(jnp.float32), b.astype(jnp.float32))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.sweep
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype,tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_equals_the_loop_for_pairs_and_for_all_against_all(name, dtype, tolerance):
    a, b = A.astype(dtype), B.astype(dtype)
    params = parameters(name, dtype=dtype)
    pairs, all_pairs, _ = programs(name)
    expected = loop(name, params, a, b)
    with jax.enable_x64(dtype == np.float64):
        logits = all_pairs(params, a, b)
        assert logits.shape == (4, 3) and logits.dtype == dtype
        np.testing.assert_allclose(logits, expected, rtol=tolerance, atol=10 * tolerance)
        np.testing.assert_allclose(
            pairs(params, a[:3], b), np.diagonal(expected[:3]), rtol=tolerance, atol=10 * tolerance
        )


@pytest.mark.sweep
@pytest.mark.parametrize("name", HEADS)
def test_gradient_equals_finite_differences(name):
    """Along random directions of parameters and inputs together."""
    params = parameters(name, dtype=np.float64)
    weights = RNG.normal(size=(4, 3))
    with jax.enable_x64(True):
        gradient = jax.tree.map(np.asarray, programs(name)[2](params, A, B, weights))
    for seed in range(3):
        rng = np.random.default_rng(seed)
        direction = jax.tree.map(lambda x, rng=rng: rng.normal(size=x.shape), (params, A, B))
        ahead, behind = (
            np.sum(weights * loop(name, *jax.tree.map(lambda x, v, s=step: x + s * v, (params, A, B), direction)))
            for step in (1e-7, -1e-7)
        )
        slope = sum(np.sum(g * v) for g, v in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-7, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_order_of_the_two_does_not_matter_where_the_formula_is_symmetric(name):
    params, a, b = parameters(name), A.astype(np.float32), B.astype(np.float32)
    pairs = programs(name)[0]
    differ = np.abs(pairs(params, a[:3], b) - pairs(params, b, a[:3])).max()
    assert differ > 0.1 if name == "bilinear-asymmetric" else differ < 1e-5


@pytest.mark.sweep
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("scale", [0, 1e-6, 1, 1e4])
def test_finite_where_embeddings_coincide_and_at_all_scales(name, scale):
    params, a = parameters(name), (scale * A).astype(np.float32)
    _, all_pairs, gradient = programs(name)
    assert np.all(np.isfinite(all_pairs(params, a, a[:3])))
    for part in jax.tree.leaves(gradient(params, a, a[:3], np.ones((4, 3), np.float32))):
        assert np.all(np.isfinite(part))


@pytest.mark.sweep
@pytest.mark.parametrize(
    "name,shape",
    [
        ("weighted_l1", (90, 131)),
        ("weighted_l1", (1, 6000)),
        ("weighted_l1", (6000, 1)),
        ("binary-two_layers", (90, 131)),
        ("four_feature-narrow", (31, 90)),
        ("aligned", (200, 301)),
        ("aligned", (2, 9000)),
        ("aligned-far", (9000, 2)),
    ],
)
def test_blocks_make_no_difference(name, shape):
    """Neither to logits nor to gradients, which are compared with those of the same pairs, one by one."""
    (n, m), d, rng = shape, 45, np.random.default_rng(0)
    a, b = (rng.normal(size=(size, d)).astype(np.float32) for size in shape)
    params, weights = parameters(name, d), rng.normal(size=shape).astype(np.float32)
    pairs, all_pairs, gradient = programs(name)
    rows, columns = np.repeat(np.arange(n), m), np.tile(np.arange(m), n)

    def one_by_one(params, a, b):
        return jnp.sum(weights.reshape(-1) * HEADS[name][0].apply(params, a[rows], b[columns]))

    expected = pairs(params, a[rows], b[columns]).reshape(n, m)
    size = np.abs(expected).max()
    np.testing.assert_allclose(all_pairs(params, a, b), expected, rtol=1e-4, atol=1e-5 * size)
    for got, part in zip(
        jax.tree.leaves(gradient(params, a, b, weights)),
        jax.tree.leaves(jax.jit(jax.grad(one_by_one, argnums=(0, 1, 2)))(params, a, b)),
        strict=True,
    ):
        if name.startswith("aligned"):  # Where two matches are equal but for rounding, either may get the gradient.
            assert np.linalg.norm(got - part) < 3e-3 * np.linalg.norm(part)
        else:
            np.testing.assert_allclose(got, part, rtol=1e-3, atol=1e-4 * np.abs(part).max())


@pytest.mark.sweep
@pytest.mark.parametrize("name", (*BY_NAME, "aligned"))
def test_ten_thousand_against_ten_thousand_fit_in_memory(name):
    """The result takes 0.4 GB; |a − b| of all pairs would take 12.8 GB, the four features' hidden layer 410 GB."""
    head = heads.make(name)
    a = jax.ShapeDtypeStruct((10_000, 98 if name == "aligned" else 32), np.float32)
    result = 4 * 10_000**2
    params = jax.eval_shape(head.init, jax.random.key(0), a, a)
    all_pairs = functools.partial(head.apply, method="all_pairs")
    forward = jax.jit(all_pairs).lower(params, a, a).compile().memory_analysis()
    assert forward.temp_size_in_bytes < 1.2 * result
    gradient = jax.grad(lambda params, a, b: jnp.sum(jnp.tanh(all_pairs(params, a, b))), argnums=(0, 1, 2))
    backward = jax.jit(gradient).lower(params, a, a).compile().memory_analysis()
    assert backward.temp_size_in_bytes < 4.2 * result


@pytest.mark.parametrize("name", ["binary", "four_feature", "mahalanobis"])
def test_maps_over_a_leading_axis(name):
    params, a, b = parameters(name), np.stack([A, -A]).astype(np.float32), np.stack([B, 2 * B]).astype(np.float32)
    _, all_pairs, _ = programs(name)
    logits = jax.jit(jax.vmap(all_pairs, in_axes=(None, 0, 0)))(params, a, b)
    np.testing.assert_allclose(logits[1], all_pairs(params, a[1], b[1]), rtol=1e-5, atol=1e-5)


def test_equal_components_have_no_gradient():
    for name in ("weighted_l1", "binary-no_layer"):
        params, a = parameters(name), np.full((1, 18), 0.5, np.float32)
        _, by_a, by_b = programs(name)[2](params, a, a, np.ones((1, 1), np.float32))
        np.testing.assert_array_equal(np.concatenate([by_a, by_b]), 0)


def test_weights_start_as_kochs():
    head = heads.make("weighted_l1")
    wide = jnp.zeros((2, 4096))
    params = head.init(jax.random.key(1), wide, wide)["params"]
    assert sorted(params) == ["bias", "weight"]
    assert abs(float(params["weight"].std()) - 0.2) < 0.01 and abs(float(params["weight"].mean())) < 0.02
    assert abs(float(params["bias"]) - 0.5) < 0.05


def test_untrained_mahalanobis_keeps_distances_on_average():
    a, b = (RNG.normal(size=(200, 100)).astype(np.float32) for _ in range(2))
    head = heads.make("mahalanobis")
    logits = head.apply(head.init(jax.random.key(2), a, b), a, b)
    np.testing.assert_allclose(-logits.mean(), distances.squared_euclidean(a, b).mean(), rtol=0.1)


def test_untrained_bilinear_is_the_inner_product():
    head = heads.make("bilinear")
    a, b = A.astype(np.float32), B.astype(np.float32)
    logits = head.apply(head.init(jax.random.key(2), a, a), a, b, method="all_pairs")
    np.testing.assert_allclose(logits, A @ B.T, rtol=1e-4, atol=1e-5)


def test_aligned_tolerates_a_small_shift_of_the_drawing():
    """Three strokes on an empty map, and the same one place lower."""
    drawn = np.zeros((1, 7, 7, 4), np.float32)
    drawn[0, [1, 3, 5], [2, 4, 1], [0, 1, 2]] = 1
    lower, lower_still = (np.roll(drawn, steps, axis=1).reshape(1, -1) for steps in (1, 2))
    head = heads.make("aligned", scale=2.0, threshold=0.5)
    params = head.init(jax.random.key(0), lower, lower)
    np.testing.assert_allclose(head.apply(params, drawn.reshape(1, -1), lower), 1, rtol=1e-6)
    np.testing.assert_allclose(head.apply(params, drawn.reshape(1, -1), lower_still), -1, rtol=1e-6)


def test_aligned_of_a_set_with_itself_is_that_of_two_equal_sets():
    """It is computed one way only: the other is its transpose. Logits and gradients, of one block and of several."""
    head, n = heads.make("aligned", cells=3), 600
    x = RNG.normal(size=(n, 45)).astype(np.float32)
    weights = RNG.normal(size=(n, n)).astype(np.float32)
    params = head.init(jax.random.key(0), x, x)

    @functools.partial(jax.jit, static_argnums=2)
    def gradient(a, b, itself):
        def total(a, b):
            logits = head.apply(params, a, a if itself else b, method="all_pairs")
            return jnp.sum(weights[: len(a), : len(a)] * logits), logits

        return jax.grad(total, argnums=(0, 1), has_aux=True)(a, b)

    for size in (20, n):
        (by_x, _), logits = gradient(x[:size], x[:size], True)
        (by_a, by_b), expected = gradient(x[:size], x[:size], False)
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(by_x, by_a + by_b, rtol=1e-3, atol=1e-4 * np.abs(by_x).max())


@pytest.mark.parametrize("unrolled", [1, 400])
@pytest.mark.parametrize(
    "cells,columns,reach", [(3, 0, 1), (3, 0, 2), (3, 0, 0), (2, 3, 1), (4, 1, 2), (1, 4, 1), (2, 0, 4)]
)
def test_aligned_scores_prepared_embeddings_as_others(cells, columns, reach, unrolled, monkeypatch):
    monkeypatch.setattr(_aligned, "_UNROLLED", unrolled)
    head, rng = heads.Aligned(cells=cells, columns=columns, reach=reach), np.random.default_rng(reach)
    places = cells * (columns or cells)
    a, b = rng.normal(size=(2, 6, places, 6)).astype(np.float32)
    a[1], a[2, 0], b[3], b[4] = 0, 0, a[3], -a[4]  # No drawing, a place without one, equal and opposite ones.
    a, b = a.reshape(6, -1), b.reshape(6, -1)
    a[5, 7] = np.nan
    params = head.init(jax.random.key(0), a, b)
    prepared = [head.apply(params, x, method="prepare") for x in (a, b)]
    scores = head.apply(params, *prepared, method="score_prepared")
    expected = head.apply(params, a, b)
    assert np.isnan(expected[5]) and np.isfinite(expected[:5]).all()
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shapes", [(0, 300), (300, 0)])
def test_aligned_of_no_images_is_empty(shapes):
    head, (a, b) = heads.make("aligned"), (np.zeros((size, 196), np.float32) for size in shapes)
    params = head.init(jax.random.key(0), np.zeros((1, 196)), np.zeros((1, 196)))
    assert head.apply(params, a, b, method="all_pairs").shape == shapes


def test_aligned_refuses_an_embedding_that_is_not_a_map():
    head = heads.make("aligned")
    with pytest.raises(ValueError, match=r"256 components is not a map of 7×7 places \(cells, columns\)"):
        head.init(jax.random.key(0), jnp.ones((2, 256)), jnp.ones((2, 256)))


def test_untrained_distance_orders_pairs_as_the_distance_does():
    for name in DISTANCES:
        head = heads.Distance(distance=name)
        a, b = A.astype(np.float32), B.astype(np.float32)
        all_pairs = jax.jit(functools.partial(head.apply, method="all_pairs"))
        logits = all_pairs(jax.jit(head.init)(jax.random.key(2), a, a), a, b)
        farness = getattr(distances, f"pairwise_{name}")(a, b) * (-1 if name == "dot" else 1)
        np.testing.assert_array_equal(np.argsort(-logits, axis=None), np.argsort(farness, axis=None))


def test_unknown_choices_are_refused_by_name():
    with pytest.raises(ValueError, match="^name='cosines'"):
        heads.make("cosines")
    for method in ("__call__", "all_pairs"):
        with pytest.raises(ValueError, match="^distance='hamming'"):
            heads.Distance(distance="hamming").init(jax.random.key(0), A, A, method=method)


@pytest.mark.parametrize("name", BY_NAME)
def test_shapes_that_do_not_match_are_refused(name):
    head = heads.make(name)
    params = jax.eval_shape(head.init, jax.random.key(0), jnp.ones((2, 6)), jnp.ones((2, 6)))
    for a, b, method in (
        (jnp.ones((3, 6)), jnp.ones((2, 6)), "__call__"),
        (jnp.ones((3, 6)), jnp.ones((1, 6)), "__call__"),
        (jnp.ones(6), jnp.ones(6), "__call__"),
        (jnp.ones((2, 3, 6)), jnp.ones((2, 3, 6)), "all_pairs"),
    ):
        with pytest.raises(AssertionError):
            jax.eval_shape(functools.partial(head.apply, method=method), params, a, b)
