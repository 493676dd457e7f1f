import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import distances as reference

from siamjax import distances

RNG = np.random.default_rng(7)
A, B = RNG.normal(size=(5, 4)), RNG.normal(size=(7, 4)) + 0.3
# Both sets hold a point of the other, and A holds one twice.
A[3], B[2] = A[1], A[0]

NAMES = {
    "squared_euclidean": {},
    "euclidean": {},
    "l1": {},
    "lp": {},
    "lp-1": {"p": 1},
    "lp-2.5": {"p": 2.5},
    "lp-3": {"p": 3},
    "lp-inf": {"p": math.inf},
    "cosine": {},
    "dot": {},
}


@functools.cache
def functions(name):
    """(paired, all-pairs, gradient of a weighted sum of all pairs), compiled once for each name, shape and type."""
    root, options = name.split("-")[0], NAMES[name]
    paired = functools.partial(getattr(distances, root), **options)
    pairwise = functools.partial(getattr(distances, f"pairwise_{root}"), **options)
    gradient = jax.grad(lambda a, b, weights: jnp.sum(weights * pairwise(a, b)), argnums=(0, 1))
    return jax.jit(paired), jax.jit(pairwise), jax.jit(gradient)


def oracle(name, a, b):
    return reference.all_pairs(getattr(reference, name.split("-")[0]), a, b, **NAMES[name])


@pytest.mark.sweep
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype,tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_equals_the_loop(name, dtype, tolerance):
    a, b = A.astype(dtype), B.astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        paired, pairwise, _ = functions(name)
        expected = oracle(name, a, b)
        got = pairwise(a, b)
        assert got.dtype == dtype and got.shape == (5, 7)
        # A root turns the rounding of a distance of 0 into that rounding's root.
        zero = 10 * math.sqrt(np.finfo(dtype).eps) if name == "euclidean" else tolerance
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=np.where(expected == 0, zero, tolerance).max())
        np.testing.assert_allclose(paired(a, b[:5]), np.diagonal(expected), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_equals_finite_differences(name):
    a, b, weights = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 4)), RNG.normal(size=(3, 4))
    step = 1e-6
    with jax.enable_x64(True):
        got = functions(name)[2](a, b, weights)
    for which, points in enumerate((a, b)):
        for index in np.ndindex(points.shape):
            sides = []
            for sign in (1, -1):
                moved = [a.copy(), b.copy()]
                moved[which][index] += sign * step
                sides.append(np.sum(weights * oracle(name, *moved)))
            np.testing.assert_allclose(got[which][index], (sides[0] - sides[1]) / (2 * step), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0, 1e-6, 1, 1e4])
def test_finite_at_coincident_points_and_all_scales(name, scale):
    paired, pairwise, gradient = functions(name)
    a, b = (scale * A).astype(np.float32), (scale * B).astype(np.float32)
    weights = np.ones((5, 7), np.float32)
    value = pairwise(a, b)
    assert np.all(np.isfinite(value))
    if name != "dot":
        assert np.all(value >= 0)
    for part in gradient(a, b, weights):
        assert np.all(np.isfinite(part))
    expected = oracle(name, a, b)
    size = np.abs(expected).max()
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=5e-4 * size if name == "euclidean" else 1e-6 * size)
    np.testing.assert_allclose(paired(a, b[:5]), np.diagonal(expected), rtol=1e-5, atol=1e-6 * size)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dot"])
