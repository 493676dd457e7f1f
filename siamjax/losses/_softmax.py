"""Batch losses in which a positive competes with other items in a softmax: N-pair, NT-Xent, InfoNCE, SupCon, NCA."""

import chex
import jax
import jax.numpy as jnp

from siamjax import distances
from siamjax.labels import identities
from siamjax.losses._candidates import Others, PairMasks, compare, log_sum_exp, masked_mean
from siamjax.losses._reduce import reduce
from siamjax.losses._select import check_positive, selected_rows
from siamjax.mining import candidates
from siamjax.parallel import whole_batch
from siamjax.types import Array, PairwiseDistance, ReduceFn, Scalar


def n_pair_mc(
    anchors: Array,
    positives: Array,
    labels: Array | None = None,
    *,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Multi-class N-pair loss of N given pairs: log(1 + Σ_{j≠i} exp(f_i·f_j⁺ − f_i·f_i⁺)) for each pair i.

    Sohn: Improved Deep Metric Learning with Multi-class N-pair Loss Objective (2016);
    https://papers.nips.cc/paper/6200. The penalty on the embeddings' length that is trained along with it there is left
    to the caller.

    Args:
      anchors: float [n, d], f; not of unit length in the paper.
      positives: float [n, d], f⁺, each of the same identity as the anchor in its row.
      labels: optional int [n], identities; the sum over j leaves out pairs of the same identity. None where the pairs
        are of n different ones.
      where: optional bool [n], the pairs that take part.
      axis_name: the device axis over which the pairs are split, if they are.
      reduce_fn: `jnp.mean` (over the pairs that take part), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n]; 0 where no pair takes part.
    """
    chex.assert_rank([anchors, positives], 2)
    chex.assert_equal_shape([anchors, positives])
    chex.assert_type([anchors, positives], float)
    labels = None if labels is None else identities(labels)
    f, g, labels, where = whole_batch(axis_name, anchors, positives, labels, where)
    labels = jnp.arange(len(f)) if labels is None else labels
    chex.assert_shape(labels, (len(f),))
    f, g = selected_rows(f, where), selected_rows(g, where)
    negative = candidates(labels, where=where).negative
    logits = distances.pairwise_dot(f, g)
    rest, found = log_sum_exp(logits, negative)
    return reduce(_softplus(rest - distances.dot(f, g), found), where, reduce_fn, jnp.result_type(anchors, positives))


def n_pair(
    embeddings: Array,
    labels: Array | None,
    *,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """N-pair loss on a batch: log(1 + Σ_n exp(f_a·f_n − f_a·f_p)) for each positive pair (a, p), n over all negatives.

    Sohn (2016); https://papers.nips.cc/paper/6200. The paper's batches hold two items per class and take one of each as
    negatives, which is `n_pair_mc`; here every positive pair of any batch competes with all negatives of its anchor.

    Args:
      embeddings: float [n, d]; not of unit length in the paper.
      labels: int [n], identities; None with `pairs`.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over ordered positive pairs), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where no positive pair counts.
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    return _each_positive(distances.pairwise_dot(c.anchors, c.others), c.found, reduce_fn, c.like)


def info_nce(
    embeddings: Array,
    labels: Array | None,
    *,
    scale: Scalar = 10.0,
    distance: PairwiseDistance = distances.pairwise_cosine,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Each positive against all negatives: −log(e^(−s d_ap) / (e^(−s d_ap) + Σ_n e^(−s d_an))), scale s.

    Van den Oord, Li, Vinyals: Representation Learning with Contrastive Predictive Coding (2018), equation 4;
    https://arxiv.org/abs/1807.03748; with a distance as the score. The other positives of an anchor are not in the sum,
    so that they do not compete with each other. Adding a constant to the distance changes nothing: under the cosine
    distance the score is the cosine.

    Args:
      embeddings: float [n, d]; of any length for the cosine.
      labels: int [n], identities; None with `pairs`.
      scale: s > 0, the inverse of the temperature; a number or a learned scalar, such as `jnp.exp(log_scale)`.
      distance: function of [n, d] and [m, d] to all-pairs distances d [n, m].
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over ordered positive pairs), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where no positive pair counts.
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    return _each_positive(-scale * distance(c.anchors, c.others), c.found, reduce_fn, c.like)


