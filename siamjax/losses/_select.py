"""What losses compute with: float32 at least, and nothing of the items that `where` leaves out."""

import jax.numpy as jnp
from jax import lax

from siamjax import distances
from siamjax.mining.labels import taking_part


def selected(values, where):
    """Per-pair `values` in float32 or wider; 0 where `where` (bool, same shape, or None for all) is False.

    So NaN that is left out reaches neither value nor gradient of the rest.
    """
    (values,) = distances.widen(values)
    return values if where is None else jnp.where(taking_part(where, values.shape), values, 0)


def selected_rows(x, where):
    """Embeddings [n, d] in float32 or wider; the first one that `where` (bool [n], or None for all) selects stands for
    those that it leaves out, so that these change nothing: not the gradient by NaN, not rounding by their size.

    Infinite components become NaN: an encoder that overflowed must not look like items that are far apart.
    """
    (x,) = distances.widen(x)
    x = jnp.where(jnp.isfinite(x), x, jnp.nan)
    if where is None or not len(x):
        return x
    where = taking_part(where, x.shape[:1])
    return jnp.where(where[:, None], x, lax.stop_gradient(x[jnp.argmax(where)])[None, :])
