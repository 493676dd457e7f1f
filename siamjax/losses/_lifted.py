"""Lifted structure: positive pairs against a soft minimum over all of their negatives."""

import jax
import jax.numpy as jnp

from siamjax import distances
from siamjax.losses._candidates import batch_candidates, log_sum_exp
from siamjax.losses._reduce import reduce
from siamjax.types import Array, PairwiseDistance, ReduceFn, Scalar


def lifted_structure(
    embeddings: Array,
    labels: Array,
    *,
    margin: Scalar = 1.0,
    distance: PairwiseDistance = distances.pairwise_euclidean,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Lifted structure loss: ½ max(0, J)², J = D_ij + log(Σ_k exp(α − D_ik) + Σ_l exp(α − D_jl)), per positive pair.

    Oh Song, Xiang, Jegelka, Savarese: Deep Metric Learning via Lifted Structured Feature Embedding (2016), equation 4;
    https://arxiv.org/abs/1511.06452. k and l run over the negatives of i and of j.

    Args:
      embeddings: float [n, d]; not of unit length in the paper, though a margin then has no fixed scale.
      labels: int [n], identities.
      margin: α, in units of the distance.
      distance: function of [n, d] and [n, d] to all-pairs distances D [n, n], symmetric.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over positive pairs), `jnp.sum` (counts each pair twice, as (i, j) and (j, i)), or None for
        per-pair values.

    Returns:
      float scalar, or per-pair values [n, n]; 0 where no positive pair counts.
    """
    x, _, _, found = batch_candidates(embeddings, labels, where, axis_name)
    d = distance(x, x)
    push, has_negative = log_sum_exp(margin - d, found.negative)
    violation = jax.nn.relu(d + jnp.logaddexp(push[:, None], push[None, :]))
    values = jnp.where(has_negative[:, None], jnp.square(violation) / 2, 0)
    return reduce(values, found.positive, reduce_fn, embeddings)


def generalized_lifted_structure(
    embeddings: Array,
    labels: Array,
    *,
    margin: Scalar = 1.0,
    distance: PairwiseDistance = distances.pairwise_euclidean,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Generalised lifted structure loss: max(0, log Σ_p exp(D_ap) + log Σ_n exp(m − D_an)) for each anchor a.

    Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification (2017), section 2;
    https://arxiv.org/abs/1703.07737.

    Args:
      embeddings: float [n, d]; not of unit length in the paper, though a margin then has no fixed scale.
      labels: int [n], identities.
      margin: m, in units of the distance.
      distance: function of [n, d] and [n, d] to all-pairs distances D [n, n].
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the anchors that have both a positive and a negative), `jnp.sum`, or None for
        per-anchor values.

    Returns:
      float scalar, or per-anchor values [n]; 0 where no anchor has both.
    """
    x, _, _, found = batch_candidates(embeddings, labels, where, axis_name)
    d = distance(x, x)
    pull, has_positive = log_sum_exp(d, found.positive)
    push, has_negative = log_sum_exp(margin - d, found.negative)
    return reduce(jax.nn.relu(pull + push), has_positive & has_negative, reduce_fn, embeddings)
