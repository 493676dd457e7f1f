"""Losses on given pairs, from their distances or logits: is it the same identity or not?

For all pairs of a batch at once, see the losses called `batch_`.
"""

import chex
import jax
import jax.numpy as jnp
import optax

from siamjax.distances import cosine
from siamjax.labels import sameness
from siamjax.losses._balance import reduce_kinds
from siamjax.losses._reduce import reduce, spoil
from siamjax.losses._select import selected, selected_rows
from siamjax.types import Array, ReduceFn, Scalar


def binary_cross_entropy(
    logits: Array,
    same: Array,
    *,
    label_smoothing: Scalar = 0.0,
    balance: Scalar | None = None,
    where: Array | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Cross-entropy of "same" from logits: log(1 + exp(∓logit)) for same and different pairs.

    Koch, Zemel, Salakhutdinov (2015), section 3.2; https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf.

    Args:
      logits: float array of any shape, log-odds of "same".
      same: bool or {0, 1} array of the same shape, 1 for the same identity.
      label_smoothing: ε in 0..1; the target of a same pair is 1 − ε/2, of a different one ε/2.
      balance: None weighs all pairs equally; a number in 0..1 reduces same and different pairs apart and adds them with
        weights `balance` and 1 − `balance`, however many there are of each. A kind of which there is no pair adds 0.
      where: optional bool array of the same shape, the pairs that count.
      reduce_fn: `jnp.mean` (over the pairs that count), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values (weighed if balanced); 0 where no pair counts.
    """
    chex.assert_equal_shape([logits, same])
    chex.assert_type(logits, float)
    same, wrong = sameness(same, where)
    x = selected(logits, where)
    targets = same.astype(x.dtype) * (1 - label_smoothing) + label_smoothing / 2
    values = spoil(optax.sigmoid_binary_cross_entropy(x, targets), wrong, where)
    return reduce_kinds(values, same, where, reduce_fn, balance, logits)


def balanced_binary_cross_entropy(logits: Array, same: Array, *, where: Array | None = None) -> jax.Array:
    """Cross-entropy of "same" in which same and different pairs weigh the same, however many there are of each.

    `binary_cross_entropy` with `balance=0.5`.

    Args:
      logits: float array of any shape, log-odds of "same".
      same: bool or {0, 1} array of the same shape, 1 for the same identity.
      where: optional bool array of the same shape, the pairs that count.

    Returns:
      float scalar.
    """
    return binary_cross_entropy(logits, same, balance=0.5, where=where)


def exponential_contrastive(
    distances: Array, same: Array, *, q: Scalar = 1.0, where: Array | None = None, reduce_fn: ReduceFn = jnp.mean
) -> jax.Array:
    """Chopra's contrastive loss: (2/Q) E² for same pairs, 2Q exp(−2.77 E / Q) for different ones.

    Chopra, Hadsell, LeCun: Learning a Similarity Metric Discriminatively, with Application to Face Verification
    (2005); http://yann.lecun.com/exdb/publis/pdf/chopra-05.pdf. Its E is the L1 distance, and its Y is 1
    for *different* pairs.

    Args:
      distances: float array of any shape, E ≥ 0.
      same: bool or {0, 1} array of the same shape, 1 for the same identity.
      q: Q > 0, the greatest distance that can occur.
      where: optional bool array of the same shape, the pairs that count.
      reduce_fn: `jnp.mean` (over the pairs that count), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values; 0 where no pair counts.
    """
    d = selected(distances, where)
    pull = 2 / q * jnp.square(d)
    push = 2 * q * jnp.exp(-2.77 / q * d)
    return _pull_or_push(distances, same, pull, push, where, reduce_fn)


def contrastive(
    distances: Array, same: Array, *, margin: Scalar = 1.0, where: Array | None = None, reduce_fn: ReduceFn = jnp.mean
) -> jax.Array:
    """Hadsell's contrastive loss: ½ d² for same pairs, ½ max(0, m − d)² for different ones.

    Hadsell, Chopra, LeCun: Dimensionality Reduction by Learning an Invariant Mapping (2006), equation 4;
    http://yann.lecun.com/exdb/publis/pdf/hadsell-chopra-lecun-06.pdf. Its d is the Euclidean distance (not squared),
    and its Y is 1 for *different* pairs.

    Args:
      distances: float array of any shape, d ≥ 0.
      same: bool or {0, 1} array of the same shape, 1 for the same identity.
      margin: m > 0, the distance beyond which different pairs are left alone.
      where: optional bool array of the same shape, the pairs that count.
      reduce_fn: `jnp.mean` (over the pairs that count), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values; 0 where no pair counts.
    """
    d = selected(distances, where)
    pull = jnp.square(d) / 2
    push = jnp.square(jax.nn.relu(margin - d)) / 2
    return _pull_or_push(distances, same, pull, push, where, reduce_fn)


def double_margin_contrastive(
    distances: Array,
    same: Array,
    *,
    pos_margin: Scalar = 0.5,
    neg_margin: Scalar = 1.0,
    where: Array | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Contrastive loss that also leaves near same pairs alone: ½ max(0, d − m₁)² or ½ max(0, m₂ − d)².

    Lin et al.: DeepHash: Getting Regularization, Depth and Fine-Tuning Right (2015);
    https://arxiv.org/abs/1501.04711. With m₁ = 0 it is `contrastive`. The variant with hinges that are linear in the
    squared distance is `linear_contrastive` of squared distances.

    Args:
      distances: float array of any shape, d ≥ 0.
      same: bool or {0, 1} array of the same shape, 1 for the same identity.
      pos_margin: m₁ ≥ 0, the distance below which same pairs are left alone.
      neg_margin: m₂ > m₁, the distance beyond which different pairs are left alone.
      where: optional bool array of the same shape, the pairs that count.
      reduce_fn: `jnp.mean` (over the pairs that count), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values; 0 where no pair counts.
    """
    d = selected(distances, where)
    pull = jnp.square(jax.nn.relu(d - pos_margin)) / 2
    push = jnp.square(jax.nn.relu(neg_margin - d)) / 2
    return _pull_or_push(distances, same, pull, push, where, reduce_fn)


def linear_contrastive(
    distances: Array,
    same: Array,
    *,
    pos_margin: Scalar = 0.0,
    neg_margin: Scalar = 1.0,
    where: Array | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Contrastive loss with linear hinges: max(0, d − m₊) for same pairs, max(0, m₋ − d) for different ones.

    The form of pytorch-metric-learning's `ContrastiveLoss`;
    https://kevinmusgrave.github.io/pytorch-metric-learning/losses/contrastive_loss/. Its pull does not vanish as same
    pairs come close.

    Args:
      distances: float array of any shape.
      same: bool or {0, 1} array of the same shape, 1 for the same identity.
      pos_margin: m₊, the distance below which same pairs are left alone.
      neg_margin: m₋, the distance beyond which different pairs are left alone.
      where: optional bool array of the same shape, the pairs that count.
      reduce_fn: `jnp.mean` (over the pairs that count), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values; 0 where no pair counts.
    """
    d = selected(distances, where)
    pull, push = jax.nn.relu(d - pos_margin), jax.nn.relu(neg_margin - d)
    return _pull_or_push(distances, same, pull, push, where, reduce_fn)


def cosine_embedding(
    a: Array, b: Array, same: Array, *, margin: Scalar = 0.0, where: Array | None = None, reduce_fn: ReduceFn = jnp.mean
) -> jax.Array:
    """Cosine embedding loss: 1 − cos(a, b) for same pairs, max(0, cos(a, b) − margin) for different ones.

    The form of PyTorch's `CosineEmbeddingLoss`;
    https://docs.pytorch.org/docs/stable/generated/torch.nn.CosineEmbeddingLoss.html.

    Args:
      a, b: float [n, d], embeddings of any length; a zero vector has cosine 0 with all others.
      same: bool or {0, 1} [n], 1 for the same identity.
      margin: −1..1, the cosine below which different pairs are left alone; 0..0.5 are usual.
      where: optional bool [n], the pairs that count.
      reduce_fn: `jnp.mean` (over the pairs that count), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n]; 0 where no pair counts.
    """
    like = jnp.result_type(a, b)
    d = cosine(selected_rows(a, where), selected_rows(b, where))
    return _pull_or_push(d, same, d, jax.nn.relu(1 - d - margin), where, reduce_fn).astype(like)


def pairwise_sigmoid(
    similarities: Array,
    same: Array,
    *,
    t: Scalar = 10.0,
    b: Scalar = -10.0,
    where: Array | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """SigLIP's loss of each pair separately: log(1 + exp(−z (t s + b))), z = 1 for same pairs, −1 for different ones.

    Zhai, Mustafa, Kolesnikov, Beyer: Sigmoid Loss for Language Image Pre-Training (2023), section 3.2;
    https://arxiv.org/abs/2303.15343. For its two towers, `similarities` is the cosine [n, n] of every image with every
    text, `same` the identity matrix, and the sum is divided by n.

    Args:
      similarities: float array of any shape; the paper's are cosines, −1..1.
      same: bool or {0, 1} array of the same shape, 1 for the same identity.
      t: scale > 0, a number or a learned scalar (the paper learns log t, from log 10).
      b: bias, a number or a learned scalar (the paper's start, −10, is for many different pairs to each same one).
      where: optional bool array of the same shape, the pairs that count.
      reduce_fn: `jnp.mean` (over the pairs that count), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values; 0 where no pair counts.
    """
    logits = t * selected(similarities, where) + b
    values = binary_cross_entropy(logits, same, where=where, reduce_fn=reduce_fn)
    return values.astype(jnp.result_type(similarities))


def _pull_or_push(distances, same, pull, push, where, reduce_fn):
    """The loss `pull` of same pairs and `push` of different ones, reduced."""
    chex.assert_equal_shape([distances, same])
    chex.assert_type(distances, float)
    same, wrong = sameness(same, where)
    return reduce(spoil(jnp.where(same, pull, push), wrong, where), where, reduce_fn, distances)