def test_gradient_is_zero_between_coincident_points(name):
    paired = functions(name)[0]
    point = A[:1].astype(np.float32)
    for part in jax.grad(lambda a, b: paired(a, b).sum(), argnums=(0, 1))(point, point):
        np.testing.assert_allclose(part, 0, atol=1e-6)
    for part in functions(name)[2](point, point, np.ones((1, 1), np.float32)):
        np.testing.assert_allclose(part, 0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_row_of_nan_or_an_overflow_affects_only_its_own_distances(name, bad):
    paired, pairwise, _ = functions(name)
    a, b = A.astype(np.float32), B.astype(np.float32)
    expected, expected_pairs = pairwise(a, b), paired(a, b[:5])
    a[1, 2], b[4, 0] = bad, bad
    value, pairs = np.asarray(pairwise(a, b)), np.asarray(paired(a, b[:5]))
    rows, columns = np.delete(np.arange(5), 1), np.delete(np.arange(7), 4)
    np.testing.assert_allclose(
        value[np.ix_(rows, columns)],
        expected[np.ix_(rows, columns)],
        rtol=1e-5,
        atol=1e-3 if name == "euclidean" else 1e-5,
    )
    np.testing.assert_allclose(pairs[[0, 2, 3]], np.asarray(expected_pairs)[[0, 2, 3]], rtol=1e-5)
    if bad != 1e30:
        assert not np.any(np.isfinite(value[1])) and not np.any(np.isfinite(value[:, 4]))
        assert not np.any(np.isfinite(pairs[[1, 4]]))
    if np.isnan(bad):
        assert np.all(np.isnan(value[1]))


@pytest.mark.sweep
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("lp-1", "lp-3")])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_single_precision_rounded(name, dtype):
    """From some hundred components on, float16 neither holds sums of squares nor distinguishes a sum from one more."""
    rng = np.random.default_rng(2)
    a, b = (jnp.asarray(3 * rng.normal(size=(n, 600)), dtype) for n in (4, 5))
    paired, pairwise, _ = functions(name)
    for function, x, y in ((pairwise, a, b), (paired, a, b[:4])):
        got = function(x, y)
        assert got.dtype == dtype
        expected = function(x.astype(jnp.float32), y.astype(jnp.float32))
        np.testing.assert_allclose(np.asarray(got, np.float32), expected, rtol=float(jnp.finfo(dtype).eps), atol=1e-4)


def test_small_distances_far_from_the_origin_are_accurate():
    """Without centring, squares of 1e8 leave nothing of squared distances of 1e-2 in float32."""
    a, b = (1e4 + 0.1 * A).astype(np.float32), (1e4 + 0.1 * B).astype(np.float32)
    _, pairwise, gradient = functions("squared_euclidean")
    np.testing.assert_allclose(pairwise(a, b), oracle("squared_euclidean", a, b), rtol=1e-5, atol=1e-7)
    near = gradient(a - np.float32(1e4), b - np.float32(1e4), np.ones((5, 7), np.float32))
    for part, expected in zip(gradient(a, b, np.ones((5, 7), np.float32)), near, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_finite_at_coincident_points():
    for name in ("squared_euclidean", "euclidean", "l1", "cosine"):
        pairwise = functions(name)[1]
        hessian = jax.jit(jax.hessian(lambda x, pairwise=pairwise: pairwise(x, x).sum()))
        assert np.all(np.isfinite(hessian(A[:3].astype(np.float32)))), name


def test_high_powers_neither_overflow_nor_vanish():
    for scale in (1e-6, 1e4):
        a, b = (scale * A).astype(np.float32), (scale * B).astype(np.float32)
        expected = reference.all_pairs(reference.lp, a, b, p=20)
        np.testing.assert_allclose(distances.pairwise_lp(a, b, p=20), expected, rtol=1e-5)
    for p in (65, 300, 1000.0):
        for largest in (1.01, 1.45, 1.6, 1.99):
            value, slope = jax.value_and_grad(lambda x, p=p: distances.lp(x, jnp.zeros_like(x), p=p)[0])(
                jnp.array([[largest, 0.1]])
            )
            np.testing.assert_allclose(value, largest, rtol=1e-6)
            np.testing.assert_allclose(slope, [[1, 0]], atol=1e-5)


def test_p_below_1_is_refused():
    for p in (0.5, 0, -1, math.nan):
        with pytest.raises(ValueError, match="p="):
            distances.lp(A, A, p=p)
        with pytest.raises(ValueError, match="p="):
            distances.pairwise_lp(A, B, p=p)


@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((3,), (3,)), ((2, 3, 4), (2, 3, 4))])
def test_shapes_that_do_not_match_are_refused(shapes):
    a, b = (np.ones(shape, np.float32) for shape in shapes)
    for name in ("squared_euclidean", "l1", "lp", "cosine", "dot"):
        for function in (getattr(distances, name), getattr(distances, f"pairwise_{name}")):
            with pytest.raises(AssertionError):
                function(a, b)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["l1", "lp-3", "euclidean"])
