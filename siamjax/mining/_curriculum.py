"""Curriculum: from easy pairs to hard ones as training proceeds.

hardness = mining.easy_to_hard(step, start=0, end=2_000)
mined = mining.batch_hard(distances, mining.limit_hardness(distances, labels, negatives=hardness))
"""

import jax
import jax.numpy as jnp

from siamjax.mining._candidates import Candidates, Labels, prepare
from siamjax.types import Array, Scalar


def easy_to_hard(step: Scalar, *, start: int, end: int, low: float = 0.0, high: float = 1.0) -> jax.Array:
    """A number that rises linearly from `low` at step `start` to `high` at step `end`, and is constant outside.

    Args:
      step: int scalar, may be traced.
      start, end: steps, start before end.
      low, high: first and last value: shares of hardness, margins, or anything else that grows.

    Returns:
      float scalar.

    Raises:
      ValueError: `end` is not after `start`.
    """
    if not start < end:
        raise ValueError(f"start={start}, end={end}: end must be after start")
    # Subtracted as whole numbers, since late steps do not fit a float32.
    way = (jnp.clip(step, start, end) - start) / (end - start)
    return low + (high - low) * way


def limit_hardness(
    distances: Array,
    labels: Labels,
    *,
    negatives: Scalar = 1.0,
    positives: Scalar = 1.0,
    where: Array | None = None,
) -> Candidates:
    """Candidates without the hardest: of each anchor, the given shares of negatives, farthest first, and positives,
    nearest first.

    Any miner takes the result in place of labels: `batch_hard` then finds the hardest within the limit. At share 0 one
    of each kind is kept, so that no anchor is lost.

    Args:
      distances: float [n, m], smaller is more alike.
      labels: int [n], or the `Candidates` [n, m] of each anchor.
      negatives: scalar in 0..1, may be traced; the share of an anchor's negatives to keep, to the nearest whole number.
      positives: scalar in 0..1, may be traced; likewise for its positives.
      where: bool [n], which items of the batch take part; None for all.

    Returns:
      `Candidates` [n, m]. Pairs at the same distance as the last one kept are kept as well, and so is NaN.
    """
    distances, found = prepare(distances, labels, where)
    return Candidates(
        positive=_smallest(distances, found.positive, positives),
        negative=_smallest(-distances, found.negative, negatives),
    )


def _smallest(values, mask, share):
    count = jnp.sum(mask, axis=1, keepdims=True)
    kept = jnp.clip(jnp.round(share * count).astype(jnp.int32), 1, jnp.maximum(count, 1))
    last = jnp.take_along_axis(jnp.sort(jnp.where(mask, values, jnp.inf), axis=1), kept - 1, axis=1)
    return mask & ~(values > last)  # NaN is kept
