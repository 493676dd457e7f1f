"""Angular loss: the angle at the negative, in the triangle with a positive pair, is bounded by α."""

import math

import jax
import jax.numpy as jnp

from siamjax import distances
from siamjax.losses._candidates import Others, PairMasks, compare
from siamjax.losses._pair_log_sum_exp import pair_log_sum_exp
from siamjax.losses._reduce import reduce
from siamjax.losses._softmax import n_pair
from siamjax.types import Array, ReduceFn, Scalar


def angular(
    embeddings: Array,
    labels: Array | None,
    *,
    alpha: float = 45.0,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Angular loss: log(1 + Σ_n exp(4 t² (a + p)·n − 2 (1 + t²) a·p)), t = tan α, for each positive pair (a, p).

    Wang, Zhou, Wen, Liu, Lin: Deep Metric Learning with Angular Loss (2017), equation 8;
    https://arxiv.org/abs/1708.01682. n runs over all negatives of the pair. No product of pairs and negatives is held:
    memory is O(n²), and O(nm + m²) with
    `others`, in value and gradient.

    Args:
      embeddings: float [n, d], of unit length: the formula leaves out what is constant for these.
      labels: int [n], identities; None with `pairs`.
      alpha: α in degrees, above 0 and below 90; the paper has 36 to 55.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over ordered positive pairs), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where no positive pair counts.

    Raises:
      ValueError: `alpha` is out of range.
    """
    if not 0 < alpha < 90:
        raise ValueError(f"alpha={alpha!r}: it is an angle in degrees, above 0 and below 90")
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    t2 = math.tan(math.radians(alpha)) ** 2
    s = distances.pairwise_dot(c.anchors, c.others)
    x = 4 * t2 * s
    y = x if c.within else 4 * t2 * distances.pairwise_dot(c.others, c.others)
    push, has_negative = pair_log_sum_exp(x, y, c.labels, c.found)
    values = jnp.where(has_negative, jax.nn.softplus(push - 2 * (1 + t2) * s), 0)
    return reduce(values, c.found.positive, reduce_fn, c.like)


def angular_n_pair(
    embeddings: Array,
    labels: Array | None,
    *,
    alpha: float = 45.0,
    angular_weight: Scalar = 1.0,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """N-pair loss plus λ times the angular loss, both over all positive pairs of a batch.

    Wang, Zhou, Wen, Liu, Lin: Deep Metric Learning with Angular Loss (2017), section 3.3;
    https://arxiv.org/abs/1708.01682. See `n_pair` and `angular`.

    Args:
      embeddings: float [n, d], of unit length.
      labels: int [n], identities; None with `pairs`.
      alpha: α in degrees, above 0 and below 90; the paper has 36 to 55.
      angular_weight: λ ≥ 0.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over ordered positive pairs), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where no positive pair counts.

    Raises:
      ValueError: `alpha` is out of range.
    """
    options = {"others": others, "pairs": pairs, "where": where, "axis_name": axis_name, "reduce_fn": reduce_fn}
    return n_pair(embeddings, labels, **options) + angular_weight * angular(embeddings, labels, alpha=alpha, **options)
