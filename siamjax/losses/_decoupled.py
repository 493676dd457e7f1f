"""Softmax losses whose positives are apart from the sum: decoupled contrastive, and centroids (GE2E)."""

import jax
import jax.numpy as jnp

from siamjax import distances
from siamjax.losses._candidates import Others, PairMasks, compare, log_sum_exp
from siamjax.losses._reduce import reduce
from siamjax.losses._select import check_positive
from siamjax.types import Array, ReduceFn, Scalar


def decoupled_contrastive(
    embeddings: Array,
    labels: Array | None,
    *,
    temperature: Scalar = 0.1,
    sigma: Scalar | None = None,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Decoupled contrastive loss (DCL): −w_ap cos_ap / τ + log Σ_n exp(cos_an / τ) for each positive pair.

    Yeh, Hong, Hsu, Liu, Chen, LeCun: Decoupled Contrastive Learning (2021), equations 5 and 6;
    https://arxiv.org/abs/2110.06848. It is `ntxent` without the positive in the denominator, which slows learning in
    small batches. With `sigma` it is DCLW: w_ap = 2 − exp(cos_ap / σ) / mean over positive pairs of exp(cos / σ), which
    favours distant positives; without, w = 1. It may fall below 0.

    Args:
      embeddings: float [n, d], of any length (the formula takes their cosine).
      labels: int [n], identities; None with `pairs`.
      temperature: τ > 0, a number or a scalar array.
      sigma: σ > 0, the paper has 0.5; None weighs all positive pairs equally.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over ordered positive pairs whose anchor has a negative), `jnp.sum`, or None for per-pair
        values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where there is no such pair.
    """
    check_positive(temperature=temperature, sigma=1 if sigma is None else sigma)
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    cosine = 1 - distances.pairwise_cosine(c.anchors, c.others)
    rest, has_negative = log_sum_exp(cosine / temperature, c.found.negative)
    counts = c.found.positive & has_negative[:, None]
    weights = jnp.ones_like(cosine)
    if sigma is not None:
        powers = jnp.exp((cosine - 1) / sigma)
        mean = reduce(powers, counts, jnp.mean, powers)
        weights = 2 - powers / jnp.where(mean <= 0, 1, mean)
    return reduce(rest[:, None] - weights * cosine / temperature, counts, reduce_fn, c.like)


def ge2e(
    embeddings: Array,
    labels: Array | None,
    *,
    w: Scalar = 10.0,
    b: Scalar = -5.0,
    contrast: bool = False,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Generalized end-to-end loss: −S_a + log(exp S_a + Σ_k exp S_ak), S = w cos(e_a, c) + b, for each anchor a.

    Wan, Wang, Papir, Lopez Moreno: Generalized End-to-End Loss for Speaker Verification (2018), equations 6 and 7;
    https://arxiv.org/abs/1710.10467. c is the mean of a class brought to unit length item by item; that of the anchor's
    own class leaves the anchor out, and k are the other classes. With `contrast`: 1 − σ(S_a) + max_k σ(S_ak).

    Args:
      embeddings: float [n, d], of any length (brought to unit length here).
      labels: int [n], identities; None with `pairs`.
      w: scale > 0, a number or a learned scalar.
      b: a number or a learned scalar; of no effect without `contrast`.
      contrast: the contrast form, for verification that does not depend on the text; otherwise the softmax.
      others: optional (embeddings [m, d], labels [m]) whose means are the centroids: enrolled utterances.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: an anchor's centroid is the mean of
        its positives, and each negative is a class of its own.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the anchors that have both a positive and a negative), `jnp.sum`, or None for
        per-anchor values.

    Returns:
      float scalar, or per-anchor values [n]; 0 where no anchor has both.
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    e, items = distances.unit(c.anchors), distances.unit(c.others)
    centroids, size = items, jnp.ones((len(items),), items.dtype)
    if c.labels is not None:
        of_class = (c.labels[1][:, None] == c.labels[1][None, :]) & c.used[1][None, :]
        size = jnp.maximum(jnp.sum(of_class, axis=1), 1).astype(items.dtype)
        centroids = _means(of_class, items)
    own = w * (1 - distances.cosine(e, _means(c.found.positive, items))) + b
    apart = w * (1 - distances.pairwise_cosine(e, centroids)) + b
    # A class's centroid is there once for each of its items.
    rest, has_negative = log_sum_exp(apart - jnp.log(size)[None, :], c.found.negative)
    values = jax.nn.softplus(rest - own)
    if contrast:
        nearest = jnp.max(jnp.where(c.found.negative, jax.nn.sigmoid(apart), 0), axis=1, initial=0)
        values = 1 - jax.nn.sigmoid(own) + nearest
    return reduce(values, jnp.any(c.found.positive, axis=1) & has_negative, reduce_fn, c.like)


def _means(mask, items):
    """The mean of the items [m, d] in each row of `mask` [n, m]; 0 for a row without any."""
    return distances.pairwise_dot(mask.astype(items.dtype), items.T) / jnp.maximum(jnp.sum(mask, axis=1), 1)[:, None]
