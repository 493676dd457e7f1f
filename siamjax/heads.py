"""Learned distances: embeddings, embeddings -> logit of "same".

Every head scores pairs ([n, d], [n, d] -> [n]) when called, and all against all ([n, d], [m, d] -> [n, m]) by its
method `all_pairs`.
"""

import chex
import jax.numpy as jnp
from flax import linen as nn

from siamjax.choices import choose


class WeightedL1(nn.Module):
    """Koch's head: a weighted sum of the components' absolute differences, plus a bias.

    Koch, Zemel, Salakhutdinov: Siamese Neural Networks for One-shot Image Recognition (2015), section 3.1;
    https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf. Its sigmoid is the probability of "same". Weights start from
    N(0, 0.2²) and the bias from N(0.5, 0.01²), as there.
    """

    @nn.compact
    def _terms(self, dimension):
        weight = self.param("weight", nn.initializers.normal(0.2), (dimension,))
        bias = self.param("bias", _bias_init, ())
        return weight, bias

    def __call__(self, a: chex.Array, b: chex.Array) -> chex.Array:
        """Logits float [n] of "same" for the pairs of a [n, d] and b [n, d]."""
        chex.assert_rank([a, b], 2)
        chex.assert_equal_shape([a, b])
        weight, bias = self._terms(a.shape[-1])
        return jnp.abs(a - b) @ weight + bias

    def all_pairs(self, a: chex.Array, b: chex.Array) -> chex.Array:
        """Logits float [n, m] of "same" for each of a [n, d] with each of b [m, d]."""
        chex.assert_rank([a, b], 2)
        weight, bias = self._terms(a.shape[-1])
        return jnp.abs(a[:, None, :] - b[None, :, :]) @ weight + bias


def _bias_init(key, shape, dtype=jnp.float32):
    return 0.5 + nn.initializers.normal(0.01)(key, shape, dtype)


_HEADS = {"weighted_l1": WeightedL1}


def make(name: str) -> nn.Module:
    """The head called `name` in the configuration."""
    return choose("head.name", name, _HEADS)()
