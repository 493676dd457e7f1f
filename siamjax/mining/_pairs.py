"""Pairs chosen by how hard they are, as masks over all pairs."""

from typing import Literal, get_args

import jax.numpy as jnp
from jax import lax

from siamjax import rows
from siamjax.mining._candidates import Labels, Pairs, hardness, prepare, share, unless_unknown
from siamjax.mining._triplets import check_k
from siamjax.types import Array, Scalar

Strategy = Literal["easy", "semi_hard", "hard", "all"]


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


def easy_hard(
    distances: Array,
    labels: Labels,
    *,
    positives: Strategy = "easy",
    negatives: Strategy = "semi_hard",
    positive_range: tuple[float, float] | None = None,
    negative_range: tuple[float, float] | None = None,
    margin: Scalar = 0.2,
    where: Array | None = None,
) -> Pairs:
    """One positive and one negative of each anchor, or all of either kind, each by its own strategy.

    Xuan, Stylianou, Pless: Improved Embeddings with Easy Positive Triplet Mining (2020);
    https://arxiv.org/abs/1904.04370. As `pairs=` of `batch_all_triplet`, it gives one triplet per anchor.

    Args:
      distances: float [n, m], smaller is more alike.
      labels: int [n], or the `Candidates` [n, m] of each anchor.
      positives: "easy", the nearest; "hard", the farthest; "semi_hard", the farthest of those nearer than the chosen
        negative; or "all".
      negatives: "easy", the farthest; "hard", the nearest; "semi_hard", the nearest of those farther than the chosen
        positive; or "all".
      positive_range: distances (least, most) of the positives to choose from; None for any. "all" ignores it.
      negative_range: likewise for the negatives.
      margin: the loss's margin, in units of the distance; only `active_share` depends on it.
      where: bool [n], which items of the batch take part; None for all.

    Returns:
      `Pairs` [n, m]. Unless one of the kinds is "all", an anchor has both a positive and a negative, or none.

    Raises:
      ValueError: a strategy is unknown, or "semi_hard" goes with "semi_hard" or "all", which give it nothing to compare
        with.
    """
    strategies = {"positives": positives, "negatives": negatives}
    for name, value in strategies.items():
        if value not in get_args(Strategy):
            raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(get_args(Strategy))}")
    if "semi_hard" in strategies.values() and not {"easy", "hard"} & set(strategies.values()):
        raise ValueError(
            f"positives={positives!r}, negatives={negatives!r}: semi-hard ones are compared with the single one chosen "
            "of the other kind; choose that as 'easy' or 'hard'"
        )
    distances, found = prepare(distances, labels, where)
    active = _active_share(distances, found, margin)
    near, far = _within(distances, found.positive, positive_range), _within(distances, found.negative, negative_range)
    if positives == "semi_hard":
        far = _one(distances, far, nearest=negatives == "hard")
        near = _one(distances, near & ~(distances >= _distance_of(distances, far)), nearest=False)
    else:
        near = found.positive if positives == "all" else _one(distances, near, nearest=positives == "easy")
        if negatives == "semi_hard":
            far &= ~(distances <= _distance_of(distances, near))
        far = found.negative if negatives == "all" else _one(distances, far, nearest=negatives != "easy")
    if "all" not in strategies.values():
        both = jnp.any(near, axis=1, keepdims=True) & jnp.any(far, axis=1, keepdims=True)
        near, far = near & both, far & both
    return Pairs(positive=near, negative=far, active_share=active)


def _within(distances, mask, bounds):
    if bounds is None:
        return mask
    return mask & ~((distances < bounds[0]) | (distances > bounds[1]))  # NaN is chosen


def _one(distances, mask, nearest):
    """The mask of the nearest, or the farthest, in each row of `mask`."""
    column = rows.nearest(distances if nearest else -distances, mask)
    return mask & (rows.columns(mask) == column[:, None])


def _distance_of(distances, one):
    return jnp.sum(jnp.where(one, distances, 0), axis=1, keepdims=True)


def _top(scores, mask, k):
    _, column = lax.top_k(jnp.where(mask, hardness(scores), -jnp.inf), k)
    return jnp.zeros_like(mask).at[jnp.arange(len(mask))[:, None], column].set(True) & mask


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
