"""What functions take and return, in the words of the type checker."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Array = jax.Array | np.ndarray
Scalar = float | jax.Array  # a number, or a learned one

Device = Any  # a `jax.Device`, which type checkers do not take for a type

# Of [n, d] and [n, d] to [n], and of [n, d] and [m, d] to [n, m].
Distance = Callable[[jax.Array, jax.Array], jax.Array]
PairwiseDistance = Callable[[jax.Array, jax.Array], jax.Array]

# Of embeddings [n, d], labels [n] and perhaps proxies; the value, or with `has_aux` (value, share of active triplets).
BatchLoss = Callable[..., Any]

# `jnp.mean`, `jnp.sum`, or None for per-item values.
ReduceFn = Callable[..., Any] | None
