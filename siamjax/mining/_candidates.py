"""What miners choose from, and the shapes in which they return their choice."""

from collections.abc import Callable
from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from siamjax.distances import widen
from siamjax.labels import identities, lasting_identities, taking_part
from siamjax.rows import fold_columns, pick
from siamjax.types import Array, Scalar

S = TypeVar("S")


@struct.dataclass
class Candidates:
    """The pairs that miners choose from; anchors in rows, what they are compared with in columns.

    Attributes:
      positive: bool [n, m], pairs of the same identity.
      negative: bool [n, m], pairs of different identities. Pairs in neither are ignored.
    """

    positive: jax.Array
    negative: jax.Array


@struct.dataclass
class Pairs:
    """Mined pairs, as masks over all of them: `same=pairs.positive, where=pairs.positive | pairs.negative` in a loss.

    Attributes:
      positive: bool [n, m], the pairs of the same identity that were chosen.
      negative: bool [n, m], the pairs of different identities that were chosen.
      active_share: float scalar, the share of all candidate pairs that are in a triplet which violates the margin; 0
        where there are no pairs.
    """

    positive: jax.Array
    negative: jax.Array
    active_share: jax.Array


@struct.dataclass
class Triplets:
    """Mined triplets. Those that are not valid have indices in range, so that they can be looked up, but no meaning.

    Attributes:
      anchor: int32 [t], rows.
      positive: int32 [t], columns of the same identity as the anchor.
      negative: int32 [t], columns of a different identity.
      valid: bool [t], whether there was such a triplet; the `where` of a loss.
      active_share: float scalar, the share of all candidate triplets, mined or not, that violate the margin; 0 where
        there are no triplets. Near 0 there is nothing left to learn from; it stays near 1 where the embeddings have
        collapsed to one point.
    """

    anchor: jax.Array
    positive: jax.Array
    negative: jax.Array
    valid: jax.Array
    active_share: jax.Array

    def distances(self, distances: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Distances [n, m] -> those from anchor to positive [t] and from anchor to negative [t], with gradient."""
        return distances[self.anchor, self.positive], distances[self.anchor, self.negative]

    def embeddings(self, anchors: jax.Array, others: jax.Array | None = None) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Embeddings [n, d] (and [m, d] of columns, if others) -> anchors, positives, negatives, each [t, d]."""
        others = anchors if others is None else others
        return anchors[self.anchor], others[self.positive], others[self.negative]


Labels = Array | Candidates | Pairs  # identities int [n], or which pairs to choose from


def candidates(labels: Array, *, others: Array | None = None, where: Array | None = None) -> Candidates:
    """All pairs of a batch, except an item with itself; or all pairs of a batch and `others`.

    Args:
      labels: int [n].
      others: int [m], labels of what the batch is compared with, such as a second tower; None for the batch itself.
      where: bool [n], which items of the batch take part at all; None for all.

    Returns:
      `Candidates` [n, n], or [n, m].

    Raises:
      ValueError: labels are not whole numbers, those of two sets do not fit JAX's integers, or `where` is not a mask.
    """
    labels = identities(labels) if others is None else lasting_identities(labels)
    columns = labels if others is None else lasting_identities(others, "others")
    chex.assert_rank([labels, columns], 1)
    part = taking_part(where, labels.shape)
    same = labels[:, None] == columns[None, :]
    if others is not None:
        return Candidates(positive=same & part[:, None], negative=~same & part[:, None])
    part = part[:, None] & part[None, :]
    return Candidates(positive=same & part & ~jnp.eye(len(labels), dtype=bool), negative=~same & part)


def prepare(distances: Array, labels: Labels, where: Array | None) -> tuple[jax.Array, Candidates]:
    """A miner's distances, in float32 or wider and without gradient, and its candidates."""
    chex.assert_rank(distances, 2)
    chex.assert_type(distances, float)
    if isinstance(labels, Candidates | Pairs):
        if where is not None:
            raise ValueError("where= goes with labels; the masks of Candidates already say which pairs take part")
        found = Candidates(positive=labels.positive, negative=labels.negative)
    else:
        found = candidates(labels, where=where)
    chex.assert_equal_shape([distances, found.positive, found.negative])
    (distances,) = widen(distances)
    return lax.stop_gradient(distances), found


def fold_positives(step: Callable[[S, jax.Array, jax.Array], S], state: S, found: Candidates) -> S:
    """Calls state = step(state, positive int32 [n], exists bool [n]) with every anchor's 1st positive, 2nd and so on.

    Positives are few, negatives many: this takes as many steps of O(nm) as the largest class has positives, and nothing
    of size n·m·m. (On the CPU a sort of the rows costs as much as some hundred steps.)
    """
    # Anchors without negatives are in no triplet, so that a batch of one class takes no steps at all.
    return fold_columns(step, state, found.positive & jnp.any(found.negative, axis=1, keepdims=True))


def active_share(distances: jax.Array, found: Candidates, margin: Scalar) -> jax.Array:
    """Share of the triplets (a, p, n) with d_an − d_ap < margin; NaN where that is unknown for one of them."""

    def count(active, positive, exists):
        # The difference first, as in the hinge: a margin added to a distance of 1e8 is lost.
        gap = distances - pick(distances, positive)[:, None]
        nearer = jnp.sum(found.negative & (gap < margin), axis=1, dtype=jnp.int32)
        return active + jnp.where(exists, nearer, 0)

    active = fold_positives(count, jnp.zeros(distances.shape[:1], jnp.int32), found)
    return share(unless_unknown(active, distances, found), triplets_per_anchor(found), distances.dtype)


def unless_unknown(active: jax.Array, distances: jax.Array, found: Candidates) -> jax.Array:
    """`active` [n], but NaN for an anchor with a triplet whose gap is NaN: from a NaN distance, or from two that
    overflowed."""
    kinds = found.positive, found.negative
    far, near = (jnp.max(jnp.where(mask, jnp.abs(distances), 0), axis=1, initial=0) for mask in kinds)
    return jnp.where(jnp.isnan(far - near) & (triplets_per_anchor(found) > 0), jnp.nan, active)


def hardness(x: jax.Array) -> jax.Array:
    """Distances, or their negatives, as `lax.top_k` can order them: NaN first, and overflowed values within range."""
    largest = jnp.finfo(x.dtype).max
    return jnp.nan_to_num(x, nan=largest, posinf=largest, neginf=-largest)


def triplets_per_anchor(found: Candidates) -> jax.Array:
    """int32 [n]: positives times negatives of each anchor."""
    return jnp.sum(found.positive, axis=1, dtype=jnp.int32) * jnp.sum(found.negative, axis=1, dtype=jnp.int32)


def share(part: jax.Array, whole: jax.Array, dtype: Any) -> jax.Array:
    """Σ part / Σ whole of counts, 0 where there are none; summed as floats, since a batch may have more triplets than
    int32 holds."""
    dtype = jnp.promote_types(dtype, jnp.float32)
    return jnp.sum(part.astype(dtype)) / jnp.maximum(jnp.sum(whole.astype(dtype)), 1)


def as_triplets(
    found: Candidates,
    anchor: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    *,
    active_share: jax.Array,
    where: jax.Array | bool = True,
) -> Triplets:
    """`Triplets` of index arrays of one shape, valid where the masks and `where` say so."""
    # Looking up the choice in the masks works for any way of choosing: nothing outside them can become valid.
    valid = found.positive[anchor, positive] & found.negative[anchor, negative] & where
    return Triplets(
        anchor=anchor.ravel().astype(jnp.int32),
        positive=positive.ravel().astype(jnp.int32),
        negative=negative.ravel().astype(jnp.int32),
        valid=valid.ravel(),
        active_share=active_share,
    )
