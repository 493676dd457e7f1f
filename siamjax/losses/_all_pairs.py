"""Pair losses on all pairs of two different items of a batch.

Each takes (embeddings [n, d], labels [n]) and compares every item with every other one, never with itself; or with
`others`.
Where a loss is a mean over pairs, `balance` weights same against different pairs, of which a batch has many more.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from siamjax import distances
from siamjax.losses import _pair as pair
from siamjax.losses._balance import reduce_kinds
from siamjax.losses._candidates import Others, PairMasks, compare, log_sum_exp
from siamjax.losses._reduce import reduce
from siamjax.types import Array, PairwiseDistance, ReduceFn, Scalar


def batch_exponential_contrastive(
    embeddings: Array,
    labels: Array | None,
    *,
    q: Scalar = 1.0,
    balance: Scalar = 0.5,
    distance: PairwiseDistance = distances.pairwise_l1,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Chopra's contrastive loss on all pairs of a batch: (2/Q) E² for same, 2Q exp(−2.77 E / Q) for different ones.

    Chopra, Hadsell, LeCun (2005); http://yann.lecun.com/exdb/publis/pdf/chopra-05.pdf. See `exponential_contrastive`.

    Args:
      embeddings: float [n, d].
      labels: int [n], identities; None with `pairs`.
      q: Q > 0, the greatest distance that can occur.
      balance: weight 0..1 of the same pairs' mean, different ones get the rest; None takes the mean over all pairs.
      distance: function of [n, d] and [m, d] to all-pairs distances E [n, m], at least 0.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over ordered pairs), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where no pair counts.
    """
    pair_loss = functools.partial(pair.exponential_contrastive, q=q)
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    return _on_all_pairs(pair_loss, c, distance, balance, reduce_fn)


def batch_contrastive(
    embeddings: Array,
    labels: Array | None,
    *,
    margin: Scalar = 1.0,
    balance: Scalar = 0.5,
    active_only: bool = False,
    distance: PairwiseDistance = distances.pairwise_euclidean,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Hadsell's contrastive loss on all pairs of a batch: ½ d² for same pairs, ½ max(0, m − d)² for different ones.

    Hadsell, Chopra, LeCun (2006); http://yann.lecun.com/exdb/publis/pdf/hadsell-chopra-lecun-06.pdf. See
    `contrastive`.

    Args:
      embeddings: float [n, d]; usually of unit length, without which a margin has no fixed scale.
      labels: int [n], identities; None with `pairs`.
      margin: m > 0, the distance beyond which different pairs are left alone.
      balance: weight 0..1 of the same pairs' mean, different ones get the rest; None takes the mean over all pairs.
      active_only: whether only pairs with a loss above 0 count; such a mean hides progress, since pairs that are
        learned drop out.
      distance: function of [n, d] and [m, d] to all-pairs distances [n, m], at least 0.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over ordered pairs), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where no pair counts.
    """
    pair_loss = functools.partial(pair.contrastive, margin=margin)
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    return _on_all_pairs(pair_loss, c, distance, balance, reduce_fn, active_only)


def batch_double_margin_contrastive(
    embeddings: Array,
    labels: Array | None,
    *,
    pos_margin: Scalar = 0.5,
    neg_margin: Scalar = 1.0,
    balance: Scalar = 0.5,
    active_only: bool = False,
    distance: PairwiseDistance = distances.pairwise_euclidean,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Double-margin contrastive loss on all pairs of a batch: ½ max(0, d − m₁)² or ½ max(0, m₂ − d)².

    Lin et al. (2015); https://arxiv.org/abs/1501.04711. See `double_margin_contrastive`.

    Args:
      embeddings: float [n, d]; usually of unit length, without which a margin has no fixed scale.
      labels: int [n], identities; None with `pairs`.
      pos_margin: m₁ ≥ 0, the distance below which same pairs are left alone.
      neg_margin: m₂ > m₁, the distance beyond which different pairs are left alone.
      balance: weight 0..1 of the same pairs' mean, different ones get the rest; None takes the mean over all pairs.
      active_only: whether only pairs with a loss above 0 count; such a mean hides progress, since pairs that are
        learned drop out.
      distance: function of [n, d] and [m, d] to all-pairs distances [n, m].
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over ordered pairs), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where no pair counts.
    """
    pair_loss = functools.partial(pair.double_margin_contrastive, pos_margin=pos_margin, neg_margin=neg_margin)
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    return _on_all_pairs(pair_loss, c, distance, balance, reduce_fn, active_only)


