"""Losses against learned points of each class, given as an argument: proxies, class weights or centres.

Labels are rows of those points, 0..c-1; items that `where` leaves out may have any. A label that is not a row raises
ValueError, or gives NaN under `jit`, where its value is not known. The points' gradient is taken like that of any
parameter; across devices they are whole on each, and the mean of their gradients over the devices is the one-device
gradient.
"""

import functools
import math

import chex
import jax
import jax.numpy as jnp

from siamjax import distances
from siamjax.labels import classes, taking_part
from siamjax.losses._reduce import reduce, spoil
from siamjax.losses._select import check_positive, selected_rows
from siamjax.parallel import whole_batch
from siamjax.rows import pick
from siamjax.types import Array, PairwiseDistance, ReduceFn, Scalar


def proxy_nca(
    embeddings: Array,
    labels: Array,
    proxies: Array,
    *,
    scale: Scalar = 1.0,
    include_positive: bool = False,
    distance: PairwiseDistance = distances.pairwise_squared_euclidean,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Proxy-NCA: −log(exp(−d(x, p_y)) / Σ_{z≠y} exp(−d(x, p_z))).

    Movshovitz-Attias, Toshev, Leung, Ioffe, Singh: No Fuss Distance Metric Learning using Proxies (2017);
    https://arxiv.org/abs/1703.07464. With `include_positive` the sum runs over all proxies, a softmax, as in
    Proxy-NCA++ (Teh, DeVries, Taylor, 2020; https://arxiv.org/abs/2004.01113; with `scale=9`) and in
    pytorch-metric-learning.

    Args:
      embeddings: float [n, d]. The paper's have unit length, and so have its proxies; for the distance of both brought
        to unit length, give `distance=lambda x, p: 2 * distances.pairwise_cosine(x, p)`.
      labels: int [n], 0..c-1.
      proxies: float [c, d], one for each class.
      scale: factor of the distance, > 0.
      include_positive: whether p_y itself is in the sum. If not, the loss may fall below 0, and c must be at least 2.
      distance: function of [n, d] and [c, d] to distances [n, c].
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the items that take part), `jnp.sum`, or None for per-item values.

    Returns:
      float scalar, or per-item values [n]; 0 where no item takes part.

    Raises:
      ValueError: there is one proxy only, and it is left out of the sum.
    """
    x, labels, where, p, like = _whole_batch(axis_name, embeddings, labels, proxies, where)
    logits = -scale * distance(x, p)
    own = _own_class(labels, logits)
    if include_positive:
        return _reduce_items(_cross_entropy(logits, own), labels, where, reduce_fn, like)
    if len(proxies) < 2:
        raise ValueError("proxies: only 1 class, but without `include_positive` the sum needs another one")
    others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=1)
    return _reduce_items(others - jnp.sum(jnp.where(own, logits, 0), axis=1), labels, where, reduce_fn, like)


def proxy_anchor(
    embeddings: Array,
    labels: Array,
    proxies: Array,
    *,
    delta: Scalar = 0.1,
    alpha: Scalar = 32.0,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Proxy-Anchor: mean over P⁺ of log(1 + Σ_{x∈X⁺} e^{−α(s−δ)}) + mean over P of log(1 + Σ_{x∈X⁻} e^{α(s+δ)}).

    Kim, Kim, Cho, Kwak: Proxy Anchor Loss for Deep Metric Learning (2020), equation 4;
    https://arxiv.org/abs/2003.13911. s is the cosine of item and proxy, P all proxies, P⁺ those whose class is in the
    batch, X⁺ and X⁻ a proxy's items of its own class and of others.

    Args:
      embeddings: float [n, d], of any length (the formula takes the cosine).
      labels: int [n], 0..c-1.
      proxies: float [c, d], one for each class, of any length.
      delta: δ ≥ 0, the margin, in cosine.
      alpha: α > 0, the scale.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over P⁺ and over P, then added), `jnp.sum`, or None for per-proxy values, both logarithms
        added.

    Returns:
      float scalar, or per-proxy values [c]; 0 where no item takes part.
    """
    x, labels, where, p, like = _whole_batch(axis_name, embeddings, labels, proxies, where)
    s = 1 - distances.pairwise_cosine(x, p)
    positive = _own_class(labels, s)
    counts = jnp.broadcast_to(where[:, None], positive.shape)
    pull = _log_one_plus_sum_exp(-alpha * (s - delta), counts & positive)
    push = _log_one_plus_sum_exp(alpha * (s + delta), counts & ~positive)
    # An item of no class would be a negative of every proxy: it makes all of them NaN.
    push = spoil(push, jnp.broadcast_to(jnp.any(where & (labels < 0)), push.shape), None)
    with_positive = jnp.any(counts & positive, axis=0)
    return (reduce(pull, with_positive, reduce_fn, s) + reduce(push, None, reduce_fn, s)).astype(like)


def arcface(
    embeddings: Array,
    labels: Array,
    weights: Array,
    *,
    m: Scalar = 0.5,
    s: Scalar = 64.0,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """ArcFace: cross-entropy of the softmax over s cos θ_j, with s cos(θ_y + m) for the item's own class.

    Deng, Guo, Xue, Zafeiriou: ArcFace: Additive Angular Margin Loss for Deep Face Recognition (2019), equation 3;
    https://arxiv.org/abs/1801.07698. θ_j is the angle of item and weight j. Beyond θ_y = π − m, where cos(θ_y + m)
    would rise again, the authors' code takes cos θ_y − m sin m, and so does this.

    Args:
      embeddings: float [n, d], of any length (the formula takes the cosine).
      labels: int [n], 0..c-1.
      weights: float [c, d], one for each class, of any length.
      m: margin, in radians, 0..π.
      s: scale > 0.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the items that take part), `jnp.sum`, or None for per-item values.

    Returns:
      float scalar, or per-item values [n]; 0 where no item takes part.
    """
    with_margin = functools.partial(_angular_margin, m=m)
    return _margin_softmax(embeddings, labels, weights, with_margin, s, where, axis_name, reduce_fn)


def cosface(
    embeddings: Array,
    labels: Array,
    weights: Array,
    *,
    m: Scalar = 0.35,
    s: Scalar = 64.0,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """CosFace: cross-entropy of the softmax over s cos θ_j, with s (cos θ_y − m) for the item's own class.

    Wang et al.: CosFace: Large Margin Cosine Loss for Deep Face Recognition (2018), equation 4;
    https://arxiv.org/abs/1801.09414. With m = 0 it is the normalised softmax.

    Args:
      embeddings: float [n, d], of any length (the formula takes the cosine).
      labels: int [n], 0..c-1.
      weights: float [c, d], one for each class, of any length.
      m: margin, in cosine, ≥ 0.
      s: scale > 0.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the items that take part), `jnp.sum`, or None for per-item values.

    Returns:
      float scalar, or per-item values [n]; 0 where no item takes part.
    """

    def with_margin(x, w, cosine):
        return cosine - m

    return _margin_softmax(embeddings, labels, weights, with_margin, s, where, axis_name, reduce_fn)


def sub_center_arcface(
    embeddings: Array,
    labels: Array,
    centers: Array,
    *,
    m: Scalar = 0.5,
    s: Scalar = 64.0,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Sub-centre ArcFace: `arcface` in which a class's cosine is that of the nearest of its k centres.

    Deng, Guo, Liu, Gong, Zafeiriou: Sub-center ArcFace: Boosting Face Recognition by Large-scale Noisy Web Faces
    (2020), equation 3; https://www.ecva.net/papers/eccv_2020/papers_ECCV/papers/123560715.pdf. Mislabelled items
    gather about centres of their own.

    Args:
      embeddings: float [n, d], of any length (the formula takes the cosine).
      labels: int [n], 0..c-1.
      centers: float [c, k, d], of any length; the paper has k = 3.
      m: margin, in radians, 0..π.
      s: scale > 0.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the items that take part), `jnp.sum`, or None for per-item values.

    Returns:
      float scalar, or per-item values [n]; 0 where no item takes part.
    """
    chex.assert_rank(centers, 3)
    with_margin = functools.partial(_angular_margin, m=m)
    return _margin_softmax(embeddings, labels, centers, with_margin, s, where, axis_name, reduce_fn)


def sphereface(
    embeddings: Array,
    labels: Array,
    weights: Array,
    *,
    m: int = 4,
    s: Scalar = 1.0,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """SphereFace: cross-entropy of the softmax over s |x| cos θ_j, with s |x| ψ(θ_y) for the item's own class.

    Liu, Wen, Yu, Li, Raj, Song: SphereFace: Deep Hypersphere Embedding for Face Recognition (2017), equation 7;
    https://arxiv.org/abs/1704.08063. ψ(θ) = (−1)^k cos(mθ) − 2k for θ in [kπ/m, (k + 1)π/m], which falls from 1 to
    1 − 2m.

    Args:
      embeddings: float [n, d]; their length |x| counts.
      labels: int [n], 0..c-1.
      weights: float [c, d], one for each class, of any length.
      m: factor of the angle, a whole number of 1 or more.
      s: scale > 0.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the items that take part), `jnp.sum`, or None for per-item values.

    Returns:
      float scalar, or per-item values [n]; 0 where no item takes part.

    Raises:
      ValueError: `m` is not a whole number of 1 or more.
    """
    if m != int(m) or m < 1:
        raise ValueError(f"m={m!r}: it multiplies an angle, and must be a whole number of 1 or more")

    def with_margin(x, w, cosine):
        # cos(mθ) is a polynomial of the cosine, Chebyshev's, whose gradient is finite everywhere.
        before, of_multiple = jnp.ones_like(cosine), cosine
        for _ in range(int(m) - 1):
            before, of_multiple = of_multiple, 2 * cosine * of_multiple - before
        k = sum((cosine < math.cos(i * math.pi / m)).astype(cosine.dtype) for i in range(1, int(m)))
        return (1 - 2 * (k % 2)) * of_multiple - 2 * k

    return _margin_softmax(embeddings, labels, weights, with_margin, s, where, axis_name, reduce_fn, of_length=True)


def soft_triple(
    embeddings: Array,
    labels: Array,
    centers: Array,
    *,
    lam: Scalar = 20.0,
    delta: Scalar = 0.01,
    gamma: Scalar = 0.1,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """SoftTriple: cross-entropy of the softmax over λ (S_j − δ [j = y]), S_j = Σ_k softmax_k(cos_jk / γ) cos_jk.

    Qian et al.: SoftTriple Loss: Deep Metric Learning Without Triplet Sampling (2019);
    https://arxiv.org/abs/1909.05235. S_j is the similarity to class j, softly that to the nearest of its k centres.
    The paper adds 0.2 × `soft_triple_regularizer(centers)`, which lets a class have fewer centres.

    Args:
      embeddings: float [n, d], of any length (the formula takes the cosine).
      labels: int [n], 0..c-1.
      centers: float [c, k, d], of any length; the paper has k = 10.
      lam: λ > 0, the scale.
      delta: δ ≥ 0, the margin, in cosine.
      gamma: γ > 0, the temperature among a class's centres.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the items that take part), `jnp.sum`, or None for per-item values.

    Returns:
      float scalar, or per-item values [n]; 0 where no item takes part.
    """
    chex.assert_rank(centers, 3)
    x, labels, where, _, like = _whole_batch(axis_name, embeddings, labels, centers[:, 0], where)
    (points,) = distances.widen(centers.reshape(-1, centers.shape[-1]))
    cosine = (1 - distances.pairwise_cosine(x, points)).reshape(len(x), *centers.shape[:2])
    check_positive(gamma=gamma)
    similarities = jnp.sum(jax.nn.softmax(cosine / gamma, axis=2) * cosine, axis=2)
    own = _own_class(labels, similarities)
    return _reduce_items(_cross_entropy(lam * (similarities - delta * own), own), labels, where, reduce_fn, like)


def soft_triple_regularizer(centers: Array) -> jax.Array:
    """SoftTriple's regulariser: Σ_j Σ_{t<s} √(2 − 2 cos(w_jt, w_js)) / (c k (k − 1)), which draws centres together.

    Qian et al. (2019); https://arxiv.org/abs/1909.05235. The root is the distance of the centres
    brought to unit length.

    Args:
      centers: float [c, k, d], of any length.

    Returns:
      float scalar; 0 if k is 1.
    """
    chex.assert_rank(centers, 3)
    classes, k, _ = centers.shape
    (wide,) = distances.widen(centers)
    unit = distances.unit(wide)
    apart = jax.vmap(distances.pairwise_euclidean)(unit, unit)
    once = jnp.broadcast_to(jnp.triu(jnp.ones((k, k), dtype=bool), 1), apart.shape)
    return (jnp.sum(jnp.where(once, apart, 0)) / max(classes * k * (k - 1), 1)).astype(jnp.result_type(centers))


def _angular_margin(x, w, cosine, m):
    """cos(θ + m), and beyond θ = π − m, cos θ − m sin m."""
    # The sine comes from the part of x at right angles to w: 1 − cos² would lose it where the two nearly agree.
    sine = distances.euclidean(x, cosine[:, None] * w)
    return jnp.where(cosine >= -jnp.cos(m), cosine * jnp.cos(m) - sine * jnp.sin(m), cosine - m * jnp.sin(m))


def _margin_softmax(embeddings, labels, weights, with_margin, s, where, axis_name, reduce_fn, of_length: bool = False):
    """Cross-entropy over s cos θ_j, where `with_margin(x, w_y, cos θ_y)` replaces the item's own cos θ_y; over
    s |x| cos θ_j if `of_length`. Weights are [c, d], or [c, k, d], of which the nearest counts."""
    centers = weights[:, None] if weights.ndim == 2 else weights
    x, labels, where, _, like = _whole_batch(axis_name, embeddings, labels, centers[:, 0], where)
    (w,) = distances.widen(centers.reshape(-1, centers.shape[-1]))
    length = distances.euclidean(x, jnp.zeros_like(x))[:, None] if of_length else 1
    x, w = distances.unit(x), distances.unit(w)
    cosines = distances.pairwise_dot(x, w).reshape(len(x), *centers.shape[:2])
    nearest = jnp.argmax(cosines, axis=2)
    own_center = labels * centers.shape[1] + pick(nearest, labels)
    cosines, w_own = jnp.take_along_axis(cosines, nearest[:, :, None], axis=2)[:, :, 0], w[own_center]
    own = _own_class(labels, cosines)
    target = with_margin(x, w_own, distances.dot(x, w_own))
    values = _cross_entropy(s * length * jnp.where(own, target[:, None], cosines), own)
    return _reduce_items(values, labels, where, reduce_fn, like)


def _cross_entropy(logits, own):
    """−log softmax of each row's own class, 0 for a row without one."""
    return -jnp.sum(jnp.where(own, jax.nn.log_softmax(logits, axis=1), 0), axis=1)


def _log_one_plus_sum_exp(x, where):
    """Column-wise log(1 + Σ exp) over the selected."""
    x = jnp.where(where, x, -jnp.inf)
    return jax.nn.logsumexp(jnp.concatenate([x, jnp.zeros((1, x.shape[1]), x.dtype)]), axis=0)


def _own_class(labels, scores):
    """bool [n, c]: which of the classes that `scores` [n, c] is over is the item's own."""
    return labels[:, None] == jnp.arange(scores.shape[1])[None, :]


def _whole_batch(axis_name, embeddings, labels, points, where):
    """This device's share of a batch, checked -> the whole batch's embeddings, labels (−1 for no class) and where, and
    the points; both sets as what is computed with (see `selected_rows`), and the type of the result."""
    labels = classes(labels, len(points), where)
    chex.assert_rank([embeddings, labels, points], [2, 1, 2])
    chex.assert_equal_shape_prefix([embeddings, labels], 1)
    chex.assert_equal_shape_suffix([embeddings, points], 1)
    chex.assert_type([embeddings, points], float)
    like = jnp.result_type(embeddings, points)
    x, labels, where = whole_batch(axis_name, embeddings, labels, taking_part(where, labels.shape))
    return selected_rows(x, where), labels, where, *distances.widen(points), like


def _reduce_items(values, labels, where, reduce_fn, like):
    """Reduces per-item values; what takes part and is of no class is NaN."""
    return reduce(spoil(values, labels < 0, where), where, reduce_fn, like)
