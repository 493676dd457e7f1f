"""The compiled functions of a network, and the check of the image numbers that they take."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from siamjax import heads
from siamjax.augment import scaled
from siamjax.training.state import Model
from siamjax.training.types import Augment

BLOCK = 4096  # pairs, or embeddings of queries and gallery, per scoring call
_MANY = 2**20  # pairs per call of "many_pairs"
_PER_BLOCK = 2**20  # numbers in one side of its blocks
_PREPARED = 2**27  # numbers in all the embeddings that it prepares, at most
_FILLED = 2**18  # numbers in a gallery that is filled up for one query: 2,048 embeddings of 128 components
# (weights and other constants, inputs) -> outputs.
Program = Callable[[Any, Any], Any]


def checked_numbers(numbers: npt.ArrayLike, count: int, name: str) -> np.ndarray:
    """`numbers` as int32, checked to be in 0..count-1, as JAX would silently clip them."""
    numbers = np.asarray(numbers)
    if not numbers.size:
        return numbers.astype(np.int32)
    if not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"{name}: found {numbers.dtype}, expected image numbers, integers 0 to {count - 1}")
    outside = numbers[(numbers < 0) | (numbers >= count)]
    if len(outside):
        raise ValueError(
            f"{name}: found image number {outside[0]}, but the {count} images are numbered 0 to {count - 1}"
        )
    return numbers.astype(np.int32)


def filled_up(gallery: np.ndarray, queries: int) -> np.ndarray:
    """A small gallery [n, d] with its rows repeated in turn, [m, d], m >= n: the same m while it grows.

    Programs are compiled per shape, and then one serves; to score the repeated rows takes less time than to start it.
    In turn, and not the last row alone: so their mean, by which a distance may be centred, stays about where it was.
    """
    count, dimension = gallery.shape
    fewest = min(4096, _FILLED // (dimension * queries))
    size = 1 << fewest.bit_length() - 1 if fewest else 0
    return gallery[np.arange(size) % count] if 0 < count < size else gallery


def pairs_program(model: Model, embeddings: np.ndarray, count: int) -> tuple[str, int]:
    """The name of the program that scores `count` pairs of `embeddings`, and how many it takes per call.

    "many_pairs" prepares each embedding once per call, for the head `aligned`; not for one derived from it, which may
    score otherwise.
    """
    aligned = type(model.head) is heads.Aligned
    if aligned and max(BLOCK, len(embeddings)) < min(count, _MANY) and embeddings.size <= _PREPARED:
        return "many_pairs", _MANY
    numbers = 2**19 if aligned else 2**22  # `aligned` needs tens of times their memory.
    return "pairs", min(BLOCK, max(1, numbers // embeddings.shape[1]))


@functools.lru_cache(maxsize=8)
def embed_program(model: Model, distort: Augment | None, copies: int) -> Program:
    """Embeds images, each as the mean over itself and its distorted copies: variables, [n, ...] -> [n, d].

    All images get the same distortions. The encoder is called once, with (1 + copies) * n images: for a few images,
    tracing it takes longer than running it.
    """

    def embed(variables, images):
        images = scaled(images)
        if copies:
            assert distort is not None, "copies need `distort`"
            keys = jnp.repeat(jax.vmap(jax.random.key)(jnp.arange(copies)), len(images))
            distorted = distort(keys, jnp.tile(images, (copies, *[1] * (images.ndim - 1))))
            images = jnp.concatenate([images, distorted])
        embeddings = model.encoder.apply(variables, images, train=False)
        return jnp.asarray(embeddings, jnp.float32).reshape(1 + copies, -1, embeddings.shape[1]).mean(axis=0)

    return embed


@functools.lru_cache(maxsize=8)
def programs(model: Model) -> dict[str, Program]:
    """The scoring functions of a model, of pairs two, see `pairs_program`.

    Cached, as each function object is compiled once.
    """

    def pairs(arguments, numbers):
        params, embeddings = arguments
        return model.head.apply({"params": params}, embeddings[numbers[:, 0]], embeddings[numbers[:, 1]])

    def all_pairs(arguments, gallery):
        params, queries = arguments
        return model.head.apply({"params": params}, gallery, queries, method="all_pairs")

    def trials(arguments, numbers, prototypes=False) -> jax.Array:
        params, embeddings = arguments

        def one_run(query, support):
            ways, shots = support.shape
            shown = embeddings[support.ravel()]
            if prototypes:
                shown, shots = shown.reshape(ways, shots, -1).mean(axis=1), 1
            logits = jnp.asarray(model.head.apply({"params": params}, embeddings[query], shown, method="all_pairs"))
            return logits.reshape(len(query), ways, shots).mean(axis=2)

        return jax.lax.map(lambda numbers: one_run(*numbers), numbers)

    by_prototypes = functools.partial(trials, prototypes=True)
    many_pairs = functools.partial(_many_pairs, model)
    return {
        "pairs": pairs,
        "many_pairs": many_pairs,
        "all": all_pairs,
        "trials": trials,
        "prototypes": by_prototypes,
    }


def _many_pairs(model, arguments, numbers):
    """The logits of pairs [p], in blocks, of embeddings that are prepared once."""
    params, embeddings = arguments
    apply = functools.partial(model.head.apply, {"params": params})
    most = max(1, min(_PER_BLOCK // embeddings.shape[1], len(numbers)))
    size = 1 << (most.bit_length() - 1)
    blocks = jnp.pad(numbers, ((0, -len(numbers) % size), (0, 0))).reshape(-1, size, 2)
    rows = math.gcd(len(embeddings), size)  # By blocks, too: all at once would need several times the memory.
    parts = embeddings.reshape(-1, rows, embeddings.shape[1])
    prepared = jax.lax.map(lambda part: apply(part, method="prepare"), parts)
    prepared = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), prepared)

    def of_block(numbers) -> jax.Array:
        a, b = (jax.tree.map(operator.itemgetter(side), prepared) for side in numbers.T)
        return jnp.asarray(apply(a, b, method="score_prepared"))

    return jax.lax.map(of_block, blocks).ravel()[: len(numbers)]