def batch_linear_contrastive(
    embeddings: Array,
    labels: Array | None,
    *,
    pos_margin: Scalar = 0.0,
    neg_margin: Scalar = 1.0,
    balance: Scalar = 0.5,
    active_only: bool = False,
    distance: PairwiseDistance = distances.pairwise_euclidean,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Linear contrastive loss on all pairs of a batch: max(0, d − m₊) for same, max(0, m₋ − d) for different ones.

    Twice this, of embeddings of unit length, is pytorch-metric-learning's `ContrastiveLoss` with `MeanReducer`,
    or with `active_only` as it is by default. See `linear_contrastive`.

    Args:
      embeddings: float [n, d]; usually of unit length, without which a margin has no fixed scale.
      labels: int [n], identities; None with `pairs`.
      pos_margin: m₊, the distance below which same pairs are left alone.
      neg_margin: m₋, the distance beyond which different pairs are left alone.
      balance: weight 0..1 of the same pairs' mean, different ones get the rest; None takes the mean over all pairs.
      active_only: whether only pairs with a loss above 0 count; such a mean hides progress, since pairs that are
        learned drop out.
      distance: function of [n, d] and [m, d] to all-pairs distances [n, m].
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over ordered pairs), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where no pair counts.
    """
    pair_loss = functools.partial(pair.linear_contrastive, pos_margin=pos_margin, neg_margin=neg_margin)
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    return _on_all_pairs(pair_loss, c, distance, balance, reduce_fn, active_only)


def batch_cosine_embedding(
    embeddings: Array,
    labels: Array | None,
    *,
    margin: Scalar = 0.0,
    balance: Scalar = 0.5,
    active_only: bool = False,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Cosine embedding loss on all pairs of a batch: 1 − cos for same, max(0, cos − margin) for different ones.

    The form of PyTorch's `CosineEmbeddingLoss`;
    https://docs.pytorch.org/docs/stable/generated/torch.nn.CosineEmbeddingLoss.html. See `cosine_embedding`.

    Args:
      embeddings: float [n, d], of any length.
      labels: int [n], identities; None with `pairs`.
      margin: −1..1, the cosine below which different pairs are left alone; 0..0.5 are usual.
      balance: weight 0..1 of the same pairs' mean, different ones get the rest; None takes the mean over all pairs.
      active_only: whether only pairs with a loss above 0 count; such a mean hides progress, since pairs that are
        learned drop out.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over ordered pairs), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where no pair counts.
    """
    pair_loss = functools.partial(pair.linear_contrastive, pos_margin=0, neg_margin=1 - margin)
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    return _on_all_pairs(pair_loss, c, distances.pairwise_cosine, balance, reduce_fn, active_only)


def batch_pairwise_sigmoid(
    embeddings: Array,
    labels: Array | None,
    *,
    t: Scalar = 10.0,
    b: Scalar = -10.0,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """SigLIP's loss on all pairs of a batch: (1/n) Σ_i Σ_{j≠i} log(1 + exp(−z_ij (t cos_ij + b))), z = ±1.

    Zhai, Mustafa, Kolesnikov, Beyer (2023); https://arxiv.org/abs/2303.15343; here with one tower, and z = 1 for all
    pairs of one identity. See `pairwise_sigmoid`, also for two towers.

    Args:
      embeddings: float [n, d], of any length (the formula takes their cosine).
      labels: int [n], identities; None with `pairs`.
      t: scale > 0, a number or a learned scalar.
      b: bias, a number or a learned scalar.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the items that take part, of each one's sum over the others), `jnp.sum`, or None for
        per-item values.

    Returns:
      float scalar, or per-item values [n]; 0 where no pair counts.
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    similarities = 1 - distances.pairwise_cosine(c.anchors, c.others)
    counts = c.found.positive | c.found.negative
    values = pair.pairwise_sigmoid(similarities, c.found.positive, t=t, b=b, where=counts, reduce_fn=None)
    return reduce(jnp.sum(values, axis=1), c.where, reduce_fn, c.like)


def circle(
    embeddings: Array,
    labels: Array | None,
    *,
    m: Scalar = 0.4,
    gamma: Scalar = 80.0,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Circle loss on a batch: log(1 + Σ_n exp(γ α_n (s_n − Δ_n)) Σ_p exp(−γ α_p (s_p − Δ_p))) for each anchor.

    Sun et al.: Circle Loss: A Unified Perspective of Pair Similarity Optimization (2020);
    https://arxiv.org/abs/2002.10857. s is the cosine, Δ_p = 1 − m, Δ_n = m, and the weights α_p = max(0, 1 + m − s_p),
    α_n = max(0, s_n + m) are held constant in the gradient, as in the paper.

    Args:
      embeddings: float [n, d], of any length (the formula takes their cosine).
      labels: int [n], identities; None with `pairs`.
      m: relaxation, −1..1; the paper has 0.4 for image retrieval, 0.25 for faces and re-identification.
      gamma: scale > 0; the paper has 80 for image retrieval, 256 for faces, 128 for re-identification.
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
    s = 1 - distances.pairwise_cosine(c.anchors, c.others)
    alpha_p = lax.stop_gradient(jax.nn.relu(1 + m - s))
    alpha_n = lax.stop_gradient(jax.nn.relu(s + m))
    pull, has_positive = log_sum_exp(-gamma * alpha_p * (s - (1 - m)), c.found.positive)
    push, has_negative = log_sum_exp(gamma * alpha_n * (s - m), c.found.negative)
    return reduce(jax.nn.softplus(pull + push), has_positive & has_negative, reduce_fn, c.like)


def _on_all_pairs(pair_loss, c, distance, balance, reduce_fn, active_only=False):
    """`pair_loss` of all pairs that count, reduced."""
    values = pair_loss(distance(c.anchors, c.others), c.found.positive, reduce_fn=None)
    counts = c.found.positive | c.found.negative
    if active_only:
        counts &= ~(values <= 0)  # NaN counts, too
    return reduce_kinds(values, c.found.positive, counts, reduce_fn, balance, c.like)