@pytest.mark.parametrize("shape", [(1, 500, 600), (500, 1, 600), (131, 67, 256), (3, 2, 150_000), (1, 1, 3)])
def test_blocks_make_no_difference(name, shape):
    n, m, d = shape
    a, b = RNG.normal(size=(n, d)).astype(np.float32), RNG.normal(size=(m, d)).astype(np.float32)
    weights = RNG.normal(size=(n, m)).astype(np.float32)
    _, pairwise, gradient = functions(name)
    order = {"l1": 1, "lp-3": 3, "euclidean": 2}[name]
    differences = a[:, None].astype(np.float64) - b[None]
    expected = np.linalg.norm(differences, order, axis=-1)
    np.testing.assert_allclose(pairwise(a, b), expected, rtol=2e-5)
    slopes = np.sign(differences) * (np.abs(differences) / expected[..., None]) ** (order - 1) * weights[..., None]
    got = gradient(a, b, weights)
    np.testing.assert_allclose(got[0], slopes.sum(1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(got[1], -slopes.sum(0), rtol=1e-3, atol=1e-4)


def test_no_array_of_all_components_of_all_pairs():
    """[n, m, d] of these would take 2 GB; the result takes 4 MB."""
    a = jax.ShapeDtypeStruct((1000, 512), np.float32)
    weights = jax.ShapeDtypeStruct((1000, 1000), np.float32)
    for name in ("euclidean", "l1", "lp-3", "cosine"):
        _, pairwise, gradient = functions(name)
        assert pairwise.lower(a, a).compile().memory_analysis().temp_size_in_bytes < 25e6, name
        assert gradient.lower(a, a, weights).compile().memory_analysis().temp_size_in_bytes < 50e6, name


@pytest.mark.parametrize("name", NAMES)
def test_maps_over_a_leading_axis(name):
    a, b = np.stack([A, A[::-1]]).astype(np.float32), np.stack([B, 2 * B]).astype(np.float32)
    paired, pairwise, _ = functions(name)
    np.testing.assert_allclose(jax.vmap(pairwise)(a, b)[1], pairwise(a[1], b[1]), rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(jax.vmap(paired)(a, b[:, :5])[1], paired(a[1], b[1, :5]), rtol=1e-5, atol=1e-6)


points = st.lists(st.floats(-3, 3), min_size=20, max_size=20).map(lambda x: np.array(x).reshape(5, 4))


@settings(max_examples=20, deadline=None)
@given(points, st.permutations(range(5)), st.integers(0, 2**31))
def test_invariances(a, order, seed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    b, shift, order = rng.normal(size=(5, 4)), rng.normal(size=(1, 4)), np.array(order)
    with jax.enable_x64(True):
        for name in NAMES:
            paired, pairwise, _ = functions(name)
            value = np.asarray(pairwise(a, b))
            same = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-6, err_msg=name)
            same(pairwise(b, a), value.T)
            same(pairwise(a[order], b), value[order])
            same(paired(a, b), np.diagonal(value))
            if name in ("squared_euclidean", "euclidean", "lp", "cosine", "dot"):
                same(pairwise(a @ rotation, b @ rotation), value)
            if name not in ("cosine", "dot"):
                same(pairwise(a + shift, b + shift), value)
