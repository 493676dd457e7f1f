"""The reduction of per-item losses to a number, shared by all losses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from siamjax.labels import taking_part
from siamjax.types import Array, ReduceFn


def reduce(values: jax.Array, where: Array | None, reduce_fn: ReduceFn, like: Any) -> jax.Array:
    """Reduces per-item `values`, over those that `where` (bool, same shape) selects; 0 where nothing is selected.

    Args:
      values: float array of per-item losses.
      where: bool array of the same shape, or None for all.
      reduce_fn: `jnp.mean`, `jnp.sum`, or None to return the per-item values (0 where not selected).
      like: array or type, whose type the result has; the values themselves are in float32 at least.

    Raises:
      ValueError: `reduce_fn` is another function, which would count items that are not selected as a loss of 0.
    """
    where = taking_part(where, values.shape)
    values = jnp.where(where, values, 0)
    if is_mean(reduce_fn):
        values = jnp.sum(values) / jnp.maximum(jnp.sum(where), 1)
    elif reduce_fn is not None:
        values = jnp.sum(values)
    return values.astype(jnp.result_type(like))


def is_mean(reduce_fn: ReduceFn) -> bool:
    """Whether `reduce_fn` is the mean; False for the sum and None.

    Raises:
      ValueError: it is none of these.
    """
    if reduce_fn is None or reduce_fn in (jnp.sum, np.sum):
        return False
    if reduce_fn in (jnp.mean, np.mean):
        return True
    raise ValueError(
        f"reduce_fn: found {reduce_fn!r}, expected jnp.mean, jnp.sum or None; None returns the values, unreduced"
    )


def spoil(values: jax.Array, wrong: Array | None, where: Array | None) -> jax.Array:
    """`values`, NaN where `wrong` (bool, same shape) and selected; None spoils nothing.

    Multiplied, so that gradients that pass through a spoiled value are NaN, too.
    """
    if wrong is None:
        return values
    wrong = wrong if where is None else wrong & taking_part(where, values.shape)
    return values * jnp.where(wrong, jnp.nan, 1)
