"""Learned distances: embeddings, embeddings -> logit of "same".

Every head scores pairs ([n, d], [n, d] -> [n]) when called, and all against all ([n, d], [m, d] -> [n, m]) by its
method `all_pairs`, whose value and gradient need little more memory than the result. Embeddings are not normalised;
logits are float32 at least. All but the asymmetric `Bilinear` give the same logit whichever of two embeddings comes
first.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from siamjax import distances
from siamjax.choices import choose
from siamjax.encoders import koch_bias_init
from siamjax.heads._aligned import Aligned
from siamjax.heads._shared import checked_pairs, checked_sets, scale_and_threshold
from siamjax.options import DISTANCES, DistanceName
from siamjax.types import Array

__all__ = [
    "HEADS",
    "Aligned",
    "Bilinear",
    "Binary",
    "Distance",
    "FourFeature",
    "Mahalanobis",
    "WeightedL1",
    "make",
]


class _PairByPair(nn.Module):
    """Base of the heads that compare the components of one pair at a time; a subclass defines `_score`."""

    def _score(self, dimension):
        """The logit as a broadcasting function of [..., d] and [..., d], and how many floats it holds per pair."""
        raise NotImplementedError

    def __call__(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n] of "same" for the pairs of a [n, d] and b [n, d]."""
        a, b = checked_pairs(a, b)
        score, _ = self._score(a.shape[-1])
        return score(a, b)

    def all_pairs(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n, m] of "same" for each of a [n, d] with each of b [m, d]."""
        a, b = checked_sets(a, b)
        score, width = self._score(a.shape[-1])
        return distances.blockwise(lambda a, b: score(a[:, None, :], b[None, :, :]), a, b, width)


class WeightedL1(_PairByPair):
    """Koch's head: a weighted sum of the components' absolute differences, Σ_k w_k |a_k − b_k| + w_0.

    Koch, Zemel, Salakhutdinov: Siamese Neural Networks for One-shot Image Recognition (2015), section 3.1;
    https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf. Its sigmoid is the probability of "same". Weights start from
    N(0, 0.2²) and the bias from N(0.5, 0.01²), as in the paper.
    """

    @nn.compact
    def _score(self, dimension):
        weight = self.param("weight", nn.initializers.normal(0.2), (dimension,))
        bias = self.param("bias", koch_bias_init, ())
        return lambda a, b: distances.absolute_difference(a, b) @ weight + bias, dimension


class Binary(_PairByPair):
    """A small network on the components' absolute differences: |a − b| -> hidden layers with ReLU -> logit.

    `WeightedL1` with layers in between, so that differences can interact; common for faces, with binary cross-entropy.
    With no hidden layer it is logistic regression on |a − b|.

    Attributes:
      hidden: width of each hidden layer, first to last.
    """

    hidden: Sequence[int] = (128,)

    @nn.compact
    def _score(self, dimension):
        sizes = (dimension, *self.hidden)
        layers = [
            (
                self.param(f"hidden_weight_{i}", nn.initializers.he_normal(), sizes[i : i + 2]),
                self.param(f"hidden_bias_{i}", nn.initializers.zeros, sizes[i + 1 : i + 2]),
            )
            for i in range(len(self.hidden))
        ]
        weight = self.param("weight", nn.initializers.normal(sizes[-1] ** -0.5), sizes[-1:])
        bias = self.param("bias", nn.initializers.zeros, ())

        def score(a, b):
            # As one matrix product over all pairs, with rows for pairs.
            x = distances.absolute_difference(a, b)
            pairs = x.shape[:-1]
            x = x.reshape(-1, dimension)
            for hidden_weight, hidden_bias in layers:
                x = nn.relu(x @ hidden_weight + hidden_bias[None, :])
            return (x @ weight + bias).reshape(pairs)

        return score, sum(sizes)


class FourFeature(_PairByPair):
    """Four features of each component, ab, a + b, |a − b|, (a − b)², through one small network; then a weighted sum.

    logit = Σ_k w_k g(a_k b_k, a_k + b_k, |a_k − b_k|, (a_k − b_k)²) + w_0, where g, the same for each component k, has
    one hidden layer with ReLU and one output. Sums and products encode where in its range a component is, so that a
    difference can count more in one part of the range than in another.

    M. Piotte: Whale Recognition Model, Kaggle humpback whale identification (2018);
    https://www.kaggle.com/martinpiotte/whale-recognition-model-with-score-0-78563. Its sigmoid is the probability of
    "same".

    Attributes:
      hidden: width of the hidden layer; 32 in the original.
    """

    hidden: int = 32

    @nn.compact
    def _score(self, dimension):
        hidden_weight = self.param("hidden_weight", nn.initializers.he_normal(), (4, self.hidden))
        hidden_bias = self.param("hidden_bias", nn.initializers.zeros, (self.hidden,))
        output_weight = self.param("output_weight", nn.initializers.normal(self.hidden**-0.5), (self.hidden,))
        output_bias = self.param("output_bias", nn.initializers.zeros, ())
        weight = self.param("weight", nn.initializers.normal(dimension**-0.5), (dimension,))
        bias = self.param("bias", nn.initializers.zeros, ())

        def score(a, b):
            difference = distances.absolute_difference(a, b)
            features = jnp.stack([a * b, a + b, difference, jnp.square(difference)])
            # Features and hidden units come first, so that the components of all pairs are one long, dense axis.
            hidden = nn.relu(hidden_weight.T @ features.reshape(4, -1) + hidden_bias[:, None])
            outputs = (output_weight @ hidden + output_bias).reshape(difference.shape)
            return outputs @ weight + bias

        return score, dimension * (4 + self.hidden)


class Mahalanobis(nn.Module):
    """Squared Mahalanobis distance of low rank, negated: logit = w_0 − (a − b)ᵀ L Lᵀ (a − b) = w_0 − |Lᵀ(a − b)|².

    Weinberger, Saul: Distance Metric Learning for Large Margin Nearest Neighbor Classification (2009), section 2;
    https://jmlr.org/papers/v10/weinberger09a.html. L starts from N(0, 1/rank), which preserves distances on average,
    and the bias from 0.

    Attributes:
      rank: columns of L; more than the embedding's length add nothing.
    """

    rank: int = 32

    @nn.compact
    def _terms(self, dimension):
        weight = self.param("weight", nn.initializers.normal(self.rank**-0.5), (dimension, self.rank))
        return weight, self.param("bias", nn.initializers.zeros, ())

    def __call__(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n] of "same" for the pairs of a [n, d] and b [n, d]."""
        a, b = checked_pairs(a, b)
        weight, bias = self._terms(a.shape[-1])
        return bias - jnp.sum(jnp.square(_product(a - b, weight)), axis=-1)

    def all_pairs(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n, m] of "same" for each of a [n, d] with each of b [m, d]."""
        a, b = checked_sets(a, b)
        weight, bias = self._terms(a.shape[-1])
        return bias - distances.pairwise_squared_euclidean(_product(a, weight), _product(b, weight))


class Bilinear(nn.Module):
    """A learned inner product: logit = aᵀ W b + w_0.

    Chechik, Sharma, Shalit, Bengio: Large Scale Online Learning of Image Similarity Through Ranking (2010), section 2;
    https://jmlr.org/papers/v11/chechik10a.html. W starts from the identity, as in the paper, and the bias from 0.

    Attributes:
      symmetric: use (W + Wᵀ) / 2 for W, so that the order of two embeddings does not matter. If False, it does: for
        inputs of two kinds, such as sketch and photograph.
    """

    symmetric: bool = True

    @nn.compact
    def _terms(self, dimension):
        weight = self.param("weight", lambda key, shape: jnp.eye(*shape), (dimension, dimension))
        if self.symmetric:
            weight = (weight + weight.T) / 2
        return weight, self.param("bias", nn.initializers.zeros, ())

    def __call__(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n] of "same" for the pairs of a [n, d] and b [n, d]."""
        a, b = checked_pairs(a, b)
        weight, bias = self._terms(a.shape[-1])
        return distances.dot(_product(a, weight), b) + bias

    def all_pairs(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n, m] of "same" for each of a [n, d] with each of b [m, d]."""
        a, b = checked_sets(a, b)
        weight, bias = self._terms(a.shape[-1])
        return distances.pairwise_dot(_product(a, weight), b) + bias


class Distance(nn.Module):
    """Nearer than a learned threshold, on a learned scale: logit = s (t − distance(a, b)), with s > 0.

    It orders pairs as the distance of `siamjax.distances` does, so it scores embeddings that were trained with a loss
    on distances, even before its two parameters are trained; training these makes the logit's sigmoid a probability.
    For "dot", a similarity, logit = s (a·b − t).

    Attributes:
      distance: "squared_euclidean", "euclidean", "l1", "lp" (with p = 2), "cosine" or "dot".
      scale: initial s, above 0; log s is the parameter.
      threshold: initial t, in units of the distance.
    """

    distance: DistanceName = "euclidean"
    scale: float = 10.0
    threshold: float = 0.7

    @nn.compact
    def _logits(self, distance):
        scale, threshold = scale_and_threshold(self)
        farther = distance - threshold
        return scale * (farther if self.distance == "dot" else -farther)

    def __call__(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n] of "same" for the pairs of a [n, d] and b [n, d]."""
        paired, _ = choose("distance", self.distance, DISTANCES)
        return self._logits(paired(*distances.widen(a, b)))

    def all_pairs(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n, m] of "same" for each of a [n, d] with each of b [m, d]."""
        _, pairwise = choose("distance", self.distance, DISTANCES)
        return self._logits(pairwise(*distances.widen(a, b)))


def _product(a, b):
    # The inputs of a distance must not lose bits to an accelerator's faster, less precise product.
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


# Heads that a configuration can name; add your own here.
HEADS: dict[str, type[nn.Module]] = {
    "aligned": Aligned,
    "bilinear": Bilinear,
    "binary": Binary,
    "distance": Distance,
    "four_feature": FourFeature,
    "mahalanobis": Mahalanobis,
    "weighted_l1": WeightedL1,
}


def make(name: str, **options: Any) -> nn.Module:
    """The head called `name` in `HEADS`; `options` are its attributes.

    Raises:
      ValueError: the name is unknown.
    """
    return choose("name", name, HEADS)(**options)
