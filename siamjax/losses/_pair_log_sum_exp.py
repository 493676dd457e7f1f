"""log Σ_n exp(x_an + x_pn) for all positive pairs (a, p) of a batch, in O(n²) memory.

exp(x_an + x_pn) = exp(x_an) exp(x_pn), so the sums are a matrix product of exponentials, of which only the blocks that
hold positives are computed: with items ordered by identity, those near the diagonal. Exponentials of each row are taken
relative to its largest. Where two rows peak so far apart that their products leave the range of the type, the sums are
computed term by term instead, at a higher cost.
"""

import jax
import jax.numpy as jnp
from jax import lax

from siamjax.types import Array

# Items in a block of the matrix product, and of the term-by-term sum, which holds block² · n floats at once.
_BLOCK, _EXACT_BLOCK = 64, 8


def pair_log_sum_exp(
    x: jax.Array, labels: Array, positive: jax.Array, negative: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """log Σ_n exp(x_an + x_pn) for each positive pair, n over the negatives that its two items have in common.

    Args:
      x: float [n, n].
      labels: int [n], identities; only the speed depends on them.
      positive: bool [n, n], symmetric, pairs of the same identity.
      negative: bool [n, n]; rows of a positive pair are equal.

    Returns:
      float [n, n], 0 but for positive pairs with negatives, and the bool [n, n] mask of these.
    """
    found = positive & jnp.any(negative, axis=1, keepdims=True)
    if not len(x):
        return x, found
    return _pair_log_sum_exp(x, found, negative, jnp.argsort(labels)), found


@jax.custom_vjp
def _pair_log_sum_exp(x, found, negative, order):
    return _forward(x, found, negative, order)[0]


def _forward(x, found, negative, order):
    top, powers = _powers(x, negative)

    def put_sums(i, j, sums):
        return _put(sums, i, j, _product(_rows(powers, i), _rows(powers, j).T))

    sums = _fold_blocks(put_sums, jnp.zeros_like(x), found, order, _BLOCK)
    # What underflows is less than `tiny` a term: sums beyond this lose nothing that they could hold.
    limits = jnp.finfo(x.dtype)
    in_range = jnp.all(~found | (sums > len(x) * limits.tiny / limits.eps))

    def fast():
        return jnp.log(jnp.where(found, sums, 1)) + top[:, None] + top[None, :]

    def exact():
        def put_logs(i, j, logs):
            terms = _rows(x, i)[:, None, :] + _rows(x, j)[None, :, :]
            return _put(logs, i, j, jax.nn.logsumexp(terms, axis=2, where=_rows(negative, i)[:, None, :]))

        return _fold_blocks(put_logs, jnp.zeros_like(x), found, order, _EXACT_BLOCK)

    logs = jnp.where(found, lax.cond(in_range, fast, exact), 0)
    return logs, (x, found, negative, order, sums, in_range)


def _backward(saved, cotangent):
    x, found, negative, order, sums, in_range = saved
    # x_a occurs in the sums of (a, p) and of (p, a), which are equal.
    cotangent = jnp.where(found, cotangent + cotangent.T, 0)

    def fast():
        _, powers = _powers(x, negative)
        weights = cotangent / jnp.where(found, sums, 1)

        def add(i, j, gradient):
            return gradient.at[i].add(_product(_block(weights, i, j), _rows(powers, j)), mode="drop")

        return _fold_blocks(add, jnp.zeros_like(x), found, order, _BLOCK) * powers

    def exact():
        def add(i, j, gradient):
            terms = _rows(x, i)[:, None, :] + _rows(x, j)[None, :, :]
            counts = _rows(negative, i)[:, None, :] | ~_block(found, i, j)[:, :, None]
            shares = jax.nn.softmax(terms, axis=2, where=counts) * _block(cotangent, i, j)[:, :, None]
            return gradient.at[i].add(jnp.sum(jnp.where(counts, shares, 0), axis=1), mode="drop")

        return _fold_blocks(add, jnp.zeros_like(x), found, order, _EXACT_BLOCK)

    return lax.cond(in_range, fast, exact), None, None, None


_pair_log_sum_exp.defvjp(_forward, _backward)


def _powers(x, negative):
    """Largest entry of each row among its negatives (0 without any), and exp(x − largest), 0 but for negatives."""
    top = jnp.max(jnp.where(negative, x, -jnp.inf), axis=1)
    top = jnp.where(jnp.any(negative, axis=1), top, 0)
    return top, jnp.exp(jnp.where(negative, x - top[:, None], -jnp.inf))


def _fold_blocks(step, state, found, order, block):
    """Calls state = step(i, j, state), i and j int [block] items, for each block of pairs in which any is found.

    The last blocks are padded with the index n, which reads 0 and drops what is written.
    """
    n = len(order)
    items = jnp.pad(order, (0, -n % block), constant_values=n).reshape(-1, block)
    held = _rows(_rows(found, items.ravel()).T, items.ravel()).T
    held = jnp.any(held.reshape(len(items), block, len(items), block), axis=(1, 3))
    rows, columns = jnp.nonzero(held, size=held.size)
    return lax.fori_loop(0, jnp.sum(held), lambda k, s: step(items[rows[k]], items[columns[k]], s), state)


def _rows(matrix, i):
    return matrix.at[i].get(mode="fill", fill_value=0)


def _block(matrix, i, j):
    return matrix.at[i[:, None], j[None, :]].get(mode="fill", fill_value=0)


def _put(matrix, i, j, block):
    return matrix.at[i[:, None], j[None, :]].set(block, mode="drop")


def _product(a, b):
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
