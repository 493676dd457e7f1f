"""Learning the similarities that another network finds."""

import chex
import jax
import jax.numpy as jnp

from siamjax import distances
from siamjax.labels import taking_part
from siamjax.losses._reduce import reduce
from siamjax.losses._select import check_positive
from siamjax.types import Array, ReduceFn, Scalar


def similarity_distillation(
    logits: Array,
    teacher_logits: Array,
    *,
    temperature: Scalar = 1.0,
    where: Array | None = None,
    reduce_fn: ReduceFn = jnp.mean,
) -> jax.Array:
    """How far an anchor's ranking of others is from a teacher's: T² KL(softmax(teacher / T) ‖ softmax(student / T)).

    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (2015), https://arxiv.org/abs/1503.02531, with
    the other images of a batch as the classes; so teacher and student may have different inputs, embeddings and heads.

    Args:
      logits: float [n, m], similarities of n anchors and m others, higher for more similar; those of any head.
      teacher_logits: float [n, m], the teacher's; no gradient flows into it.
      temperature: T > 0, a number or a scalar array.
      where: optional bool [n, m], the pairs that count; such as all but the anchor itself.
      reduce_fn: `jnp.mean` (over the anchors with a pair that counts), `jnp.sum`, or None for per-anchor values [n].

    Returns:
      float scalar, or per-anchor values [n]; 0 where no pair counts, and where both rank alike.
    """
    check_positive(temperature=temperature)
    chex.assert_rank([logits, teacher_logits], 2)
    chex.assert_equal_shape([logits, teacher_logits])
    student, teacher = distances.widen(logits, teacher_logits)
    where = taking_part(where, student.shape)
    counts = jnp.any(where, axis=1)
    student, teacher = (_log_shares(x / temperature, where) for x in (student, jax.lax.stop_gradient(teacher)))
    terms = jnp.where(where, jnp.exp(teacher) * (teacher - student), 0)
    return reduce(temperature**2 * jnp.sum(terms, axis=1), counts, reduce_fn, logits.dtype)


def _log_shares(x, where):
    """log softmax over the pairs that count; 0 elsewhere."""
    lowest = jnp.finfo(x.dtype).min
    # A row where nothing counts is a row of zeros, so that its gradient is finite.
    x = jnp.where(where, x, jnp.where(where.any(axis=1, keepdims=True), lowest, 0))
    return jnp.where(where, jax.nn.log_softmax(x, axis=1), 0)
