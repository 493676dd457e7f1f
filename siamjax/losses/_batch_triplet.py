"""Triplet losses that find their triplets in the batch: all of them, or the ones chosen by distance.

None holds an [n, n, n] array, whatever the labels.
"""

import jax
import jax.numpy as jnp
from jax import lax

from siamjax import distances
from siamjax.losses._candidates import Others, PairMasks, compare
from siamjax.losses._reduce import is_mean, reduce
from siamjax.losses._triplet import default_margin, penalty
from siamjax.losses._triplet_sums import sums_of_anchors
from siamjax.rows import farthest, nearest, pick
from siamjax.types import Array, PairwiseDistance, ReduceFn, Scalar


def batch_all_triplet(
    embeddings: Array,
    labels: Array | None,
    *,
    margin: Scalar | None = None,
    soft: bool = False,
    distance: PairwiseDistance = distances.pairwise_euclidean,
    active_only: bool = False,
    has_aux: bool = False,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Triplet loss of every valid triplet of the batch: max(0, d_ap − d_an + m), or log(1 + exp(d_ap − d_an + m)).

    Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification (2017), section 2;
    https://arxiv.org/abs/1703.07737. Value, gradient and active share are those of the sum over all triplets, computed
    in O(n²) memory and time in proportion to n times the number of positive pairs.

    Args:
      embeddings: float [n, d], not normalised here; unit length suits the hinge's default margin.
      labels: int [n]; None with `pairs`.
      margin: m, in units of the distance; by default 0.2 for the hinge and 0 for the soft margin.
      soft: the soft margin in place of the hinge.
      distance: all-pairs distance, [n, d], [m, d] -> [n, m].
      active_only: for the hinge, whether the mean is over the active triplets only, those with a loss above 0. Such a
        mean hides progress, since triplets that are learned drop out: by default it is over all valid triplets.
      has_aux: whether to return the share of active triplets too, as `jax.value_and_grad(..., has_aux=True)` expects.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which embeddings, labels and where are split, if they are; the triplets are those
        of the whole batch, and the value is the same on every device.
      reduce_fn: `jnp.mean` (over the triplets), `jnp.sum`, or None for the sums over each anchor's triplets.

    Returns:
      float scalar, or [n] (of the whole batch); 0 where there is no triplet. With `has_aux`, (that, the share in 0..1
      of triplets with d_ap + m > d_an).

    Raises:
      ValueError: `active_only` with the soft margin, for which every triplet is active.
    """
    if active_only and soft:
        raise ValueError("active_only=True: every triplet of the soft margin is active; use the hinge (soft=False)")
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    sums, terms, active = sums_of_anchors(c, distance, default_margin(margin, soft), soft=soft)
    loss = _over_triplets(sums, active if active_only else terms, reduce_fn)
    return (loss, _share(active, terms)) if has_aux else loss


def semi_hard_triplet(
    embeddings: Array,
    labels: Array | None,
    *,
    margin: Scalar | None = None,
    soft: bool = False,
    distance: PairwiseDistance = distances.pairwise_squared_euclidean,
    fallback: bool = True,
    has_aux: bool = False,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Triplet loss of every positive pair with its semi-hard negative, the nearest one farther than the positive.

    Schroff, Kalenichenko, Philbin: FaceNet (2015), section 3.2; https://arxiv.org/abs/1503.03832. A negative beyond the
    margin gives a loss of 0 that still counts in the mean.

    Args:
      embeddings: float [n, d], not normalised here; of unit length in the paper.
      labels: int [n]; None with `pairs`.
      margin: m, in units of the distance; by default 0.2 for the hinge and 0 for the soft margin.
      soft: the soft margin in place of the hinge.
      distance: all-pairs distance, [n, d], [m, d] -> [n, m].
      fallback: whether a pair with no negative farther than its positive takes its farthest negative, as TensorFlow
        Addons did; otherwise such pairs do not count.
      has_aux: whether to return the share of active triplets too, as `jax.value_and_grad(..., has_aux=True)` expects.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is; see `batch_all_triplet`.
      reduce_fn: `jnp.mean` (over the positive pairs), `jnp.sum`, or None for the sums over each anchor's pairs.

    Returns:
      float scalar, or [n] (of the whole batch); 0 where there is no triplet. With `has_aux`, (that, the share in 0..1
      of the chosen triplets with d_ap + m > d_an).
    """
    negatives = "semi_hard_or_farthest" if fallback else "semi_hard"
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    sums, terms, active = sums_of_anchors(c, distance, default_margin(margin, soft), soft=soft, negatives=negatives)
    loss = _over_triplets(sums, terms, reduce_fn)
    return (loss, _share(active, terms)) if has_aux else loss


def batch_hard_triplet(
    embeddings: Array,
    labels: Array | None,
    *,
    margin: Scalar | None = None,
    soft: bool = False,
    distance: PairwiseDistance = distances.pairwise_euclidean,
    has_aux: bool = False,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Triplet loss of each anchor with its farthest positive and its nearest negative.

    Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification (2017), equation 5;
    https://arxiv.org/abs/1703.07737.

    Args:
      embeddings: float [n, d], not normalised here, nor in the paper.
      labels: int [n]; None with `pairs`.
      margin: m, in units of the distance; by default 0.2 for the hinge and 0 for the soft margin.
      soft: the soft margin in place of the hinge.
      distance: all-pairs distance, [n, d], [m, d] -> [n, m].
      has_aux: whether to return the share of active anchors too, as `jax.value_and_grad(..., has_aux=True)` expects.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is; see `batch_all_triplet`.
      reduce_fn: `jnp.mean` (over the anchors that have a positive and a negative), `jnp.sum`, or None for per-anchor
        values.

    Returns:
      float scalar, or [n] (of the whole batch); 0 where there is no triplet. With `has_aux`, (that, the share in 0..1
      of these anchors with d_ap + m > d_an).
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    d = distance(c.anchors, c.others)
    d_ap, has_positive = _farthest(d, c.found.positive)
    d_an, has_negative = _nearest(d, c.found.negative)
    return _over_anchors(d_ap - d_an, has_positive & has_negative, margin, soft, has_aux, reduce_fn, c.like)


def easy_positive_triplet(
    embeddings: Array,
    labels: Array | None,
    *,
    margin: Scalar | None = None,
    soft: bool = False,
    distance: PairwiseDistance = distances.pairwise_squared_euclidean,
    semi_hard: bool = False,
    has_aux: bool = False,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Triplet loss of each anchor with its nearest positive, so that a class need not collapse to one point.

    Xuan, Stylianou, Pless: Improved Embeddings with Easy Positive Triplet Mining (2020), section 3;
    https://arxiv.org/abs/1904.04370. The paper's loss is the soft one of inner products over a temperature:
    `soft=True, distance=lambda a, b: -distances.pairwise_dot(a, b) / 0.1`.

    Args:
      embeddings: float [n, d], not normalised here; of unit length in the paper.
      labels: int [n]; None with `pairs`.
      margin: m, in units of the distance; by default 0.2 for the hinge and 0 for the soft margin.
      soft: the soft margin in place of the hinge.
      distance: all-pairs distance, [n, d], [m, d] -> [n, m].
      semi_hard: whether the negative is the nearest one that is farther than the positive (EPSHN; an anchor without one
        does not count); otherwise it is the nearest of all (EPHN).
      has_aux: whether to return the share of active anchors too, as `jax.value_and_grad(..., has_aux=True)` expects.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is; see `batch_all_triplet`.
      reduce_fn: `jnp.mean` (over the anchors that have such a triplet), `jnp.sum`, or None for per-anchor values.

    Returns:
      float scalar, or [n] (of the whole batch); 0 where there is no triplet. With `has_aux`, (that, the share in 0..1
      of these anchors with d_ap + m > d_an).
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    d = distance(c.anchors, c.others)
    d_ap, has_positive = _nearest(d, c.found.positive)
    d_an, has_negative = _nearest(d, c.found.negative & ~(d <= d_ap[:, None]) if semi_hard else c.found.negative)
    return _over_anchors(d_ap - d_an, has_positive & has_negative, margin, soft, has_aux, reduce_fn, c.like)


def _nearest(d, mask):
    return _pick(nearest, d, mask)


def _farthest(d, mask):
    return _pick(farthest, d, mask)


def _pick(choose, d, mask):
    """The chosen one of each row's distances within `mask` [n, n], and whether there is one."""
    return pick(d, choose(lax.stop_gradient(d), mask)), jnp.any(mask, axis=1)


def _over_anchors(gaps, exists, margin, soft, has_aux, reduce_fn, like):
    loss = reduce(penalty(gaps, margin, soft), exists, reduce_fn, like)
    if not has_aux:
        return loss
    gaps = jnp.where(exists, gaps, -jnp.inf)
    active = jnp.where(jnp.isnan(gaps), gaps, gaps + default_margin(margin, soft) > 0)
    return loss, _share(lax.stop_gradient(active), exists)


def _over_triplets(sums, terms, reduce_fn):
    if is_mean(reduce_fn):
        return jnp.sum(sums) / jnp.maximum(jnp.sum(terms), 1)
    return reduce(sums, terms > 0, reduce_fn, sums)


def _share(active, terms):
    return jnp.sum(active) / jnp.maximum(jnp.sum(terms), 1)
