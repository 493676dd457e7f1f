"""Triplets chosen by how hard they are."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from siamjax.mining._candidates import (
    Labels,
    Triplets,
    active_share,
    as_triplets,
    fold_positives,
    hardness,
    prepare,
    share,
    triplets_per_anchor,
    unless_unknown,
)
from siamjax.rows import farthest, nearest, pick
from siamjax.types import Array


def batch_hard(distances: Array, labels: Labels, *, margin: float = 0.2, where: Array | None = None) -> Triplets:
    """Each anchor with its farthest positive and its nearest negative: argmax_p d_ap, argmin_n d_an.

    Hermans, Beyer, Leibe: In Defense of the Triplet Loss (2017); https://arxiv.org/abs/1703.07737.

    Args:
      distances: float [n, m], smaller is more alike.
      labels: int [n], or the `Candidates` [n, m] of each anchor.
      margin: the loss's margin, in units of the distance; only `active_share` depends on it.
      where: bool [n], which items of the batch take part; None for all.

    Returns:
      `Triplets` [n], one per anchor, in order; not valid where the anchor lacks a positive or a negative.
    """
    distances, found = prepare(distances, labels, where)
    positive = farthest(distances, found.positive)
    return _one_each(distances, found, positive, nearest(distances, found.negative), margin)


def batch_easy(distances: Array, labels: Labels, *, margin: float = 0.2, where: Array | None = None) -> Triplets:
    """Each anchor with its nearest positive and its farthest negative: argmin_p d_ap, argmax_n d_an.

    The other end of `batch_hard`, to start a curriculum with, or to see how far even the easiest triplets fail.

    Args:
      distances: float [n, m], smaller is more alike.
      labels: int [n], or the `Candidates` [n, m] of each anchor.
      margin: the loss's margin, in units of the distance; only `active_share` depends on it.
      where: bool [n], which items of the batch take part; None for all.

    Returns:
      `Triplets` [n], one per anchor, in order; not valid where the anchor lacks a positive or a negative.
    """
    distances, found = prepare(distances, labels, where)
    positive = nearest(distances, found.positive)
    return _one_each(distances, found, positive, farthest(distances, found.negative), margin)


def easy_positive(
    distances: Array,
    labels: Labels,
    *,
    margin: float = 0.2,
    semi_hard: bool = False,
    where: Array | None = None,
) -> Triplets:
    """Each anchor with its nearest positive, argmin_p d_ap, and its nearest negative (or the nearest one beyond d_ap).

    A class is only required to give each item one neighbour, so that it may keep several clusters. Xuan, Stylianou,
    Pless: Improved Embeddings with Easy Positive Triplet Mining (2020); https://arxiv.org/abs/1904.04370.

    Args:
      distances: float [n, m], smaller is more alike.
      labels: int [n], or the `Candidates` [n, m] of each anchor.
      margin: the loss's margin, in units of the distance; only `active_share` depends on it.
      semi_hard: whether the negative must be farther than the positive, d_an > d_ap.
      where: bool [n], which items of the batch take part; None for all.

    Returns:
      `Triplets` [n], one per anchor, in order; not valid where there is no such triplet.
    """
    distances, found = prepare(distances, labels, where)
    positive = nearest(distances, found.positive)
    if not semi_hard:
        return _one_each(distances, found, positive, nearest(distances, found.negative), margin)
    beyond = found.negative & ~(distances <= pick(distances, positive)[:, None])
    negative = nearest(distances, beyond)
    return _one_each(distances, found, positive, negative, margin, where=pick(beyond, negative))


def semi_hard(
    distances: Array,
    labels: Labels,
    *,
    margin: float = 0.2,
    fallback: bool = False,
    where: Array | None = None,
) -> Triplets:
    """Each positive pair with its semi-hard negative: the nearest n with d_ap < d_an < d_ap + margin.

    Schroff, Kalenichenko, Philbin: FaceNet (2015), section 3.2; https://arxiv.org/abs/1503.03832.

    Args:
      distances: float [n, m], smaller is more alike.
      labels: int [n], or the `Candidates` [n, m] of each anchor.
      margin: in units of the distance, above 0.
      fallback: whether every positive pair gets a negative, as in the loss of TensorFlow Addons: the nearest with d_an
        > d_ap, however far, and the farthest of all where none is beyond d_ap.
      where: bool [n], which items of the batch take part; None for all.

    Returns:
      `Triplets` [n·m], one for each place in the matrix of pairs, row by row; not valid where that is no positive pair
      or has no such negative. Look them up in distances rather than in embeddings, which would be n·m·d floats.
    """
    distances, found = prepare(distances, labels, where)
    last_resort = farthest(distances, found.negative)
    rows = jnp.arange(len(distances))

    def step(negatives, positive, exists):
        beyond = found.negative & ~(distances <= pick(distances, positive)[:, None])
        negative = nearest(distances, beyond)
        if fallback:
            negative = jnp.where(pick(beyond, negative), negative, last_resort)
        return negatives.at[rows, _or_nowhere(positive, exists, distances)].set(negative, mode="drop")

    negative = fold_positives(step, jnp.zeros(distances.shape, jnp.int32), found)
    anchor, positive = _grid(distances.shape)
    gap = distances[anchor, negative] - distances
    semi = jnp.ones_like(found.positive) if fallback else ~(gap <= 0) & ~(gap >= margin)
    active = active_share(distances, found, margin)
    return as_triplets(found, anchor, positive, negative, active_share=active, where=semi)


def hardest_k(distances: Array, labels: Labels, *, k: int, margin: float = 0.2, where: Array | None = None) -> Triplets:
    """Each anchor's k hardest triplets, those of the largest d_ap − d_an; `batch_hard` for k = 1.

    Args:
      distances: float [n, m], smaller is more alike.
      labels: int [n], or the `Candidates` [n, m] of each anchor.
      k: triplets per anchor, 1 to m.
      margin: the loss's margin, in units of the distance; only `active_share` depends on it.
      where: bool [n], which items of the batch take part; None for all.

    Returns:
      `Triplets` [n·k], an anchor's one after another, hardest first; not valid where it has no more.

    Raises:
      ValueError: `k` is not within 1 to m.
    """
    distances, found = prepare(distances, labels, where)
    check_k(k, distances)
    d_ap, positive = lax.top_k(jnp.where(found.positive, hardness(distances), -jnp.inf), k)
    d_na, negative = lax.top_k(jnp.where(found.negative, hardness(-distances), -jnp.inf), k)
    # A triplet of the i-th farthest positive and j-th nearest negative has (i + 1)(j + 1) − 1 others as hard or harder.
    i, j = np.nonzero(np.outer(np.arange(1, k + 1), np.arange(1, k + 1)) <= k)
    _, best = lax.top_k(d_ap[:, i] + d_na[:, j], k)
    anchor = _rows(best)
    positive, negative = positive[anchor, jnp.asarray(i)[best]], negative[anchor, jnp.asarray(j)[best]]
    return as_triplets(found, anchor, positive, negative, active_share=active_share(distances, found, margin))


def angular(
    squared_distances: Array,
    labels: Labels,
    *,
    k: int = 1,
    angle: float = 20.0,
    between: Array | None = None,
    where: Array | None = None,
) -> Triplets:
    """Positive pairs with the negative n that makes the largest angle, where it exceeds a bound; up to k per anchor.

    The angle at n of Wang, Zhou, Wen, Liu, Lin: Deep Metric Learning with Angular Loss (2017), section 3.2;
    https://arxiv.org/abs/1708.01682: tan α_n = |a − p| / 2|n − c|, c = (a + p) / 2. By the length of a triangle's
    median, sin² α_n = |a − p|² / 2(|a − n|² + |p − n|²), so no centre is ever formed.

    Args:
      squared_distances: float [n, m], squared Euclidean; the paper's embeddings have unit length.
      labels: int [n], or the `Candidates` [n, m] of each anchor.
      k: positives per anchor, 1 to m; those of the largest angle are kept.
      angle: the bound on α_n, in degrees, above 0 and below 90.
      between: float [m, m], squared distances among the columns; None where the columns are the batch itself.
      where: bool [n], which items of the batch take part; None for all.

    Returns:
      `Triplets` [n·k], an anchor's one after another, largest angle first; not valid where no further pair exceeds the
      bound. A triplet is active if its angle does.

    Raises:
      ValueError: `k` or `angle` is out of range.
    """
    distances, found = prepare(squared_distances, labels, where)
    check_k(k, distances)
    if not 0 < angle < 90:
        raise ValueError(f"angle={angle}: must be in degrees, above 0 and below 90")
    between = distances if between is None else lax.stop_gradient(between.astype(distances.dtype))
    chex.assert_shape(between, (distances.shape[1],) * 2)
    bound = 2 * math.sin(math.radians(angle)) ** 2
    rows = jnp.arange(len(distances))

    def step(state, positive, exists):
        negatives, scores, active = state
        d_ap = pick(distances, positive)
        sums = distances + between[positive]
        wide = found.negative & ~(bound * sums >= d_ap[:, None])
        negative = nearest(sums, wide)
        exceeds = pick(wide, negative)
        score = jnp.where(exceeds, hardness(d_ap / jnp.where(exceeds, pick(sums, negative), 1)), -1)
        place = rows, _or_nowhere(positive, exists, distances)
        active = active + jnp.where(exists, jnp.sum(wide, axis=1, dtype=jnp.int32), 0)
        return negatives.at[place].set(negative, mode="drop"), scores.at[place].set(score, mode="drop"), active

    negative = jnp.zeros(distances.shape, jnp.int32)
    state = negative, jnp.full_like(distances, -1), jnp.zeros_like(rows, dtype=jnp.int32)
    negative, scores, active = fold_positives(step, state, found)
    score, positive = lax.top_k(scores, k)
    anchor = _rows(positive)
    active = share(unless_unknown(active, distances, found), triplets_per_anchor(found), distances.dtype)
    return as_triplets(found, anchor, positive, negative[anchor, positive], active_share=active, where=score >= 0)


def check_k(k: int, distances: jax.Array) -> None:
    """Raises ValueError unless k columns can be chosen."""
    if not 1 <= k <= distances.shape[1]:
        raise ValueError(f"k={k}: choose 1 to {distances.shape[1]}, the number of columns of the distances")


def _one_each(distances, found, positive, negative, margin, where: jax.Array | bool = True):
    active = active_share(distances, found, margin)
    return as_triplets(found, jnp.arange(len(distances)), positive, negative, active_share=active, where=where)


def _or_nowhere(column, exists, distances):
    """The column, or one past the last, which a scatter drops, where there is none."""
    return jnp.where(exists, column, distances.shape[1])


def _rows(matrix):
    return lax.broadcasted_iota(jnp.int32, matrix.shape, 0)


def _grid(shape):
    return lax.broadcasted_iota(jnp.int32, shape, 0), lax.broadcasted_iota(jnp.int32, shape, 1)
