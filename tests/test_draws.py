"""Draws that are quick to compile are those of JAX, so that a seed means what it did."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from siamjax import draws

KEYS = jax.random.split(jax.random.key(3), 5)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (0, 3), (2, 4, 4), (67, 71)], ids=str)
def test_draws_are_those_of_jax_also_when_mapped(shape):
    for distribution in (
        functools.partial(jax.random.uniform, minval=-1.0),
        jax.random.normal,
        functools.partial(jax.random.bernoulli, p=0.3),
        functools.partial(jax.random.truncated_normal, lower=-2.0, upper=2.0),
    ):
        got = jax.vmap(lambda key, of=distribution: draws.numbers(of, key, shape))(KEYS)
        expected = jax.vmap(lambda key, of=distribution: of(key, shape=shape))(KEYS)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ["lecun_normal", "he_normal", "he_uniform", "normal"])
def test_a_kernel_drawn_by_rows_has_the_weights_of_its_initializer(name):
    initializer = getattr(nn.initializers, name)()
    for shape in ((3, 3, 5, 4), (1, 1, 6, 2)):
        got = draws.by_rows(initializer)(KEYS[0], shape, jnp.float32)
        np.testing.assert_array_equal(got, initializer(KEYS[0], shape, jnp.float32))
