"""The inputs of losses: float32 at least, and free of the items that `where` leaves out."""

import jax
import jax.numpy as jnp
from jax import lax

from siamjax import distances
from siamjax.labels import taking_part
from siamjax.types import Array, Scalar


def selected(values: Array, where: Array | None) -> jax.Array:
    """Per-pair `values` in float32 or wider; 0 where `where` (bool, same shape, or None for all) is False.

    So NaN in a pair that is left out reaches neither value nor gradient of the rest.
    """
    (wide,) = distances.widen(values)
    return wide if where is None else jnp.where(taking_part(where, wide.shape), wide, 0)


def selected_rows(x: Array, where: Array | None) -> jax.Array:
    """Embeddings [n, d] in float32 or wider; those that `where` (bool [n], or None for all) leaves out are replaced by
    the first that it selects, so that they change nothing: neither the gradient, by NaN, nor rounding, by their size.

    Infinite components become NaN: an encoder that overflowed must not look like items that are far apart.
    """
    (wide,) = distances.widen(x)
    wide = jnp.where(jnp.isfinite(wide), wide, jnp.nan)
    if where is None or not len(wide):
        return wide
    where = taking_part(where, wide.shape[:1])
    first = jnp.where(jnp.any(where), wide[jnp.argmax(where)], 0)  # If none is selected, none may be NaN.
    return jnp.where(where[:, None], wide, lax.stop_gradient(first)[None, :])


def check_positive(**numbers: Scalar) -> None:
    """Raises ValueError, with its name, for a number that is not above 0; arrays are not looked at."""
    for name, number in numbers.items():
        if isinstance(number, int | float) and not number > 0:
            raise ValueError(f"{name}={number!r} must be above 0")
