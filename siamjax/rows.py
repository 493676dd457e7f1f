"""One choice in each row of a matrix, as losses and miners make it."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

T = TypeVar("T")


def nearest(distances: jax.Array, mask: jax.Array) -> jax.Array:
    """int32 [n]: the column of each row's smallest distance within `mask` [n, m]; any column where the row has none.

    As good as `argmin`, which XLA does not vectorise on the CPU; and a distance that overflowed is chosen rather than
    something outside the mask. NaN comes before all others, so that what is computed from the choice is NaN.
    """
    least = jnp.min(jnp.where(mask, distances, jnp.inf), axis=1, keepdims=True, initial=jnp.inf)
    return first(mask & ((distances <= least) | jnp.isnan(distances)))


def farthest(distances: jax.Array, mask: jax.Array) -> jax.Array:
    """int32 [n]: the column of each row's largest distance within `mask`; any column where the row has none."""
    return nearest(-distances, mask)


def first(mask: jax.Array) -> jax.Array:
    """int32 [n]: the first column of each row within `mask`; the last column where there is none."""
    return jnp.min(jnp.where(mask, columns(mask), mask.shape[1] - 1), axis=1, initial=mask.shape[1] - 1)


def fold_columns(step: Callable[[T, jax.Array, jax.Array], T], state: T, mask: jax.Array) -> T:
    """Calls state = step(state, column int32 [n], exists bool [n]) with every row's 1st column within `mask`, its 2nd
    and so on, as often as the fullest row needs."""
    column_of = columns(mask)

    def body(_, carry):
        last, state = carry
        left = mask & (column_of > last[:, None])
        column = first(left)
        return column, step(state, column, pick(left, column))

    steps = jnp.max(jnp.sum(mask, axis=1, dtype=jnp.int32), initial=0)
    start = jnp.full(mask.shape[:1], -1, jnp.int32)
    return lax.fori_loop(0, steps, body, vary_like(mask, (start, state)))[1]


def pick(matrix: jax.Array, column: jax.Array) -> jax.Array:
    """matrix [n, m], column int [n] -> [n], one entry of each row."""
    return matrix[jnp.arange(len(matrix)), column]


def columns(matrix: jax.Array) -> jax.Array:
    """int32 [n, m]: the column of each entry."""
    return lax.broadcasted_iota(jnp.int32, matrix.shape, 1)


def vary_like(array: jax.Array, tree: T) -> T:
    """The constants or weights of `tree`, varying over the devices as `array` does.

    shard_map requires it: what a loop ends with must vary like what it starts with, and a gradient like its input. The
    gradient of a weight is then summed over the devices.
    """

    def vary(x) -> jax.Array:
        missing = jax.typeof(array).manual_axis_type.varying - jax.typeof(x).manual_axis_type.varying
        return lax.pcast(x, tuple(sorted(missing)), to="varying") if missing else x

    return jax.tree.map(vary, tree)
