"""Distances between embeddings: paired ([n, d], [n, d] -> [n]) and all against all ([n, d], [m, d] -> [n, m]).

All but `dot` grow as embeddings move apart; `dot` is a similarity. Every gradient of finite distances is finite, and 0
where two points coincide. A row with NaN gives NaN in all its distances and changes no other. Sums are computed in
float32 at least; results have the type of the embeddings.
"""

import math

import chex
import jax
import jax.numpy as jnp
from jax import lax

from siamjax.types import Array, PairwiseDistance


def squared_euclidean(a: Array, b: Array) -> jax.Array:
    """Squared Euclidean distance of each pair: Σ_k (a_k − b_k)².

    Args:
      a, b: float [n, d].

    Returns:
      float [n], at least 0.
    """
    _check_pairs(a, b)
    return _squared(*widen(a, b)).astype(jnp.result_type(a, b))


def pairwise_squared_euclidean(a: Array, b: Array) -> jax.Array:
    """Squared Euclidean distance of all pairs, by one matrix product: |a|² + |b|² − 2 a·b of points about their mean.

    Centring keeps small distances accurate when all points are far from the origin. The remaining rounding error is
    about 1e-7 (float32) of the points' squared distance from their mean, so two points that coincide may come out that
    far apart.

    Args:
      a: float [n, d].
      b: float [m, d].

    Returns:
      float [n, m], at least 0.
    """
    _check_sets(a, b)
    return _pairwise_squared(*widen(a, b)).astype(jnp.result_type(a, b))


def euclidean(a: Array, b: Array) -> jax.Array:
    """Euclidean distance of each pair: (Σ_k (a_k − b_k)²)^½.

    Args:
      a, b: float [n, d].

    Returns:
      float [n], at least 0.
    """
    _check_pairs(a, b)
    return _sqrt(_squared(*widen(a, b))).astype(jnp.result_type(a, b))


def pairwise_euclidean(a: Array, b: Array) -> jax.Array:
    """Euclidean distance of all pairs, the root of `pairwise_squared_euclidean`.

    The rounding error is about 3e-4 (float32) of the points' distance from their mean where two of them coincide, and
    vanishes as they move apart.

    Args:
      a: float [n, d].
      b: float [m, d].

    Returns:
      float [n, m], at least 0.
    """
    _check_sets(a, b)
    return _sqrt(_pairwise_squared(*widen(a, b))).astype(jnp.result_type(a, b))


def l1(a: Array, b: Array) -> jax.Array:
    """L1 (city block) distance of each pair: Σ_k |a_k − b_k|.

    Args:
      a, b: float [n, d].

    Returns:
      float [n], at least 0.
    """
    _check_pairs(a, b)
    return jnp.sum(absolute_difference(*widen(a, b)), axis=-1).astype(jnp.result_type(a, b))


def pairwise_l1(a: Array, b: Array) -> jax.Array:
    """L1 (city block) distance of all pairs, in blocks of bounded memory.

    Args:
      a: float [n, d].
      b: float [m, d].

    Returns:
      float [n, m], at least 0.
    """
    _check_sets(a, b)
    sums = blockwise(lambda a, b: jnp.sum(_differences(a, b), axis=-1), *widen(a, b), width=a.shape[-1])
    return sums.astype(jnp.result_type(a, b))


def lp(a: Array, b: Array, *, p: float = 2) -> jax.Array:
    """Lp (Minkowski) distance of each pair: (Σ_k |a_k − b_k|^p)^(1/p), and max_k |a_k − b_k| for p = ∞.

    Args:
      a, b: float [n, d].
      p: a number, not an array; 1 to `math.inf`.

    Returns:
      float [n], at least 0.

    Raises:
      ValueError: `p` is below 1, where this is not a distance and has no finite gradient.
    """
    _check_pairs(a, b)
    return _norm(absolute_difference(*widen(a, b)), p).astype(jnp.result_type(a, b))


def pairwise_lp(a: Array, b: Array, *, p: float = 2) -> jax.Array:
    """Lp (Minkowski) distance of all pairs, in blocks of bounded memory; see `lp`.

    Args:
      a: float [n, d].
      b: float [m, d].
      p: a number, not an array; 1 to `math.inf`.

    Returns:
      float [n, m], at least 0.

    Raises:
      ValueError: `p` is below 1.
    """
    _check_sets(a, b)
    norms = blockwise(lambda a, b: _norm(_differences(a, b), p), *widen(a, b), width=a.shape[-1])
    return norms.astype(jnp.result_type(a, b))


