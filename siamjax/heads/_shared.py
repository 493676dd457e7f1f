"""What heads have in common: the check of their inputs, and a learned scale and threshold."""

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from siamjax import distances
from siamjax.types import Array


def checked_pairs(a: Array, b: Array) -> list[jax.Array]:
    """Embeddings [n, d] and [n, d], float32 at least; raises AssertionError if their shapes are others."""
    chex.assert_rank([a, b], 2)
    chex.assert_equal_shape([a, b])
    return distances.widen(a, b)


def checked_sets(a: Array, b: Array) -> list[jax.Array]:
    """Embeddings [n, d] and [m, d], float32 at least; raises AssertionError if their shapes are others."""
    chex.assert_rank([a, b], 2)
    chex.assert_equal_shape_suffix([a, b], 1)
    return distances.widen(a, b)


def scale_and_threshold(head: Any) -> tuple[jax.Array, jax.Array]:
    """The head's learned s and t, initialised from its `scale` and `threshold`."""
    # The logarithm keeps s above 0: a nearer pair never scores lower, whatever weight decay does.
    log_scale = head.param("log_scale", nn.initializers.constant(math.log(head.scale)), ())
    threshold = head.param("threshold", nn.initializers.constant(head.threshold), ())
    return jnp.exp(log_scale), threshold
