"""The head for embeddings that are maps of descriptors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from siamjax import distances, parallel
from siamjax.heads._shared import checked_pairs, checked_sets, scale_and_threshold
from siamjax.types import Array

# On a CPU, up to _FEW images, on maps of up to _MOST_PLACES, are compared with others by one product of all places.
_FEW, _MOST_PLACES = 8, 64
_UNROLLED = 400  # products of a channel and a step in one loop of `score_prepared`: more take long to compile


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
        scale, threshold = scale_and_threshold(self)
        return scale * (similarity - threshold)

    def __call__(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n] of "same" for the pairs of a [n, d] and b [n, d]; d is the places times the channels."""
        a, b = checked_pairs(a, b)
        return self._logits(self._similarity(a, b, "npc,npc->pn", "pn,np->n"))

    def all_pairs(self, a: Array, b: Array) -> jax.Array:
        """Logits float [n, m] of "same" for each of a [n, d] with each of b [m, d]."""
        itself = a is b
        a, b = checked_sets(a, b)
        places = self.cells * (self.columns or self.cells)
        if parallel.on_cpu() and not itself and min(len(a), len(b)) <= _FEW and places <= _MOST_PLACES:
            few, others = (b, a) if len(a) > len(b) else (a, b)
            similarity = distances.blockwise(self._similarity_to_few, few, others, places**2)
            return self._logits(similarity if few is a else similarity.T)
        # On a CPU, blocks larger than a cache: matrix products gain more from their size.
        width = -(-places // (6 if parallel.on_cpu() else 4))
        product, mean = "npc,mpc->pnm", "pnm,np->nm"
        if itself:  # The two ways are each other's transpose.
            there = distances.blockwise(
                lambda a, b: self._matched(self._map(a), self._map(b), product, mean), a, a, width
            )
            return self._logits((there + there.T) / 2)
        similarity = functools.partial(self._similarity, product=product, mean=mean)
        return self._logits(distances.blockwise(similarity, a, b, width))

    def prepare(self, x: Array) -> tuple[jax.Array, jax.Array]:
        """Embeddings [n, d] as `score_prepared` takes them, for images that are compared several times each.

        Returns:
          Descriptors of length 1 [n, channels, p'] and weights [n, p]. An image's places are in one row, with zeros
          between the rows of the map, and in the descriptors rows of zeros above and below: a step to a place nearby
          is then one along the row, and leads to a 0 beyond the edge.
        """
        (x,) = distances.widen(x)
        directions, weight = self._map(x)
        n, rows, columns, channels = directions.shape
        gap = (0, self.reach)
        directions = jnp.pad(directions, ((0, 0), (self.reach, self.reach), gap, (0, 0))).transpose(0, 3, 1, 2)
        weight = jnp.pad(weight.reshape(n, rows, columns), ((0, 0), (0, 0), gap))
        return directions.reshape(n, channels, -1), weight.reshape(n, -1)

    def score_prepared(self, a: tuple[jax.Array, jax.Array], b: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Logits float [n] of "same" for pairs, to rounding those of a call; for many pairs, and no gradients.

        Each cosine is computed once and serves both ways: of place p with q = p + step, it is that of q with q - step.
        """
        (first, weight_a), (second, weight_b) = a, b
        size, width = weight_a.shape[1], (self.columns or self.cells) + self.reach
        steps = [(y - self.reach) * width + x - self.reach for y, x in self._moves()]
        start, group = self.reach * width, _group(first.shape[1], len(steps))

        def with_group(number, cosines):
            a, b = (lax.dynamic_slice_in_dim(x, number * group, group, axis=1) for x in (first, second))
            for channel in range(group):
                here, there = a[:, channel, start : start + size], b[:, channel]
                near = [there[:, start + step : start + step + size] for step in steps]
                cosines = [cosine + here * other for cosine, other in zip(cosines, near, strict=True)]
            return cosines

        nothing = [jnp.zeros_like(weight_a)] * len(steps)
        cosines = lax.fori_loop(0, first.shape[1] // group, with_group, nothing)
        back = [_shifted(cosine, step) for cosine, step in zip(cosines, steps, strict=True)]
        best, best_back = functools.reduce(jnp.maximum, cosines), functools.reduce(jnp.maximum, back)
        return self._logits((jnp.sum(best * weight_a, axis=1) + jnp.sum(best_back * weight_b, axis=1)) / 2)

    def _similarity(self, a, b, product, mean):
        """The mean of the best matches both ways, for the pairs that `product` makes of [n, p, c] and [m, p, c]."""
        a, b = self._map(a), self._map(b)
        there, back = self._matched(a, b, product, mean), self._matched(b, a, product, mean)
        return (there + back.T) / 2

    def _similarity_to_few(self, a, b):
        """`_similarity` of few a [n, d] with each of b [m, d]: one product of all their places, of which some are near.

        Place by place, the matrix products would be too small.
        """
        near, beyond = self._near()
        (a, of_a), (b, of_b) = ((x.reshape(len(x), len(near), -1), weight) for x, weight in map(self._map, (a, b)))
        products = _einsum("mqc,npc->mqnp", b, a)
        products = jnp.where(near[None, :, None], products, -jnp.inf)
        there = jnp.maximum(products.max(axis=1), beyond[None, None])  # [m, n, p]
        back = jnp.maximum(products.max(axis=3), beyond[None, :, None])  # [m, q, n]
        return (_einsum("mnp,np->nm", there, of_a) + _einsum("mqn,mq->nm", back, of_b)) / 2

    def _near(self):
        """bool [places, places], those at most `reach` steps apart; [places], the cosine beyond the edge, or -inf."""
        row, column = np.divmod(np.arange(self.cells * (self.columns or self.cells)), self.columns or self.cells)
        near = np.abs(np.subtract.outer(row, row)) + np.abs(np.subtract.outer(column, column)) <= self.reach
        return near, np.where(near.sum(axis=1) < len(self._moves()), 0, -np.inf).astype(np.float32)

    def _moves(self):
        """Where a place may move: rows and columns from the upper left corner of what is within reach, 0..2 reach."""
        reach = self.reach
        return [(y, x) for y, x in np.ndindex(2 * reach + 1, 2 * reach + 1) if abs(y - reach) + abs(x - reach) <= reach]

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
        b = jnp.pad(b, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        near = [b[:, y : y + rows, x : x + columns] for y, x in self._moves()]
        best = _best_match(product, *(x.reshape(x.shape[0], -1, x.shape[-1]) for x in (a, *near)))
        return _einsum(mean, best, weight)


def _group(channels, steps):
    """How many channels one loop of `score_prepared` adds up: a divisor of all, and few enough to compile quickly."""
    few = [group for group in range(1, channels + 1) if channels % group == 0 and group * steps <= _UNROLLED]
    return max(few, default=1)


def _shifted(x, step):
    """x [n, p] shifted right by `step`, left if it is negative, and filled up with 0."""
    before, after = max(step, 0), max(-step, 0)
    return jnp.pad(x, ((0, 0), (before, after)))[:, after : after + x.shape[1]]


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
