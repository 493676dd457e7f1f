"""Learned distances: embeddings, embeddings -> logit of "same".

Every head scores pairs ([n, d], [n, d] -> [n]) when called, and all against all ([n, d], [m, d] -> [n, m]) by its
method `all_pairs`, whose value and gradient need little more memory than the result. Embeddings are not normalised;
logits are float32 at least. All but the asymmetric `Bilinear` give the same logit whichever of two embeddings comes
first.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from siamjax import distances, parallel
from siamjax.choices import choose
from siamjax.encoders import koch_bias_init
from siamjax.options import DISTANCES, DistanceName
from siamjax.types import Array


class _PairByPair(nn.Module):
    """Base of the heads that compare the components of one pair at a time; a subclass defines `_score`."""

    def _score(self, dimension):
        """The logit as a broadcasting function of [..., d] and [..., d], and how many floats it holds per pair."""
        raise NotImplementedError

    def __call__(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n] of "same" for the pairs of a [n, d] and b [n, d]."""
        a, b = _checked_pairs(a, b)
        score, _ = self._score(a.shape[-1])
        return score(a, b)

    def all_pairs(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n, m] of "same" for each of a [n, d] with each of b [m, d]."""
        a, b = _checked_sets(a, b)
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
        a, b = _checked_pairs(a, b)
        weight, bias = self._terms(a.shape[-1])
        return bias - jnp.sum(jnp.square(_product(a - b, weight)), axis=-1)

    def all_pairs(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n, m] of "same" for each of a [n, d] with each of b [m, d]."""
        a, b = _checked_sets(a, b)
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
        a, b = _checked_pairs(a, b)
        weight, bias = self._terms(a.shape[-1])
        return distances.dot(_product(a, weight), b) + bias

    def all_pairs(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n, m] of "same" for each of a [n, d] with each of b [m, d]."""
        a, b = _checked_sets(a, b)
        weight, bias = self._terms(a.shape[-1])
        return distances.pairwise_dot(_product(a, weight), b) + bias


def _scale_and_threshold(head):
    """The head's learned s and t, initialised from its `scale` and `threshold`."""
    # The logarithm keeps s above 0: a nearer pair never scores lower, whatever weight decay does.
    log_scale = head.param("log_scale", nn.initializers.constant(math.log(head.scale)), ())
    threshold = head.param("threshold", nn.initializers.constant(head.threshold), ())
    return jnp.exp(log_scale), threshold


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
        scale, threshold = _scale_and_threshold(self)
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


