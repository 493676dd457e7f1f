"""Losses on pairs: is it the same identity or not?"""

import chex
import jax.numpy as jnp
import optax

from siamjax.losses._reduce import reduce


def binary_cross_entropy(logits: chex.Array, same: chex.Array, *, where=None, reduce_fn=jnp.mean) -> chex.Array:
    """Cross-entropy of "same" from logits: log(1 + exp(∓logit)) for same and different pairs.

    Koch, Zemel, Salakhutdinov (2015), section 3.2; https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf.

    Args:
      logits: float array of any shape, log-odds of "same".
      same: bool or {0, 1} array of the same shape, 1 for the same identity.
      where: optional bool array of the same shape, the pairs that count.
      reduce_fn: `jnp.mean` (over the pairs that count), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values; 0 where no pair counts.
    """
    chex.assert_equal_shape([logits, same])
    chex.assert_type(logits, float)
    return reduce(optax.sigmoid_binary_cross_entropy(logits, same.astype(logits.dtype)), where, reduce_fn)


def balanced_binary_cross_entropy(logits: chex.Array, same: chex.Array, *, where=None) -> chex.Array:
    """Cross-entropy of "same" in which same and different pairs weigh alike, however many there are of each.

    The mean of `binary_cross_entropy` over the same pairs and that over the different ones, averaged; a kind of which
    there is no pair adds 0.

    Args:
      logits: float array of any shape, log-odds of "same".
      same: bool or {0, 1} array of the same shape, 1 for the same identity.
      where: optional bool array of the same shape, the pairs that count.

    Returns:
      float scalar.
    """
    same = same.astype(bool)
    where = jnp.ones_like(same) if where is None else where
    positive = binary_cross_entropy(logits, same, where=where & same)
    negative = binary_cross_entropy(logits, same, where=where & ~same)
    return (positive + negative) / 2
