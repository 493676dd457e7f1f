"""The one way in which per-item losses become a number."""

import jax.numpy as jnp


def reduce(values, where, reduce_fn):
    """Reduces per-item `values`, over those that `where` (bool, same shape) selects; 0 where nothing is selected.

    Args:
      values: float array of per-item losses.
      where: bool array of the same shape, or None for all.
      reduce_fn: `jnp.mean`, `jnp.sum`, or None to return the per-item values (0 where not selected).
    """
    if where is None:
        where = jnp.ones_like(values, dtype=bool)
    values = jnp.where(where, values, 0)
    if reduce_fn is None:
        return values
    if reduce_fn is jnp.mean:
        return jnp.sum(values) / jnp.maximum(jnp.sum(where), 1)
    return reduce_fn(values)
