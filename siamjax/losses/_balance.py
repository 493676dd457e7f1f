"""Same and different pairs, weighted against each other."""

from typing import Any

import jax
import jax.numpy as jnp

from siamjax.labels import taking_part
from siamjax.losses._reduce import reduce
from siamjax.types import Array, ReduceFn, Scalar


def reduce_kinds(
    values: jax.Array, same: Array, where: Array | None, reduce_fn: ReduceFn, balance: Scalar | None, like: Any
) -> jax.Array:
    """Reduces per-pair `values` as `reduce` does, or same and different pairs apart, weighed, and added.

    Args:
      values: float array of per-pair losses.
      same: bool array of the same shape.
      where: bool array of the same shape, or None for all.
      reduce_fn: `jnp.mean`, `jnp.sum`, or None to return the per-pair values, weighed.
      balance: the weight of the same pairs, 0..1; different pairs get the rest. None reduces all pairs equally.
      like: array or type, whose type the result has.
    """
    if balance is None:
        return reduce(values, where, reduce_fn, like)
    values = jnp.where(same, balance, 1 - balance) * values
    if reduce_fn is None:
        return reduce(values, where, None, like)
    where = taking_part(where, same.shape)
    of_same, of_different = (reduce(values, where & kind, reduce_fn, values) for kind in (same, ~same))
    return (of_same + of_different).astype(jnp.result_type(like))