def cosine(a: Array, b: Array) -> jax.Array:
    """Cosine distance of each pair: 1 − a·b / (|a| |b|); 1 where either is 0.

    Args:
      a, b: float [n, d], of any length.

    Returns:
      float [n] in 0..2.
    """
    _check_pairs(a, b)
    x, y = (unit(x) for x in widen(a, b))
    return _at_least_zero(1 - jnp.sum(x * y, axis=-1)).astype(jnp.result_type(a, b))


def pairwise_cosine(a: Array, b: Array) -> jax.Array:
    """Cosine distance of all pairs, by one matrix product; see `cosine`.

    Args:
      a: float [n, d], of any length.
      b: float [m, d], of any length.

    Returns:
      float [n, m] in 0..2.
    """
    _check_sets(a, b)
    x, y = (unit(x) for x in widen(a, b))
    return _at_least_zero(1 - _products(x, y)).astype(jnp.result_type(a, b))


def dot(a: Array, b: Array) -> jax.Array:
    """Inner product of each pair, Σ_k a_k b_k: a similarity, greater for the nearer.

    Args:
      a, b: float [n, d].

    Returns:
      float [n].
    """
    _check_pairs(a, b)
    x, y = widen(a, b)
    return jnp.sum(x * y, axis=-1).astype(jnp.result_type(a, b))


def pairwise_dot(a: Array, b: Array) -> jax.Array:
    """Inner product of all pairs, a·bᵀ: a similarity, greater for the nearer.

    Args:
      a: float [n, d].
      b: float [m, d].

    Returns:
      float [n, m].
    """
    _check_sets(a, b)
    return _products(*widen(a, b)).astype(jnp.result_type(a, b))


def unit(x: Array) -> jax.Array:
    """Scales vectors to length 1; zeros stay zeros, with the gradient of the identity.

    Args:
      x: float [..., d], of any magnitude: neither 1e-20 nor, in float16, 60,000 underflows or overflows.

    Returns:
      float [..., d].
    """
    (wide,) = widen(x)
    wide = wide / _scale(jnp.abs(wide), 2)
    length = _sqrt(jnp.sum(jnp.square(wide), axis=-1, keepdims=True))
    return (wide / jnp.where(length <= 0, 1, length)).astype(jnp.result_type(x))


def widen(*arrays: Array) -> list[jax.Array]:
    """The float arrays in float32 or wider: in half precision, a sum of some hundred products is already wrong."""
    return [jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32)) for x in arrays]


def absolute_difference(a: jax.Array, b: jax.Array) -> jax.Array:
    """|a − b| of each component, with gradient 0, the middle of its slopes, where the two are equal.

    `jnp.abs` has gradient 1 there, which would push coincident points apart, each in one fixed direction.

    Args:
      a, b: float [..., d], of shapes that broadcast.

    Returns:
      float [..., d], at least 0.
    """
    difference = a - b
    return difference * lax.stop_gradient(jnp.sign(difference))


def blockwise(score: PairwiseDistance, a: jax.Array, b: jax.Array, width: int) -> jax.Array:
    """All pairs of `score`, block by block, so that its temporaries stay small in value and gradient alike.

    Inputs that fit in one block are scored in one call. Otherwise each block is recomputed in the backward pass, which
    then holds the temporaries of one block, not of all.

    Args:
      score: function of [r, d] and [c, d] to [r, c], each pair by itself.
      a: float [n, d].
      b: float [m, d].
      width: floats that `score` holds per pair.

    Returns:
      float [n, m].
    """
    rows, columns = _block_shape(len(a), len(b), width)
    if rows >= len(a) and columns >= len(b):
        return score(a, b)
    score = jax.checkpoint(score, prevent_cse=False)  # a scan's body is never merged with another's
    b_blocks = _split(b, columns)

    def row_of_blocks(a_block):
        scores = lax.map(lambda b_block: score(a_block, b_block), b_blocks)
        return scores.swapaxes(0, 1).reshape(len(a_block), -1)[:, : len(b)]

    return lax.map(row_of_blocks, _split(a, rows)).reshape(-1, len(b))[: len(a)]


