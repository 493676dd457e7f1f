"""Losses on given triplets and quadruplets: is the anchor nearer to its positive than to its negative?"""

import chex
import jax
import jax.numpy as jnp

from siamjax import distances
from siamjax.losses._reduce import reduce
from siamjax.losses._select import selected_rows
from siamjax.types import Array, Distance, ReduceFn, Scalar


def triplet_margin(
    anchor: Array,
    positive: Array,
    negative: Array,
    *,
    margin: Scalar | None = None,
    soft: bool = False,
    distance: Distance = distances.euclidean,
    swap: bool = False,
    where: Array | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Triplet loss, as hinge max(0, d_ap − d_an + m) or with the soft margin log(1 + exp(d_ap − d_an + m)).

    Hinge: Schroff, Kalenichenko, Philbin: FaceNet (2015), https://arxiv.org/abs/1503.03832, on squared distances of
    unit vectors. Soft margin: Hermans, Beyer, Leibe: In Defense of the Triplet Loss (2017),
    https://arxiv.org/abs/1703.07737, section 2. Swap: Balntas et al.: Learning local feature descriptors with triplets
    and shallow convolutional neural networks (2016), http://www.bmva.org/bmvc/2016/papers/paper119/.

    Args:
      anchor: float [n, d].
      positive: float [n, d], of the anchors' identities.
      negative: float [n, d], of other identities.
      margin: m, in units of the distance; by default 0.2 for the hinge and 0 for the soft margin.
      soft: the soft margin in place of the hinge.
      distance: paired distance, [n, d], [n, d] -> [n]; `distances.squared_euclidean` for FaceNet's form.
      swap: whether min(d_an, d_pn) takes the place of d_an.
      where: optional bool [n], the triplets that count.
      reduce_fn: `jnp.mean` (over the triplets that count), `jnp.sum`, or None for per-triplet values.

    Returns:
      float scalar, or [n]; 0 where no triplet counts.
    """
    chex.assert_rank([anchor, positive, negative], 2)
    chex.assert_equal_shape([anchor, positive, negative])
    a, p, n = (selected_rows(x, where) for x in (anchor, positive, negative))
    far = distance(a, n)
    if swap:
        far = jnp.minimum(far, distance(p, n))
    like = jnp.result_type(anchor, positive, negative)
    return reduce(penalty(distance(a, p) - far, margin, soft), where, reduce_fn, like)


def quadruplet(
    anchor: Array,
    positive: Array,
    negative: Array,
    other_negative: Array,
    *,
    margin: Scalar = 1.0,
    second_margin: Scalar = 0.5,
    distance: Distance = distances.squared_euclidean,
    where: Array | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Quadruplet loss, also called "quadratic": max(0, d_ap − d_an + α1) + max(0, d_ap − d_no + α2).

    A pair of the same identity is to be nearer than the anchor and a negative, and also than a pair (n, o) that has no
    item in common with it. Chen, Chen, Zhang, Huang: Beyond triplet loss: a deep quadruplet network for person
    re-identification (2017), https://arxiv.org/abs/1704.01719, equation 7; there d is a learned similarity, squared.

    Args:
      anchor: float [n, d].
      positive: float [n, d], of the anchors' identities.
      negative: float [n, d], of other identities.
      other_negative: float [n, d], of identities that are neither the anchors' nor the negatives'.
      margin: α1, in units of the distance.
      second_margin: α2, smaller than α1 since the second term is the weaker constraint.
      distance: paired distance, [n, d], [n, d] -> [n].
      where: optional bool [n], the quadruplets that count.
      reduce_fn: `jnp.mean` (over the quadruplets that count), `jnp.sum`, or None for per-quadruplet values.

    Returns:
      float scalar, or [n]; 0 where no quadruplet counts.
    """
    chex.assert_rank([anchor, positive, negative, other_negative], 2)
    chex.assert_equal_shape([anchor, positive, negative, other_negative])
    a, p, n, o = (selected_rows(x, where) for x in (anchor, positive, negative, other_negative))
    near = distance(a, p)
    first = jax.nn.relu(near - distance(a, n) + margin)
    second = jax.nn.relu(near - distance(n, o) + second_margin)
    return reduce(first + second, where, reduce_fn, jnp.result_type(anchor, positive, negative, other_negative))


def default_margin(margin: Scalar | None, soft: bool) -> Scalar:
    """The margin given, or 0.2 for the hinge and 0 for the soft margin."""
    if margin is not None:
        return margin
    return 0.0 if soft else 0.2


def penalty(gap: jax.Array, margin: Scalar | None, soft: bool) -> jax.Array:
    """Hinge or soft margin of `gap`, d_ap − d_an."""
    gap = gap + default_margin(margin, soft)
    return jax.nn.softplus(gap) if soft else jax.nn.relu(gap)
