"""Pairs chosen by how hard they are, as masks over all pairs."""

import jax.numpy as jnp
from jax import lax

from siamjax.mining._candidates import Labels, Pairs, hardness, prepare, share, unless_unknown
from siamjax.mining._triplets import check_k
from siamjax.types import Array, Scalar


def multi_similarity(distances: Array, labels: Labels, *, epsilon: Scalar = 0.1, where: Array | None = None) -> Pairs:
    """The pairs that a triplet of their anchor ranks wrongly, or correctly by less than ε.

    Negatives with d_an < max_p d_ap + ε and positives with d_ap > min_n d_an − ε. Wang, Han, Huang, Dong, Scott:
    Multi-Similarity Loss with General Pair Weighting (2019), section 4.1; https://arxiv.org/abs/1904.06627. The paper
    writes it with cosines, which gives the same pairs as the cosine distance.

    Args:
      distances: float [n, m], smaller is more alike.
      labels: int [n], or the `Candidates` [n, m] of each anchor.
      epsilon: in units of the distance.
      where: bool [n], which items of the batch take part; None for all.

    Returns:
      `Pairs` [n, m]; of an anchor without positives, or without negatives, none.
    """
    distances, found = prepare(distances, labels, where)
    positive, negative = _violating(distances, found, epsilon)
    return Pairs(positive=positive, negative=negative, active_share=_active_share(distances, found, epsilon))


def hardest_pairs(
    distances: Array, labels: Labels, *, k: int, margin: float = 0.2, where: Array | None = None
) -> Pairs:
    """Each anchor's k farthest positives and k nearest negatives, or as many as it has.

    Args:
      distances: float [n, m], smaller is more alike.
      labels: int [n], or the `Candidates` [n, m] of each anchor.
      k: pairs of each kind per anchor, 1 to m.
      margin: in units of the distance; only `active_share` depends on it.
      where: bool [n], which items of the batch take part; None for all.

    Returns:
      `Pairs` [n, m].

    Raises:
      ValueError: `k` is not within 1 to m.
    """
    distances, found = prepare(distances, labels, where)
    check_k(k, distances)
    return Pairs(
        positive=_top(distances, found.positive, k),
        negative=_top(-distances, found.negative, k),
        active_share=_active_share(distances, found, margin),
    )


def _top(scores, mask, k):
    _, column = lax.top_k(jnp.where(mask, hardness(scores), -jnp.inf), k)
    rows = jnp.arange(len(mask))[:, None]
    return jnp.zeros_like(mask).at[rows, column].set(True) & mask


def _violating(distances, found, margin):
    farthest = jnp.max(jnp.where(found.positive, distances, -jnp.inf), axis=1, keepdims=True, initial=-jnp.inf)
    nearest = jnp.min(jnp.where(found.negative, distances, jnp.inf), axis=1, keepdims=True, initial=jnp.inf)
    complete = jnp.any(found.positive, axis=1, keepdims=True) & jnp.any(found.negative, axis=1, keepdims=True)
    positive, negative = found.positive & complete, found.negative & complete
    # NaN violates, too.
    return positive & ~(nearest - distances >= margin), negative & ~(distances - farthest >= margin)


def _active_share(distances, found, margin):
    positive, negative = _violating(distances, found, margin)
    active = unless_unknown(jnp.sum(positive | negative, axis=1), distances, found)
    return share(active, jnp.sum(found.positive | found.negative, axis=1), distances.dtype)
