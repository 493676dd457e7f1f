"""Margins of pairs: about a boundary that is learned, in angle, and about the mean."""

import jax
import jax.numpy as jnp

from siamjax import distances
from siamjax.losses._balance import reduce_kinds
from siamjax.losses._candidates import Others, PairMasks, compare, log_sum_exp
from siamjax.losses._reduce import is_mean, reduce
from siamjax.types import Array, PairwiseDistance, ReduceFn, Scalar


def margin(
    embeddings: Array,
    labels: Array | None,
    *,
    alpha: Scalar = 0.2,
    beta: Scalar = 1.2,
    active_only: bool = True,
    distance: PairwiseDistance = distances.pairwise_euclidean,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Margin loss: max(0, α + d_ap − β) + max(0, α + β − d_an) for each triplet (a, p, n).

    Wu, Manmatha, Smola, Krähenbühl: Sampling Matters in Deep Embedding Learning (2017), section 5;
    https://arxiv.org/abs/1706.07567. So each pair counts as often as it is in a triplet. The paper's penalty ν β on a
    learned boundary is left to the caller.

    Args:
      embeddings: float [n, d], of unit length in the paper.
      labels: int [n], identities; None with `pairs`.
      alpha: α ≥ 0, half the breadth of the margin, in units of the distance.
      beta: β, the boundary between same and different pairs; a number, a learned scalar, or float [n], one for each
        anchor of the whole batch, such as `beta_of_class[labels]`.
      active_only: whether the mean is over the terms above 0, as in the paper; otherwise it is over all terms.
      distance: function of [n, d] and [m, d] to all-pairs distances [n, m].
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the triplets' terms, two each), `jnp.sum`, or None for per-pair values, each times the
        number of triplets that the pair is in.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where there is no triplet.
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    beyond = distance(c.anchors, c.others) - jnp.reshape(beta, (-1, 1))
    values = jax.nn.relu(alpha + jnp.where(c.found.positive, beyond, -beyond))
    of_positive, of_negative = (
        jnp.sum(kind, axis=1, keepdims=True, dtype=values.dtype) for kind in (c.found.negative, c.found.positive)
    )
    times = jnp.where(c.found.positive, of_positive, jnp.where(c.found.negative, of_negative, 0))
    if not is_mean(reduce_fn):
        return reduce(times * values, times > 0, reduce_fn, c.like)
    terms = jnp.where(values <= 0, 0, times) if active_only else times  # NaN counts, too
    return (reduce(times * values, times > 0, jnp.sum, values) / jnp.maximum(jnp.sum(terms), 1)).astype(c.like)


def tuplet_margin(
    embeddings: Array,
    labels: Array | None,
    *,
    m: Scalar = 0.1,
    s: Scalar = 64.0,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Tuplet margin loss: log(1 + Σ_n exp(s (cos θ_an − cos(θ_ap − m)))) for each positive pair (a, p).

    Yu, Tao: Deep Metric Learning with Tuplet Margin Loss (2019), equation 4;
    https://openaccess.thecvf.com/content_ICCV_2019/papers/Yu_Deep_Metric_Learning_With_Tuplet_Margin_Loss_ICCV_2019_paper.pdf.
    The slack m keeps hard positives from being pulled onto their anchor. The paper adds `intra_pair_variance`.

    Args:
      embeddings: float [n, d], of any length (the formula takes their cosine).
      labels: int [n], identities; None with `pairs`.
      m: slack, in radians, 0..π; the paper's 5.73° are 0.1.
      s: scale > 0.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over ordered positive pairs), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where no positive pair counts.
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    x, y = distances.unit(c.anchors), distances.unit(c.others)
    cosine = distances.pairwise_dot(x, y)
    # |x − y| |x + y| / 2, which has a finite gradient where √(1 − cos²) has none.
    sine = distances.pairwise_euclidean(x, y) * distances.pairwise_euclidean(x, -y) / 2
    rest, has_negative = log_sum_exp(s * cosine, c.found.negative)
    gaps = rest[:, None] - s * (cosine * jnp.cos(m) + sine * jnp.sin(m))
    values = jnp.where(has_negative[:, None], jax.nn.softplus(gaps), 0)
    return reduce(values, c.found.positive, reduce_fn, c.like)


def intra_pair_variance(
    embeddings: Array,
    labels: Array | None,
    *,
    pos_eps: Scalar = 0.01,
    neg_eps: Scalar = 0.01,
    balance: Scalar = 0.5,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Intra-pair variance: max(0, (1 − ε₊) μ₊ − cos)² for same, max(0, cos − (1 + ε₋) μ₋)² for different pairs.

    Yu, Tao: Deep Metric Learning with Tuplet Margin Loss (2019), section 3.3; see `tuplet_margin`, to which it is
    added. μ₊ and μ₋ are the mean cosines of all same pairs and of all different ones. On its own it only draws each
    kind together, and need not tell them apart.

    Args:
      embeddings: float [n, d], of any length (the formula takes their cosine).
      labels: int [n], identities; None with `pairs`.
      pos_eps: ε₊, how far below their mean same pairs are left alone, as a share of it.
      neg_eps: ε₋, how far above their mean different pairs are left alone, as a share of it.
      balance: weight 0..1 of the same pairs' mean, different ones get the rest; None takes the mean over all pairs.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over ordered pairs), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where no pair counts.
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    cosine = 1 - distances.pairwise_cosine(c.anchors, c.others)
    same, counts = c.found.positive, c.found.positive | c.found.negative
    of_same, of_different = (reduce(cosine, kind, jnp.mean, cosine) for kind in (same, c.found.negative))
    gaps = jnp.where(same, (1 - pos_eps) * of_same - cosine, cosine - (1 + neg_eps) * of_different)
    return reduce_kinds(jnp.square(jax.nn.relu(gaps)), same, counts, reduce_fn, balance, c.like)
