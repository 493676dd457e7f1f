"""Lifted structure: positive pairs against a soft minimum over all of their negatives."""

import jax
import jax.numpy as jnp

from siamjax import distances
from siamjax.losses._candidates import Others, PairMasks, compare, log_sum_exp
from siamjax.losses._reduce import reduce
from siamjax.types import Array, PairwiseDistance, ReduceFn, Scalar


def lifted_structure(
    embeddings: Array,
    labels: Array | None,
    *,
    margin: Scalar = 1.0,
    distance: PairwiseDistance = distances.pairwise_euclidean,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Lifted structure loss: ½ max(0, J)², J = D_ij + log(Σ_k exp(α − D_ik) + Σ_l exp(α − D_jl)), per positive pair.

    Oh Song, Xiang, Jegelka, Savarese: Deep Metric Learning via Lifted Structured Feature Embedding (2016), equation 4;
    https://arxiv.org/abs/1511.06452. k and l run over the negatives of i and of j; where j is one of `others`, over the
    anchors that j is a negative of.

    Args:
      embeddings: float [n, d]; not of unit length in the paper, though a margin then has no fixed scale.
      labels: int [n], identities; None with `pairs`.
      margin: α, in units of the distance.
      distance: function of [n, d] and [m, d] to all-pairs distances D [n, m], symmetric.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over positive pairs), `jnp.sum` (counts each pair twice, as (i, j) and (j, i)), or None for
        per-pair values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where no positive pair counts.
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    d = distance(c.anchors, c.others)
    of_i, found_i = log_sum_exp(margin - d, c.found.negative)
    of_j, found_j = (of_i, found_i) if c.within else log_sum_exp(margin - d.T, c.found.negative.T)
    of_i, found_i, of_j, found_j = of_i[:, None], found_i[:, None], of_j[None, :], found_j[None, :]
    push = jnp.where(found_i & found_j, jnp.logaddexp(of_i, of_j), jnp.where(found_i, of_i, of_j))
    values = jnp.where(found_i | found_j, jnp.square(jax.nn.relu(d + push)) / 2, 0)
    return reduce(values, c.found.positive, reduce_fn, c.like)


def generalized_lifted_structure(
    embeddings: Array,
    labels: Array | None,
    *,
    margin: Scalar = 1.0,
    distance: PairwiseDistance = distances.pairwise_euclidean,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Generalised lifted structure loss: max(0, log Σ_p exp(D_ap) + log Σ_n exp(m − D_an)) for each anchor a.

    Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification (2017), section 2;
    https://arxiv.org/abs/1703.07737.

    Args:
      embeddings: float [n, d]; not of unit length in the paper, though a margin then has no fixed scale.
      labels: int [n], identities; None with `pairs`.
      margin: m, in units of the distance.
      distance: function of [n, d] and [m, d] to all-pairs distances D [n, m].
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the anchors that have both a positive and a negative), `jnp.sum`, or None for
        per-anchor values.

    Returns:
      float scalar, or per-anchor values [n]; 0 where no anchor has both.
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    d = distance(c.anchors, c.others)
    pull, has_positive = log_sum_exp(d, c.found.positive)
    push, has_negative = log_sum_exp(margin - d, c.found.negative)
    return reduce(jax.nn.relu(pull + push), has_positive & has_negative, reduce_fn, c.like)