def _block_shape(n, m, width):
    """Rows and columns of a block: as square as the [n, m] pairs allow, so that each row is read for many columns."""
    pairs = max(_block_floats() // width, 1)
    rows = max(1, _even(n, max(math.isqrt(pairs), pairs // max(m, 1))))
    return rows, _even(m, max(pairs // max(rows, 1), 1))


def _block_floats():
    """Floats that a block may hold: on a CPU what fits in a core's cache, elsewhere enough to hide a launch's cost."""
    return 1 << 18 if jax.default_backend() == "cpu" else 1 << 24


def _even(total, most):
    """The length of equal parts of `total`, none longer than `most`, that leave the least padding."""
    return -(-total // max(-(-total // most), 1))


def _split(x, length):
    """[n, d] -> [blocks, length, d], the last one padded with zeros."""
    x = jnp.pad(x, ((0, -len(x) % length), (0, 0)))
    return x.reshape(-1, length, x.shape[-1])


def _differences(a, b):
    return absolute_difference(a[:, None, :], b[None, :, :])


def _squared(a, b):
    return jnp.sum(jnp.square(a - b), axis=-1)


def _pairwise_squared(a, b):
    # Distances do not depend on the centre, so no gradient need flow through it.
    centre = lax.stop_gradient(_centre(a, b))
    a, b = a - centre, b - centre
    lengths = jnp.sum(jnp.square(a), axis=-1)[:, None] + jnp.sum(jnp.square(b), axis=-1)[None, :]
    return _at_least_zero(lengths - 2 * _products(a, b))


def _centre(*sets):
    """[1, d], the mean of the rows whose squares are finite: one row that is NaN or overflows must not spoil others."""
    total, count = 0, 0
    for x in sets:
        fits = jnp.isfinite(jnp.sum(jnp.square(x), axis=-1, keepdims=True))
        total += jnp.sum(jnp.where(fits, x, 0), axis=0, keepdims=True)
        count += jnp.sum(fits)
    mean = total / jnp.maximum(count, 1)
    # One bit shorter: otherwise XLA may compute x - total * (1 / count) in one step, without rounding the mean, for the
    # squares and not for the products, and distances of near points far from the origin are lost.
    kind = jnp.finfo(mean.dtype)
    return lax.reduce_precision(mean, kind.nexp, kind.nmant - 1)


def _products(a, b):
    # Accelerators otherwise round float32 factors to 8 or 11 bits, too few for distances.
    return jnp.matmul(a, b.T, precision=lax.Precision.HIGHEST)


def _at_least_zero(x):
    """Lifts rounding below 0 to 0 in the value alone: the gradient is the exact distance's."""
    return x - lax.stop_gradient(jnp.minimum(x, 0))


# Guards test `x <= 0`, which is false for NaN, rather than `x > 0`: NaN stays NaN.


def _sqrt(x):
    """Square root with gradient 0 at 0."""
    zero = x <= 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


def _scale(x, p):
    """A number near the largest of x [..., d], at least 0, without gradient, [..., 1]; 1 for zeros. Divided by it,
    p-th powers stay in range. Up to p = 64 it is a power of two, so that nothing is rounded."""
    largest = lax.stop_gradient(jnp.max(x, axis=-1, keepdims=True, initial=0))
    limits = jnp.finfo(x.dtype)
    # XLA may multiply by the reciprocal, which must not be so small that it is flushed to 0.
    scale = jnp.minimum(largest, limits.max / 16)
    if p <= 64:
        scale = lax.reduce_precision(scale, limits.nexp, 0)
    return jnp.where(largest <= 0, 1, scale)


def _norm(x, p):
    """Lp norm of x, at least 0, over the last axis, with gradient 0 at 0."""
    if not p >= 1:
        raise ValueError(f"p={p!r}: an Lp distance needs p of 1 or more")
    if p == math.inf:
        return jnp.max(x, axis=-1, initial=0)
    scale = _scale(x, p)
    total = jnp.sum((x / scale) ** (int(p) if p == int(p) else p), axis=-1)
    zero = total <= 0
    return jnp.where(zero, 0, jnp.where(zero, 1, total) ** (1 / p)) * scale[..., 0]


def _check_pairs(a, b):
    chex.assert_rank([a, b], 2)
    chex.assert_equal_shape([a, b])
    chex.assert_type([a, b], float)


def _check_sets(a, b):
    chex.assert_rank([a, b], 2)
    chex.assert_equal_shape_suffix([a, b], 1)
    chex.assert_type([a, b], float)
