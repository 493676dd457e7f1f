"""Ranked list: positives within one sphere about the anchor, negatives beyond a larger one."""

import jax
import jax.numpy as jnp
from jax import lax

from siamjax import distances
from siamjax.losses._candidates import Others, PairMasks, compare
from siamjax.losses._reduce import reduce
from siamjax.types import Array, PairwiseDistance, ReduceFn, Scalar


def ranked_list(
    embeddings: Array,
    labels: Array | None,
    *,
    alpha: Scalar = 1.2,
    margin: Scalar = 0.4,
    positive_temperature: Scalar = 0.0,
    negative_temperature: Scalar = 10.0,
    imbalance: Scalar = 0.5,
    constant_weights: bool = True,
    distance: PairwiseDistance = distances.pairwise_euclidean,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Ranked list loss: (1 − λ) Σ_p w_p (d_ap − (α − m)) / Σ w_p + λ Σ_n w_n (α − d_an) / Σ w_n for each anchor a.

    Wang, Hua, Kodirov, Hu, Garnier, Robertson: Ranked List Loss for Deep Metric Learning (2019);
    https://arxiv.org/abs/1903.03238. Only the violating pairs count: p with d_ap > α − m, n with d_an < α. They weigh
    w_p = exp(T_p (d_ap − (α − m))) and w_n = exp(T_n (α − d_an)).

    Args:
      embeddings: float [n, d], of unit length.
      labels: int [n], identities; None with `pairs`.
      alpha: α, the distance beyond which negatives are left alone.
      margin: m, 0..α, the breadth between the two spheres.
      positive_temperature: T_p ≥ 0; 0 weighs all violating positives equally.
      negative_temperature: T_n ≥ 0; the greater, the more the nearest negatives weigh.
      imbalance: λ, 0..1, the share of the negatives.
      constant_weights: whether no gradient flows through the weights, so that they alone set how strongly each pair is
        moved, as in the paper; with False it is the gradient of the loss's value.
      distance: function of [n, d] and [m, d] to all-pairs distances d [n, m].
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the items that take part, those without violating pairs too, with 0), `jnp.sum`, or
        None for per-anchor values.

    Returns:
      float scalar, or per-anchor values [n]; 0 where no pair violates.
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    d = distance(c.anchors, c.others)
    too_far, too_near = d - (alpha - margin), alpha - d
    # A NaN distance violates, too.
    pull = _weighted_mean(too_far, c.found.positive & ~(too_far <= 0), positive_temperature, constant_weights)
    push = _weighted_mean(too_near, c.found.negative & ~(too_near <= 0), negative_temperature, constant_weights)
    return reduce((1 - imbalance) * pull + imbalance * push, c.where, reduce_fn, c.like)


def _weighted_mean(violation, mask, temperature, constant_weights):
    """Mean of each row's violations within `mask`, with weights exp(T violation); 0 where the row has none."""
    found = jnp.any(mask, axis=1, keepdims=True)
    weights = jax.nn.softmax(temperature * violation, axis=1, where=mask | ~found)
    if constant_weights:
        weights = lax.stop_gradient(weights)
    return jnp.sum(jnp.where(mask, weights * violation, 0), axis=1)
