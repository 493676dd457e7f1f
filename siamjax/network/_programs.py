"""The compiled functions of a network, and the check of the image numbers that they take."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from siamjax.augment import scaled
from siamjax.training.state import Model
from siamjax.training.types import Augment

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


@functools.lru_cache(maxsize=8)
def copy_program(model: Model, distort: Augment | None) -> Program:
    """Like "embed" in `programs`, for distorted images: (variables, key), images -> embeddings."""

    def embed_copy(arguments, images):
        assert distort is not None, "copies need `distort`"
        variables, key = arguments
        keys = jnp.broadcast_to(key, (len(images),))
        return model.encoder.apply(variables, distort(keys, scaled(images)), train=False)

    return embed_copy


@functools.lru_cache(maxsize=8)
def programs(model: Model) -> dict[str, Program]:
    """The evaluation functions of a model. Cached, as each function object is compiled once."""

    def embed(variables, images):
        return model.encoder.apply(variables, scaled(images), train=False)

    def pairs(arguments, numbers):
        params, embeddings = arguments
        return model.head.apply({"params": params}, embeddings[numbers[:, 0]], embeddings[numbers[:, 1]])

    def all_pairs(arguments, gallery):
        params, queries = arguments
        return model.head.apply({"params": params}, gallery, queries, method="all_pairs")

    def trials(arguments, numbers):
        params, embeddings = arguments

        def one_run(query, support):
            ways, shots = support.shape
            two = embeddings[query], embeddings[support.ravel()]
            logits = jnp.asarray(model.head.apply({"params": params}, *two, method="all_pairs"))
            return logits.reshape(len(query), ways, shots).mean(axis=2)

        return jax.lax.map(lambda numbers: one_run(*numbers), numbers)

    return {"embed": embed, "pairs": pairs, "all": all_pairs, "trials": trials}