def ntxent(
    embeddings: Array,
    labels: Array | None,
    *,
    temperature: Scalar = 0.07,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """NT-Xent: −log(exp(cos_ap / τ) / (exp(cos_ap / τ) + Σ_n exp(cos_an / τ))) for each positive pair.

    Chen, Kornblith, Norouzi, Hinton: A Simple Framework for Contrastive Learning of Visual Representations (2020);
    https://arxiv.org/abs/2002.05709. With two items per class it is the paper's; with more, positives do not compete
    with each other, as in `optax.losses.ntxent`, which it equals wherever there is a positive pair. It is `info_nce` of
    the cosine with scale 1/τ.

    Args:
      embeddings: float [n, d], of any length (the formula takes their cosine).
      labels: int [n], identities; None with `pairs`.
      temperature: τ > 0, a number or a scalar array; the paper compares 0.05 to 1.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over ordered positive pairs), `jnp.sum`, or None for per-pair values.

    Returns:
      float scalar, or per-pair values [n, m], m = n without `others`; 0 where no positive pair counts.
    """
    check_positive(temperature=temperature)
    options = {"others": others, "pairs": pairs, "where": where, "axis_name": axis_name, "reduce_fn": reduce_fn}
    return info_nce(embeddings, labels, scale=1 / temperature, **options)


def supervised_contrastive(
    embeddings: Array,
    labels: Array | None,
    *,
    temperature: Scalar = 0.1,
    distance: PairwiseDistance = distances.pairwise_cosine,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """Supervised contrastive loss: −(1/|P|) Σ_{p∈P} log(exp(z_a·z_p / τ) / Σ_{i≠a} exp(z_a·z_i / τ)) for each anchor a.

    Khosla et al.: Supervised Contrastive Learning (2020), equation 2 (the sum over positives P outside the logarithm);
    https://arxiv.org/abs/2004.11362. All positives are in the denominator, so the loss of an anchor with several cannot
    fall below log |P|.

    Args:
      embeddings: float [n, d], of any length: z is brought to unit length by the cosine.
      labels: int [n], identities; None with `pairs`.
      temperature: τ > 0, a number or a scalar array.
      distance: function of [n, d] and [m, d] to all-pairs distances [n, m], the negative of which replaces z_a·z_i.
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the anchors that have a positive), `jnp.sum`, or None for per-anchor values.

    Returns:
      float scalar, or per-anchor values [n]; 0 where no anchor has a positive.
    """
    check_positive(temperature=temperature)
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    logits = distance(c.anchors, c.others) / -temperature
    total, _ = log_sum_exp(logits, c.found.positive | c.found.negative)
    mean = masked_mean(logits, c.found.positive)
    return reduce(total - mean, jnp.any(c.found.positive, axis=1), reduce_fn, c.like)


def nca(
    embeddings: Array,
    labels: Array | None,
    *,
    scale: Scalar = 1.0,
    distance: PairwiseDistance = distances.pairwise_squared_euclidean,
    others: Others | None = None,
    pairs: PairMasks | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """NCA: −log(Σ_p exp(−s d_ap) / Σ_{i≠a} exp(−s d_ai)) for each anchor, scale s.

    Goldberger, Roweis, Hinton, Salakhutdinov: Neighbourhood Components Analysis (2004), the form that maximises the
    probability of correct classification, section 2; https://www.cs.toronto.edu/~hinton/absps/nca.pdf. One near
    positive suffices, so that a class need not collapse to one point.

    Args:
      embeddings: float [n, d], not normalised here, nor in the paper.
      labels: int [n], identities; None with `pairs`.
      scale: s > 0, a number or a learned scalar.
      distance: function of [n, d] and [m, d] to all-pairs distances d [n, m].
      others: optional (embeddings [m, d], labels [m]) to take positives and negatives from: a second tower, a memory.
      pairs: optional masks bool [n, m], (positive, negative), instead of labels: which pairs count.
      where: optional bool [n], the items that take part.
      axis_name: the device axis over which the batch is split, if it is.
      reduce_fn: `jnp.mean` (over the anchors that have a positive), `jnp.sum`, or None for per-anchor values.

    Returns:
      float scalar, or per-anchor values [n]; 0 where no anchor has a positive.
    """
    c = compare(embeddings, labels, others, pairs, where, axis_name)
    logits = -scale * distance(c.anchors, c.others)
    near, has_positive = log_sum_exp(logits, c.found.positive)
    rest, has_negative = log_sum_exp(logits, c.found.negative)
    return reduce(_softplus(rest - near, has_negative), has_positive, reduce_fn, c.like)


def _each_positive(logits, found, reduce_fn, like):
    """Softmax cross-entropy of each positive pair's logit against those of its anchor's negatives."""
    rest, has_negative = log_sum_exp(logits, found.negative)
    return reduce(_softplus(rest[:, None] - logits, has_negative[:, None]), found.positive, reduce_fn, like)


def _softplus(x, where):
    return jnp.where(where, jax.nn.softplus(x), 0)