class Aligned(nn.Module):
    """Matches each place of one image with the best of the places near it in the other; then a weighted mean.

    For embeddings that are maps of descriptors, as the encoder "local" outputs: a descriptor's direction encodes what
    is there, its length how much that counts. logit = s (m − t), where m is the mean, over the places of a by weight,
    of the highest cosine with a descriptor of b at most `reach` steps away, vertically and horizontally together;
    averaged with the same of b to a, where beyond the edge every cosine is 0. Strokes drawn a little higher or wider
    then make no difference.

    Keysers, Deselaers, Gollan, Ney: Deformation Models for Image Recognition (2007), section 3.4 (its image distortion
    model, of learned descriptors); https://doi.org/10.1109/TPAMI.2007.1153. log s and t are learned.

    Attributes:
      cells, columns: height and width of the map, in places; columns 0 is as cells. An encoder "local" has a place for
        4 pixels, "local56" for 8.
      reach: how many steps a place may move, vertically and horizontally together; 0 compares the same places.
      scale: initial s, above 0.
      threshold: initial t, a cosine.
    """

    cells: int = 7
    columns: int = 0
    reach: int = 1
    scale: float = 14.0
    threshold: float = 0.7

    @nn.compact
    def _logits(self, similarity):
        scale, threshold = _scale_and_threshold(self)
        return scale * (similarity - threshold)

    def __call__(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n] of "same" for the pairs of a [n, d] and b [n, d]; d is the places times the channels."""
        a, b = _checked_pairs(a, b)
        return self._logits(self._similarity(a, b, "npc,npc->pn", "pn,np->n"))

    def all_pairs(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n, m] of "same" for each of a [n, d] with each of b [m, d]."""
        itself = a is b
        a, b = _checked_sets(a, b)
        # On a CPU, blocks larger than a cache: matrix products gain more from their size.
        width = -(-(self.cells * (self.columns or self.cells)) // (16 if parallel.on_cpu() else 4))
        product, mean = "npc,mpc->pnm", "pnm,np->nm"
        if itself:  # The two ways are each other's transpose.
            there = distances.blockwise(
                lambda a, b: self._matched(self._map(a), self._map(b), product, mean), a, a, width
            )
            return self._logits((there + there.T) / 2)
        similarity = functools.partial(self._similarity, product=product, mean=mean)
        return self._logits(distances.blockwise(similarity, a, b, width))

    def _similarity(self, a, b, product, mean):
        """The mean of the best matches both ways, for the pairs that `product` makes of [n, p, c] and [m, p, c]."""
        a, b = self._map(a), self._map(b)
        there, back = self._matched(a, b, product, mean), self._matched(b, a, product, mean)
        return (there + back.T) / 2

    def _map(self, x):
        """[n, d] -> descriptors of length 1 [n, rows, columns, channels], and weights that sum to 1 [n, places]."""
        rows, columns = self.cells, self.columns or self.cells
        if x.shape[1] % (rows * columns):
            raise ValueError(
                f"an embedding of {x.shape[1]} components is not a map of {rows}×{columns} places (cells, columns); "
                "use the encoder 'local' or 'local56', with an embedding that is a multiple of the places"
            )
        x = x.reshape(x.shape[0], rows, columns, -1)
        directions = distances.unit(x)
        weight = jnp.sum(x * directions, axis=-1).reshape(x.shape[0], -1)
        total = jnp.sum(weight, axis=1, keepdims=True)
        return directions, weight / jnp.where(total > 0, total, 1)

    def _matched(self, a, b, product, mean):
        """The mean over the places of a, by weight, of the best match in b."""
        (a, weight), (b, _) = a, b
        reach, (_, rows, columns, _) = self.reach, a.shape
        moves = [
            (y, x) for y, x in np.ndindex(2 * reach + 1, 2 * reach + 1) if abs(y - reach) + abs(x - reach) <= reach
        ]
        b = jnp.pad(b, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        near = [b[:, y : y + rows, x : x + columns] for y, x in moves]
        best = _best_match(product, *(x.reshape(x.shape[0], -1, x.shape[-1]) for x in (a, *near)))
        return _einsum(mean, best, weight)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _best_match(product, a, *candidates):
    """The largest of the `product`s of a with each candidate; the gradient goes to the first that has it.

    Keeping all products for the backward pass would fill the memory: there, each is recomputed, and identified by its
    number.
    """
    return _best_match_forward(product, a, *candidates)[0]


def _best_match_forward(product, a, *candidates):
    best = _einsum(product, a, candidates[0])
    winner = jnp.zeros(best.shape, jnp.uint8)
    for number, candidate in enumerate(candidates[1:], start=1):
        value = _einsum(product, a, candidate)
        better = value > best
        best, winner = jnp.where(better, value, best), jnp.where(better, jnp.uint8(number), winner)
    return best, (a, candidates, winner)


def _best_match_backward(product, saved, cotangent):
    a, candidates, winner = saved
    of_a, of_candidates = jnp.zeros_like(a), []
    for number, candidate in enumerate(candidates):
        _, pull = jax.vjp(functools.partial(_einsum, product), a, candidate)
        change, of_candidate = pull(jnp.where(winner == number, cotangent, 0))
        of_a += change
        of_candidates.append(of_candidate)
    return of_a, *of_candidates


_best_match.defvjp(_best_match_forward, _best_match_backward)


def _einsum(product, a, b):
    return jnp.einsum(product, a, b, precision=lax.Precision.HIGHEST)


def _checked_pairs(a, b):
    chex.assert_rank([a, b], 2)
    chex.assert_equal_shape([a, b])
    return distances.widen(a, b)


def _checked_sets(a, b):
    chex.assert_rank([a, b], 2)
    chex.assert_equal_shape_suffix([a, b], 1)
    return distances.widen(a, b)


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
