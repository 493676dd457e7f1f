"""Same and different pairs, weighed against each other."""

import jax.numpy as jnp

from siamjax.losses._reduce import reduce
from siamjax.mining.labels import taking_part


def reduce_kinds(values, same, where, reduce_fn, balance, like):
    """Reduces per-pair `values` as `reduce` does, or same and different pairs apart, weighed, and added.

    Args:
      values: float array of per-pair losses.
      same: bool array of the same shape.
      where: bool array of the same shape, or None for all.
      reduce_fn: `jnp.mean`, `jnp.sum`, or None to return the per-pair values, weighed.
      balance: the weight of the same pairs, 0..1; different pairs get the rest. None reduces all pairs alike.
      like: array or type, whose type the result has.
    """
    if balance is None:
        return reduce(values, where, reduce_fn, like)
    values = jnp.where(same, balance, 1 - balance) * values
    if reduce_fn is None:
        return reduce(values, where, None, like)
    where = taking_part(where, same.shape)
    both = [reduce(values, where & kind, reduce_fn, values) for kind in (same, ~same)]
    return sum(both).astype(jnp.result_type(like))
