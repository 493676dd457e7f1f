"""log Σ_n exp(x_an + y_pn) for all positive pairs (a, p) of a batch, in O(n²) memory.

exp(x_an + y_pn) = exp(x_an) exp(y_pn), so the sums are a matrix product of exponentials, of which only the blocks that
hold positives are computed: with items ordered by identity, those near the diagonal. Exponentials of each row are taken
relative to its largest. Where two rows peak so far apart that their products leave the range of the type, the sums are
computed term by term instead, at a higher cost.
"""

import jax
import jax.numpy as jnp
from jax import lax

from siamjax.mining import Candidates
from siamjax.types import Array

# Items in a block of the matrix product, and of the term-by-term sum, which holds block² · n floats at once.
_BLOCK, _EXACT_BLOCK = 64, 8


def pair_log_sum_exp(
    x: jax.Array, y: jax.Array, labels: tuple[Array, Array] | None, found: Candidates
) -> tuple[jax.Array, jax.Array]:
    """log Σ_n exp(x_an + y_pn) for each positive pair (a, p), n over the negatives of a.

    Args:
      x: float [n, m], of anchors and others.
      y: float [m, m], of others and others; `x` itself where a batch is compared with itself.
      labels: int [n] and [m], identities, or None; only the speed depends on them.
      found: the pairs that count, [n, m].

    Returns:
      float [n, m], 0 but for positive pairs with negatives, and the bool [n, m] mask of these.
    """
    negative = jnp.asarray(found.negative)
    pairs = found.positive & jnp.any(negative, axis=1, keepdims=True)
    if not x.size:
        return jnp.zeros_like(x), pairs
    orders = tuple(map(jnp.argsort, labels)) if labels else tuple(map(jnp.arange, x.shape))
    of_y = None
    if labels is None or y is not x:
        # Of y, only the negatives of its anchors are looked at: its largest entries may be far beyond these.
        of_y = y, _product(pairs.T.astype(jnp.float32), negative.astype(jnp.float32)) > 0
    return _pair_log_sum_exp(x, of_y, pairs, negative, orders), pairs


@jax.custom_vjp
def _pair_log_sum_exp(x, of_y, pairs, negative, orders):
    """`of_y` is y and its mask, or None where these are x and `negative`, so that the sums are symmetric."""
    return _forward(x, of_y, pairs, negative, orders)[0]


def _forward(x, of_y, pairs, negative, orders):
    y, met = (x, negative) if of_y is None else of_y
    top, powers = _powers(x, negative)
    top_y, powers_y = (top, powers) if of_y is None else _powers(y, met)

    def put_sums(i, j, sums):
        return _put(sums, i, j, _product(_rows(powers, i), _rows(powers_y, j).T))

    sums = _fold_blocks(put_sums, jnp.zeros_like(x), pairs, orders, _BLOCK)
    # What underflows is less than `tiny` a term: sums beyond this lose nothing that they could hold.
    limits = jnp.finfo(x.dtype)
    in_range = jnp.all(~pairs | (sums > x.shape[1] * limits.tiny / limits.eps))

    def fast():
        return jnp.log(jnp.where(pairs, sums, 1)) + top[:, None] + top_y[None, :]

    def exact():
        def put_logs(i, j, logs):
            terms = _rows(x, i)[:, None, :] + _rows(y, j)[None, :, :]
            return _put(logs, i, j, jax.nn.logsumexp(terms, axis=2, where=_rows(negative, i)[:, None, :]))

        return _fold_blocks(put_logs, jnp.zeros_like(x), pairs, orders, _EXACT_BLOCK)

    logs = jnp.where(pairs, lax.cond(in_range, fast, exact), 0)
    return logs, (x, of_y, pairs, negative, orders, sums, in_range)


def _backward(saved, cotangent):
    x, of_y, pairs, negative, orders, sums, in_range = saved
    cotangent = jnp.where(pairs, cotangent, 0)
    if of_y is None:
        # x_a occurs in the sums of (a, p) and of (p, a), which are equal.
        gradient, _ = _gradients(
            x, (x, negative), pairs, negative, orders, sums, in_range, cotangent + cotangent.T, False
        )
        return gradient, None, None, None, None
    gradient, of_other = _gradients(x, of_y, pairs, negative, orders, sums, in_range, cotangent, True)
    return gradient, (of_other, None), None, None, None


def _gradients(x, of_y, pairs, negative, orders, sums, in_range, cotangent, both):
    """By x, and by y if `both`, otherwise None."""
    y, met = of_y
    start = jnp.zeros_like(x), jnp.zeros_like(y) if both else None

    def fast():
        _, powers = _powers(x, negative)
        powers_y = _powers(y, met)[1] if both else powers
        weights = cotangent / jnp.where(pairs, sums, 1)

        def add(i, j, gradients):
            of_x, of_y = gradients
            block = _block(weights, i, j)
            of_x = of_x.at[i].add(_product(block, _rows(powers_y, j)), mode="drop")
            return of_x, of_y.at[j].add(_product(block.T, _rows(powers, i)), mode="drop") if both else None

        of_x, of_y = _fold_blocks(add, start, pairs, orders, _BLOCK)
        return of_x * powers, of_y * powers_y if both else None

    def exact():
        def add(i, j, gradients):
            of_x, of_y = gradients
            terms = _rows(x, i)[:, None, :] + _rows(y, j)[None, :, :]
            counts = _rows(negative, i)[:, None, :] | ~_block(pairs, i, j)[:, :, None]
            shares = jax.nn.softmax(terms, axis=2, where=counts) * _block(cotangent, i, j)[:, :, None]
            shares = jnp.where(counts, shares, 0)
            of_x = of_x.at[i].add(jnp.sum(shares, axis=1), mode="drop")
            return of_x, of_y.at[j].add(jnp.sum(shares, axis=0), mode="drop") if both else None

        return _fold_blocks(add, start, pairs, orders, _EXACT_BLOCK)

    return lax.cond(in_range, fast, exact)


_pair_log_sum_exp.defvjp(_forward, _backward)


def _powers(x, negative):
    """Largest entry of each row among its negatives (0 without any), and exp(x − largest), 0 but for negatives."""
    top = jnp.max(jnp.where(negative, x, -jnp.inf), axis=1)
    top = jnp.where(jnp.any(negative, axis=1), top, 0)
    return top, jnp.exp(jnp.where(negative, x - top[:, None], -jnp.inf))


def _fold_blocks(step, state, pairs, orders, block):
    """Calls state = step(i, j, state), i and j int [block] rows and columns, for each block that holds any pair.

    The last blocks are padded with the index n, or m, which reads 0 and drops what is written.
    """
    rows, columns = (
        jnp.pad(order, (0, -size % block), constant_values=size).reshape(-1, block)
        for order, size in zip(orders, pairs.shape, strict=True)
    )
    held = _rows(_rows(pairs, rows.ravel()).T, columns.ravel()).T
    held = jnp.any(held.reshape(len(rows), block, len(columns), block), axis=(1, 3))
    i, j = jnp.nonzero(held, size=held.size)
    return lax.fori_loop(0, jnp.sum(held), lambda k, s: step(rows[i[k]], columns[j[k]], s), state)


def _rows(matrix, i):
    return matrix.at[i].get(mode="fill", fill_value=0)


def _block(matrix, i, j):
    return matrix.at[i[:, None], j[None, :]].get(mode="fill", fill_value=0)


def _put(matrix, i, j, block):
    return matrix.at[i[:, None], j[None, :]].set(block, mode="drop")


def _product(a, b):
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
