"""The first step of batch losses: the whole batch, checked, and its positive and negative pairs."""

import chex
import jax
import jax.numpy as jnp

from siamjax.labels import identities, taking_part
from siamjax.losses._select import selected_rows
from siamjax.mining import Candidates, candidates
from siamjax.parallel import whole_batch
from siamjax.types import Array


def batch_candidates(
    embeddings: Array, labels: Array, where: Array | None, axis_name: str | None
) -> tuple[jax.Array, Array, Array, Candidates]:
    """This device's share of a batch -> the whole batch's embeddings, as `selected_rows` gives them, labels, where and
    `mining.Candidates`."""
    labels = identities(labels)
    chex.assert_rank([embeddings, labels], [2, 1])
    chex.assert_type(embeddings, float)
    where = taking_part(where, labels.shape)
    chex.assert_equal_shape_prefix([embeddings, labels, where], 1)
    embeddings, labels, where = whole_batch(axis_name, embeddings, labels, where)
    return selected_rows(embeddings, where), labels, where, candidates(labels, where=where)


def log_sum_exp(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log Σ exp of each row's entries within `mask`, and which rows have any; a row without any has some finite
    value."""
    found = jnp.any(mask, axis=-1)
    return jax.nn.logsumexp(x, axis=-1, where=mask | ~found[..., None]), found
