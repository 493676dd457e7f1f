"""Cross-batch memory: embeddings of past batches, as further positives and negatives.

Wang, Zhang, Huang, Scott: Cross-Batch Memory for Embedding Learning (2020); https://arxiv.org/abs/1912.06798. The
state is passed in and out:

    memory = mining.push(memory, embeddings, labels, items)
    found = mining.lookup(memory, labels, items)
    far = distances.pairwise_squared_euclidean(embeddings, memory.embedding)
    mined = mining.batch_hard(far, found)
    d_ap, d_an = mined.distances(far)

or with any batch loss:

    loss = losses.ntxent(embeddings, None, others=(memory.embedding, None), pairs=found)

Images are identified by number, so that none is ever paired with itself: neither with the copy just pushed nor with one
of an earlier epoch.
"""

import chex
import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.typing import DTypeLike

from siamjax.labels import lasting_identities, taking_part
from siamjax.mining._candidates import Candidates
from siamjax.parallel import whole_batch
from siamjax.types import Array


@struct.dataclass
class Memory:
    """A ring of the embeddings pushed last.

    Attributes:
      embedding: float [size, d], without gradient.
      label: int [size].
      item: int [size], number of the image.
      filled: bool [size], whether the slot holds an embedding.
      next: int32 scalar, the slot that is written next.
    """

    embedding: jax.Array
    label: jax.Array
    item: jax.Array
    filled: jax.Array
    next: jax.Array


def init_memory(size: int, dimension: int, dtype: DTypeLike = jnp.float32) -> Memory:
    """An empty memory of `size` slots for embeddings of length `dimension`."""
    return Memory(
        embedding=jnp.zeros((size, dimension), dtype),
        label=jnp.zeros((size,), int),
        item=jnp.zeros((size,), int),
        filled=jnp.zeros((size,), bool),
        next=jnp.zeros((), jnp.int32),
    )


def push(
    memory: Memory,
    embeddings: Array,
    labels: Array,
    items: Array,
    *,
    where: Array | None = None,
    axis_name: str | None = None,
) -> Memory:
    """The memory with a batch written over its oldest entries.

    Args:
      memory: the state.
      embeddings: float [n, d].
      labels: int [n].
      items: int [n], number of the image that each embedding comes from. Where images have none, use numbers that never
        repeat, such as step * n + arange(n).
      where: bool [n], which items to write; None for all. Of more than `size` of them, the last are written.
      axis_name: within pmap or shard_map, the axis over which the batch is split. Every device writes the whole batch,
        so the memory stays the same on all of them.

    Returns:
      The new state.

    Raises:
      ValueError: labels or items are not whole numbers, or do not fit JAX's integers.
    """
    size, dimension = memory.embedding.shape
    chex.assert_shape(embeddings, (None, dimension))
    labels, items = lasting_identities(labels), lasting_identities(items, "items")
    where = taking_part(where, labels.shape)
    chex.assert_shape([labels, items, where], embeddings.shape[:1])
    embeddings, labels, items, where = whole_batch(axis_name, embeddings, labels, items, where)
    rank = jnp.cumsum(where, dtype=jnp.int32) - 1
    written = jnp.sum(where, dtype=jnp.int32)
    # A slot past the last is dropped; so are items that this same batch would overwrite, since scatters keep no order.
    slot = jnp.where(where & (rank >= written - size), (memory.next + rank) % size, size)

    def write(old, new):
        return old.at[slot].set(lax.stop_gradient(new).astype(old.dtype), mode="drop")

    return Memory(
        embedding=write(memory.embedding, embeddings),
        label=write(memory.label, labels),
        item=write(memory.item, items),
        filled=write(memory.filled, where),
        next=(memory.next + written) % size,
    )


def lookup(memory: Memory, labels: Array, items: Array, *, where: Array | None = None) -> Candidates:
    """What a batch may be paired with in the memory: filled slots, except those of the same image.

    Args:
      memory: the state.
      labels: int [n].
      items: int [n], numbers of the images, as in `push`.
      where: bool [n], which anchors take part; None for all.

    Over several devices, give the whole batch, gathered as the embeddings that are compared with the memory.

    Returns:
      `Candidates` [n, size], for miners and losses on the distances from the batch to `memory.embedding`.

    Raises:
      ValueError: as in `push`.
    """
    labels, items = lasting_identities(labels), lasting_identities(items, "items")
    chex.assert_rank([labels, items], 1)
    where = taking_part(where, labels.shape)
    chex.assert_equal_shape([labels, items, where])
    other = (items[:, None] != memory.item[None, :]) & memory.filled[None, :] & where[:, None]
    same = labels[:, None] == memory.label[None, :]
    return Candidates(positive=same & other, negative=~same & other)
