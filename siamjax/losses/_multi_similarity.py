"""Multi-similarity: each anchor's pairs weighed by how they compare with its other pairs."""

import jax
import jax.numpy as jnp

from siamjax import distances, mining
from siamjax.losses._candidates import batch_candidates, log_sum_exp
from siamjax.losses._reduce import reduce
from siamjax.losses._select import check_positive
from siamjax.types import Array, ReduceFn, Scalar


def multi_similarity(
    embeddings: Array,
    labels: Array,
    *,
    alpha: Scalar = 2.0,
    beta: Scalar = 50.0,
    base: Scalar = 0.5,
    epsilon: Scalar | None = None,
    pairs: mining.Pairs | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Multi-similarity loss: (1/α) log(1 + Σ_p exp(−α (S_ap − λ))) + (1/β) log(1 + Σ_n exp(β (S_an − λ))) per anchor.

    Wang, Han, Huang, Dong, Scott: Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning (2019);
    https://arxiv.org/abs/1904.06627. S is the cosine.

    Args:
      embeddings: float [n, d], of any length (the formula takes their cosine).
      labels: int [n], identities.
      alpha: α > 0, sharpness among positives.
      beta: β > 0, sharpness among negatives.
      base: λ, the cosine beyond which positives count little and negatives much, −1..1; the paper has 1, its published
        code and other libraries 0.5.
      epsilon: ε of the paper's mining, `mining.multi_similarity`, in units of the cosine; the paper has 0.1. None for
        all pairs.
      pairs: optional `mining.Pairs` [n, n] of the whole batch, instead of `epsilon`: the pairs that count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the items that take part, those without pairs too, with 0), `jnp.sum`, or None for
        per-anchor values.

    Returns:
      float scalar, or per-anchor values [n]; 0 where no pair counts.

    Raises:
      ValueError: both `epsilon` and `pairs` are given.
    """
    if epsilon is not None and pairs is not None:
        raise ValueError("epsilon= and pairs= both say which pairs count: give one of them")
    x, _, where, found = batch_candidates(embeddings, labels, where, axis_name)
    distance = distances.pairwise_cosine(x, x)
    positive, negative = found.positive, found.negative
    if epsilon is not None:
        pairs = mining.multi_similarity(distance, found, epsilon=epsilon)
    if pairs is not None:
        positive, negative = positive & pairs.positive, negative & pairs.negative
    beyond = 1 - distance - base
    check_positive(alpha=alpha, beta=beta)
    pull = _log_one_plus_sum_exp(-alpha * beyond, positive) / alpha
    push = _log_one_plus_sum_exp(beta * beyond, negative) / beta
    return reduce(pull + push, where, reduce_fn, embeddings)


def _log_one_plus_sum_exp(x, mask):
    total, found = log_sum_exp(x, mask)
    return jnp.where(found, jax.nn.softplus(total), 0)
