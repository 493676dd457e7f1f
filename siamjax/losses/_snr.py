"""The signal-to-noise distance, for the losses that take a distance, and the regularizer that goes with it.

Yuan, Deng, Tang, Tang, Chen: Signal-to-Noise Ratio: A Robust Distance Metric for Deep Metric Learning (2019);
https://arxiv.org/abs/1904.02616. Its losses are the usual ones on this distance plus λ times the regularizer:
contrastive `batch_linear_contrastive(..., distance=pairwise_snr_distance)`, triplet
`batch_all_triplet(..., distance=pairwise_snr_distance)`.
"""

import chex
import jax
import jax.numpy as jnp

from siamjax import distances
from siamjax.losses._reduce import reduce
from siamjax.losses._select import selected_rows
from siamjax.parallel import whole_batch
from siamjax.types import Array, ReduceFn


def snr_distance(anchor: Array, other: Array) -> jax.Array:
    """Noise over signal of each pair: var(a − b) / var(a), variances over a vector's components.

    It is not symmetric: the anchor is the signal.

    Args:
      anchor: float [n, d], a.
      other: float [n, d], b.

    Returns:
      float [n], at least 0; 0, with no gradient, where the anchor's components are all equal.
    """
    a, b = _centred(anchor), _centred(other)
    values = _over_signal(distances.squared_euclidean(a, b), jnp.sum(jnp.square(a), axis=1))
    return values.astype(jnp.result_type(anchor, other))


def pairwise_snr_distance(anchor: Array, other: Array) -> jax.Array:
    """Noise over signal of all pairs, by one matrix product; see `snr_distance`.

    Args:
      anchor: float [n, d].
      other: float [m, d].

    Returns:
      float [n, m], at least 0.
    """
    a, b = _centred(anchor), _centred(other)
    values = _over_signal(distances.pairwise_squared_euclidean(a, b), jnp.sum(jnp.square(a), axis=1, keepdims=True))
    return values.astype(jnp.result_type(anchor, other))


def zero_mean_regularizer(
    embeddings: Array, *, where: Array | None = None, axis_name: str | None = None, reduce_fn: ReduceFn = jnp.mean
) -> jax.Array:
    """How far the components of each embedding are from balancing out: |Σ_k h_k|.

    The variance is a measure of the signal only where the mean is 0. Yuan et al. (2019); see the module.

    Args:
      embeddings: float [n, d], h.
      where: optional bool [n], the items that count.
      axis_name: the device axis over which embeddings and where are split, if they are.
      reduce_fn: `jnp.mean` (over the items that count), `jnp.sum`, or None for per-item values.

    Returns:
      float scalar, or [n] (of the whole batch); 0 where no item counts.
    """
    chex.assert_rank(embeddings, 2)
    x, where = whole_batch(axis_name, embeddings, where)
    total = jnp.sum(selected_rows(x, where), axis=1)
    return reduce(distances.absolute_difference(total, jnp.zeros_like(total)), where, reduce_fn, embeddings)


def _centred(x):
    chex.assert_rank(x, 2)
    (x,) = distances.widen(x)
    return x - jnp.mean(x, axis=1, keepdims=True)


def _over_signal(noise, signal):
    none = signal <= 0
    return jnp.where(none, 0, noise / jnp.where(none, 1, signal))
