"""The first step of batch losses: what each anchor is compared with, and which of these pairs count."""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp

from siamjax.labels import identities, lasting_identities, taking_part
from siamjax.losses._select import selected_rows
from siamjax.mining import Candidates, Pairs, candidates
from siamjax.parallel import whole_batch
from siamjax.types import Array

# Embeddings [m, d] to compare a batch with, and their labels [m]; None where `pairs` takes their place.
Others = tuple[Array, Array | None]
# Masks bool [n, m] of the pairs that count: (positive, negative).
PairMasks = Candidates | Pairs | tuple[Array, Array]


@dataclasses.dataclass(frozen=True)
class Compared:
    """A whole batch and what it is compared with, as losses compute with them.

    Attributes:
      anchors: float [n, d], float32 or wider; items without a pair that counts are replaced, see `selected_rows`.
      others: float [m, d]; `anchors` itself where a batch is compared with itself.
      labels: of anchors and others, int [n] and [m]; None where `pairs` takes their place.
      where: bool [n], the anchors that take part.
      used: bool [n] and [m], the anchors and others in any pair that counts; by label, those that take part.
      found: the pairs that count, [n, m].
      within: whether the batch is compared with itself.
      like: the type of the result.
    """

    anchors: jax.Array
    others: jax.Array
    labels: tuple[Array, Array] | None
    where: Array
    used: tuple[Array, Array]
    found: Candidates
    within: bool
    like: Any


def compare(
    embeddings: Array,
    labels: Array | None,
    others: Others | None,
    pairs: PairMasks | None,
    where: Array | None,
    axis_name: str | None,
) -> Compared:
    """This device's share of a batch, and of `others` -> both whole, and the pairs that count.

    Args:
      embeddings: float [n / devices, d].
      labels: int [n / devices], or None with `pairs`.
      others: what the batch is compared with, split over the devices like the batch; None for the batch itself, in
        which no item is compared with itself.
      pairs: of the whole batch, the same on every device; None for all pairs, by their labels. A pair in both masks is
        positive.
      where: bool [n / devices], the items that take part; None for all.
      axis_name: the device axis, or None.

    Raises:
      ValueError: labels are missing, others or pairs do not fit, or labels of two sets need more than 32 bits.
    """
    chex.assert_rank(embeddings, 2)
    chex.assert_type(embeddings, float)
    own_labels, y, y_labels = _checked(embeddings, labels, others, pairs)
    where = taking_part(where, embeddings.shape[:1])
    like = jnp.result_type(embeddings, embeddings if y is None else y)
    x, own_labels, where, y, y_labels = whole_batch(axis_name, embeddings, own_labels, where, y, y_labels)
    within = others is None
    columns = x if y is None else y
    if pairs is None:
        found = candidates(own_labels, others=y_labels, where=where)
    else:
        found = _given(pairs, where, len(columns), within)
    used = _any(found, 1), _any(found, 0)
    if within:
        either = where if pairs is None else used[0] | used[1]
        used = either, either
    anchors = selected_rows(x, used[0])
    compared = anchors if within else selected_rows(columns, used[1])
    both = None if pairs is not None else (own_labels, own_labels if y_labels is None else y_labels)
    return Compared(anchors, compared, both, where, used, found, within, like)


def log_sum_exp(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log Σ exp of each row's entries within `mask`, and which rows have any; a row without any has some finite
    value."""
    found = jnp.any(mask, axis=-1)
    return jax.nn.logsumexp(x, axis=-1, where=mask | ~found[..., None]), found


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of each row's `values` within `mask`; 0 where the row has none."""
    return jnp.sum(jnp.where(mask, values, 0), axis=-1) / jnp.maximum(jnp.sum(mask, axis=-1), 1)


def _checked(embeddings, labels, others, pairs) -> tuple[Any, Any, Any]:
    """Labels of the batch, and embeddings and labels of the others, each None where it is not needed."""
    if labels is None and pairs is None:
        raise ValueError("labels=None: give labels, or pairs= with the masks of positive and negative pairs")
    if labels is not None:
        labels = identities(labels) if others is None or pairs is not None else lasting_identities(labels)
        chex.assert_rank(labels, 1)
        chex.assert_equal_shape_prefix([embeddings, labels], 1)
    if others is None:
        return labels, None, None
    if not isinstance(others, tuple | list) or len(others) != 2:
        raise ValueError(f"others: found {type(others).__name__}, expected (embeddings [m, d], labels [m])")
    y, y_labels = others
    chex.assert_rank(y, 2)
    chex.assert_type(y, float)
    chex.assert_equal_shape_suffix([embeddings, y], 1)
    if pairs is not None:
        return labels, y, None
    if y_labels is None:
        raise ValueError("others: found no labels; give (embeddings, labels), or pairs= with the masks of pairs")
    y_labels = lasting_identities(y_labels, "labels of others")
    chex.assert_rank(y_labels, 1)
    chex.assert_equal_shape_prefix([y, y_labels], 1)
    return labels, y, y_labels


def _given(pairs, where, m, within):
    masks = pairs if isinstance(pairs, tuple | list) else (pairs.positive, pairs.negative)
    shape = (len(where), m)
    for mask in masks:
        if jnp.shape(mask) != shape:
            raise ValueError(
                f"pairs: found a mask of shape {jnp.shape(mask)}, expected {shape}: a row for each item of the whole "
                "batch, a column for each that it is compared with"
            )
    positive, negative = (jnp.asarray(taking_part(mask, shape, "pairs")) for mask in masks)
    counts = where[:, None]
    if within:
        counts = counts & where[None, :] & ~jnp.eye(m, dtype=bool)
    return Candidates(positive=positive & counts, negative=negative & ~positive & counts)


def _any(found, axis):
    return jnp.any(found.positive | found.negative, axis=axis)
