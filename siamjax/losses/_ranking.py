"""Losses on the order in which an anchor finds its positives: average precision, and overlapping histograms."""

import jax
import jax.numpy as jnp

from siamjax import distances
from siamjax.losses._candidates import Others, PairMasks, compare
from siamjax.losses._reduce import reduce
from siamjax.losses._select import check_positive
from siamjax.rows import columns, fold_columns, pick
from siamjax.types import Array, ReduceFn, Scalar


def fast_ap(
    embeddings: Array,
    labels: Array | None,
    *,
    bins: int = 10,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """FastAP: 1 − (1/|P|) Σ_b h⁺_b H⁺_b / H_b for each anchor, its average precision by histograms of distances.

    Cakir, He, Xia, Kulis, Sclaroff: Deep Metric Learning to Rank (2019), equation 7;
    https://openaccess.thecvf.com/content_CVPR_2019/papers/Cakir_Deep_Metric_Learning_to_Rank_CVPR_2019_paper.pdf. h⁺
    counts positives, each shared by the two nodes next to it in proportion; H⁺ and H are the sums of positives, and of
    all, up to a node. Nodes are spread evenly over 0..4, the squared distances of vectors of unit length.

    Args:
      embeddings: float [n, d], of any length (brought to unit length here).
      labels: int [n], identities; None with `pairs`.
      bins: intervals between nodes, 1 or more.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the anchors that have a positive), `jnp.sum`, or None for per-anchor values.

    Returns:
      float scalar, or per-anchor values [n]; 0 where no anchor has a positive.
    """
    check_positive(bins=bins)
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    place = distances.pairwise_cosine(c.anchors, c.others) * (bins / 2)
    positive, negative = (_histogram(place, kind, bins) for kind in (c.found.positive, c.found.negative))
    nearer = jnp.cumsum(positive, axis=1)
    all_nearer = nearer + jnp.cumsum(negative, axis=1)
    none = all_nearer <= 0
    shares = jnp.where(none, 0, positive * nearer / jnp.where(none, 1, all_nearer))
    count = jnp.sum(c.found.positive, axis=1)
    return reduce(1 - jnp.sum(shares, axis=1) / jnp.maximum(count, 1), count > 0, reduce_fn, c.like)


def smooth_ap(
    embeddings: Array,
    labels: Array | None,
    *,
    temperature: Scalar = 0.01,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Smooth-AP: 1 − (1/|P|) Σ_{i∈P} (1 + Σ_{j∈P} σ(s_j − s_i)) / (1 + Σ_{j∈P∪N} σ(s_j − s_i)) for each anchor.

    Brown, Xie, Kalogeiton, Zisserman: Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval (2020),
    equation 7; https://arxiv.org/abs/2007.12163. s is the cosine with the anchor, σ(x) = 1 / (1 + exp(−x / τ)), and j
    differs from i. Memory is O(n²), time in proportion to n times the number of positive pairs.

    Args:
      embeddings: float [n, d], of any length (the formula takes their cosine).
      labels: int [n], identities; None with `pairs`.
      temperature: τ > 0, a number or a scalar array.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
        The authors' code counts each anchor among its own positives, as `others=(embeddings, labels)` does.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the anchors that have a positive), `jnp.sum`, or None for per-anchor values.

    Returns:
      float scalar, or per-anchor values [n]; 0 where no anchor has a positive.
    """
    check_positive(temperature=temperature)
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    scores = (1 - distances.pairwise_cosine(c.anchors, c.others)) / temperature
    count = jnp.sum(c.found.positive, axis=1)
    total = _precision(scores, c.found.positive, c.found.negative)
    return reduce(1 - total / jnp.maximum(count, 1), count > 0, reduce_fn, c.like)


def histogram(
    embeddings: Array,
    labels: Array | None,
    *,
    bins: int = 100,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Histogram loss: Σ_r h⁻_r Σ_{q≤r} h⁺_q, the probability that a different pair is more alike than a same one.

    Ustinova, Lempitsky: Learning Deep Embeddings with Histogram Loss (2016), equation 4;
    https://arxiv.org/abs/1611.00822. h⁺ and h⁻ are the histograms of the cosines of same and of different pairs; a pair
    is shared by the two nodes next to it in proportion. It is a number of the whole batch, which has no items.

    Args:
      embeddings: float [n, d], of any length (the formula takes their cosine).
      labels: int [n], identities; None with `pairs`.
      bins: intervals between the nodes, which are spread evenly over −1..1; 1 or more.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.

    Returns:
      float scalar in 0..1; 0 where there is no same pair, or no different one.
    """
    check_positive(bins=bins)
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    place = (2 - distances.pairwise_cosine(c.anchors, c.others)) * (bins / 2)
    positive, negative = (
        jnp.sum(_histogram(place, kind, bins), axis=0) / jnp.maximum(jnp.sum(kind), 1)
        for kind in (c.found.positive, c.found.negative)
    )
    return jnp.sum(negative * jnp.cumsum(positive)).astype(c.like)


def _histogram(place, mask, bins):
    """Histogram [n, bins + 1] of each row's places 0..bins within `mask`, each shared by the nodes next to it."""
    place = jnp.where(mask, place, 0)
    node = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)), 0, bins - 1).astype(jnp.int32)
    rows, upper = jnp.arange(len(place))[:, None], jnp.where(mask, place - node, 0)
    empty = jnp.zeros((len(place), bins + 1), place.dtype)
    return empty.at[rows, node].add(jnp.where(mask, 1 - upper, 0)).at[rows, node + 1].add(upper)


@jax.custom_jvp
def _precision(scores, positive, negative):
    """Scores [n, m] and masks -> Σ_{i∈P} R⁺_i / R_i of each row [n], where R are the smooth ranks of i."""
    return _ranks(scores, positive, negative)[0]


@_precision.defjvp
def _precision_jvp(primals, tangents):
    total, slopes = _ranks(*primals)
    return total, jnp.sum(slopes * tangents[0], axis=1)


def _ranks(scores, positive, negative):
    """The sums [n], and their derivative [n, m] by the scores."""
    column = columns(scores)

    def step(state, i, exists):
        total, slopes = state
        other = column != i[:, None]
        above = jax.nn.sigmoid(scores - pick(scores, i)[:, None])
        of_positive, of_all = jnp.where(positive & other, above, 0), jnp.where((positive | negative) & other, above, 0)
        rank_positive, rank = 1 + jnp.sum(of_positive, axis=1), 1 + jnp.sum(of_all, axis=1)
        slope = of_positive / rank[:, None] - of_all * (rank_positive / jnp.square(rank))[:, None]
        slope = slope * (1 - above)
        slope = jnp.where(other, slope, -jnp.sum(slope, axis=1, keepdims=True))
        return total + jnp.where(exists, rank_positive / rank, 0), slopes + jnp.where(exists[:, None], slope, 0)

    return fold_columns(step, (jnp.zeros_like(scores, shape=len(scores)), jnp.zeros_like(scores)), positive)
