"""Same and different pairs, weighed against each other."""

import jax.numpy as jnp

from siamjax.losses._reduce import reduce
from siamjax.mining.labels import taking_part


def reduce_kinds(values, same, where, reduce_fn, balance):
    """Reduces per-pair `values` as `reduce` does, or same and different pairs apart, weighed, and added.

    Args:
      values: float array of per-pair losses.
      same: bool array of the same shape.
      where: bool array of the same shape, or None for all.
      reduce_fn: `jnp.mean`, `jnp.sum`, or None to return the per-pair values, weighed.
      balance: the weight of the same pairs, 0..1; different pairs get the rest. None reduces all pairs alike.
    """
    if balance is None:
        return reduce(values, where, reduce_fn)
    values = jnp.where(same, balance, 1 - balance) * values
    if reduce_fn is None:
        return reduce(values, where, None)
    where = taking_part(where, same.shape)
    return reduce(values, where & same, reduce_fn) + reduce(values, where & ~same, reduce_fn)
