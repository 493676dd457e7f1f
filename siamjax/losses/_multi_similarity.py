"""Multi-similarity: each anchor's pairs weighed by how they compare with its other pairs."""

import jax
import jax.numpy as jnp

from siamjax import distances, mining
from siamjax.losses._candidates import Others, PairMasks, compare, log_sum_exp
from siamjax.losses._reduce import reduce
from siamjax.losses._select import check_positive
from siamjax.types import Array, ReduceFn, Scalar


def multi_similarity(
    embeddings: Array,
    labels: Array | None,
    *,
    alpha: Scalar = 2.0,
    beta: Scalar = 50.0,
    base: Scalar = 0.5,
    epsilon: Scalar | None = None,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Multi-similarity loss: (1/α) log(1 + Σ_p exp(−α (S_ap − λ))) + (1/β) log(1 + Σ_n exp(β (S_an − λ))) per anchor.

    Wang, Han, Huang, Dong, Scott: Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning (2019);
    https://arxiv.org/abs/1904.06627. S is the cosine.

    Args:
      embeddings: float [n, d], of any length (the formula takes their cosine).
      labels: int [n], identities; None with `pairs`.
      alpha: α > 0, sharpness among positives.
      beta: β > 0, sharpness among negatives.
      base: λ, the cosine beyond which positives count little and negatives much, −1..1; the paper has 1, its published
        code and other libraries 0.5.
      epsilon: ε of the paper's mining, `mining.multi_similarity`, in units of the cosine; the paper has 0.1. None for
        all pairs, or all of `pairs`.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the items that take part, those without pairs too, with 0), `jnp.sum`, or None for
        per-anchor values.

    Returns:
      float scalar, or per-anchor values [n]; 0 where no pair counts.
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    distance = distances.pairwise_cosine(c.anchors, c.others)
    found = c.found if epsilon is None else mining.multi_similarity(distance, c.found, epsilon=epsilon)
    beyond = 1 - distance - base
    check_positive(alpha=alpha, beta=beta)
    pull = _log_one_plus_sum_exp(-alpha * beyond, found.positive) / alpha
    push = _log_one_plus_sum_exp(beta * beyond, found.negative) / beta
    return reduce(pull + push, c.where, reduce_fn, c.like)


def _log_one_plus_sum_exp(x, mask):
    total, found = log_sum_exp(x, mask)
    return jnp.where(found, jax.nn.softplus(total), 0)
