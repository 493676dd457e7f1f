"""Random numbers that are quick to compile: the same as those of `jax.random`, to the bit.

On a CPU, XLA takes seconds to compile a draw of four axes, or a mapped one of an odd length: the arithmetic of indices
becomes part of its loop. A draw along one axis, or two, takes tenths of a second. With `jax_threefry_partitionable`,
JAX's default, each number depends on the key and its place alone, so that both have the same; without, they differ.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

_SMALL = 4096  # draws up to this length are rounded up to a power of two, which maps best


def numbers(distribution: Callable[..., jax.Array], key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`distribution(key, shape=shape)`, such as `jax.random.uniform`: independent draws of one distribution."""
    count = math.prod(shape)
    length = 1 << (count - 1).bit_length() if 0 < count <= _SMALL else count
    return distribution(key, shape=(length,))[:count].reshape(shape)


def by_rows(initializer: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`initializer` for a convolution's kernel [..., k], called for the matrix of the same numbers, [n, k].

    For those whose deviation is constant or depends on the inputs of an output, such as `lecun_normal` and `he_normal`;
    not for `glorot_normal`, which counts outputs, too.
    """

    def initialize(key: jax.Array, shape: Sequence[int], dtype: Any = float) -> jax.Array:
        return initializer(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)

    return initialize
