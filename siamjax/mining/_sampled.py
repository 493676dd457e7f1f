"""Triplets drawn at random."""

import jax
import jax.numpy as jnp
from jax import lax

from siamjax.mining._candidates import Labels, Triplets, active_share, as_triplets, prepare, triplets_per_anchor
from siamjax.rows import vary_like
from siamjax.types import Array


def distance_weighted(
    key: jax.Array,
    distances: Array,
    labels: Labels,
    *,
    dimension: int,
    k: int = 1,
    cutoff: float = 0.5,
    nonzero_loss_cutoff: float = 1.4,
    margin: float = 0.2,
    where: Array | None = None,
) -> Triplets:
    """Random triplets whose negatives are at all distances equally often: P(n | a) ∝ 1 / q(max(d_an, cutoff)).

    q(d) ∝ d^(D−2) (1 − d²/4)^((D−3)/2) is the density of the distance between random points on the unit sphere in D
    dimensions; the cutoff bounds the weights, as λ does in the paper. Negatives at `nonzero_loss_cutoff` and beyond,
    whose loss would be 0, are not drawn. Wu, Manmatha, Smola, Krähenbühl: Sampling Matters in Deep Embedding Learning
    (2017), section 4; https://arxiv.org/abs/1706.07567.

    Args:
      key: PRNG key.
      distances: float [n, m], plain Euclidean, of embeddings of unit length: 0 to 2.
      labels: int [n], or the `Candidates` [n, m] of each anchor.
      dimension: D, the length of an embedding, 2 or more.
      k: triplets per anchor, each with a positive drawn uniformly and a negative drawn as above, with replacement.
      cutoff: distance below which weights grow no further; with 0, one that coincides with its anchor is always drawn,
        except for D = 2, where no weight exceeds 1.
      nonzero_loss_cutoff: distance beyond which negatives are not drawn.
      margin: the loss's margin; only `active_share` depends on it.
      where: bool [n], which items of the batch take part; None for all.

    Returns:
      `Triplets` [n·k], an anchor's one after another; not valid where it has no positive or no negative near enough.

    Raises:
      ValueError: there are no items, or `dimension` is below 2.
    """
    if dimension < 2:
        raise ValueError(f"dimension={dimension}: it is the length of an embedding, 2 or more")
    distances, found = _prepare(distances, labels, where)
    d = jnp.maximum(distances, cutoff).astype(jnp.promote_types(distances.dtype, jnp.float32))
    # Coincident points and antipodes weigh without bound; floors keep that finite, in case the cut-offs let them in.
    d = jnp.maximum(d, jnp.finfo(d.dtype).tiny)
    floor = jnp.finfo(d.dtype).eps
    log_q = (dimension - 2) * jnp.log(d) + (dimension - 3) / 2 * jnp.log(jnp.maximum(1 - jnp.square(d) / 4, floor))
    drawn = found.negative & ~(distances >= nonzero_loss_cutoff)
    from_positives = jnp.where(found.positive, 0.0, -jnp.inf)
    from_negatives = jnp.where(drawn, -log_q, -jnp.inf)

    def draw(key):
        positive_key, negative_key = jax.random.split(key)
        positive = jax.random.categorical(positive_key, from_positives, axis=1)
        return positive, jax.random.categorical(negative_key, from_negatives, axis=1)

    # One draw at a time: k of them at once would need k·n·m random numbers.
    positive, negative = (x.T for x in lax.map(draw, jax.random.split(key, k)))
    anchor = lax.broadcasted_iota(jnp.int32, positive.shape, 0)
    active = active_share(distances, found, margin)
    return as_triplets(found, anchor, positive, negative, active_share=active, where=drawn[anchor, negative])


def random_triplets(
    key: jax.Array,
    distances: Array,
    labels: Labels,
    *,
    count: int,
    margin: float = 0.2,
    where: Array | None = None,
) -> Triplets:
    """`count` different triplets, every set of that many equally likely; all of them where there are fewer.

    Args:
      key: PRNG key.
      distances: float [n, m], smaller is more alike; only `active_share` depends on them.
      labels: int [n], or the `Candidates` [n, m] of each anchor.
      count: number of triplets.
      margin: the loss's margin, in units of the distance; only `active_share` depends on it.
      where: bool [n], which items of the batch take part; None for all.

    Returns:
      `Triplets` [count], in random order; not valid past the last where there are fewer than `count`.

    Raises:
      ValueError: `count` is below 1, or there are no items.
    """
    if count < 1:
        raise ValueError(f"count={count}: draw one triplet or more")
    distances, found = _prepare(distances, labels, where)
    sizes = triplets_per_anchor(found)
    # Few enough to be counted out are drawn from the list of them all. Of many, a random one is seldom drawn twice.
    listed = 4 * count
    few = jnp.sum(sizes.astype(jnp.float32)) <= listed
    anchor, positive, negative, exists = lax.cond(
        few,
        lambda: _choose_listed(key, found, sizes, count, listed),
        lambda: _draw_different(key, found, sizes, count, ~few),
    )
    positive, negative = _column(found.positive, anchor, positive), _column(found.negative, anchor, negative)
    active = active_share(distances, found, margin)
    return as_triplets(found, anchor, positive, negative, active_share=active, where=exists)


def _prepare(distances, labels, where):
    """As `prepare`, of something to draw from."""
    if not distances.size:
        raise ValueError(f"distances: found shape {list(distances.shape)}, with no items to draw triplets from")
    return prepare(distances, labels, where)


def _choose_listed(key, found, sizes, count, listed):
    """`count` of the triplets numbered from 0, as anchor and ranks of its positive and negative; those past the last
    do not exist."""
    ends = jnp.cumsum(sizes)
    chosen = jax.random.uniform(key, (listed,))
    chosen = jnp.argsort(jnp.where(jnp.arange(listed) < ends[-1], chosen, jnp.inf))[:count]
    exists = chosen < ends[-1]
    anchor = jnp.minimum(jnp.searchsorted(ends, chosen, side="right"), len(sizes) - 1)
    within = chosen - (ends - sizes)[anchor]
    negatives = jnp.maximum(jnp.sum(found.negative, axis=1), 1)[anchor]
    return *_int32(anchor, within // negatives, within % negatives), exists


def _draw_different(key, found, sizes, count, wanted):
    """`count` different triplets, as anchor and ranks of its positive and negative, drawn until they are.

    Anchors are drawn uniformly and kept in proportion to their triplets, in whole numbers, hence without rounding.
    """
    order = jnp.argsort(sizes == 0, stable=True)
    anchors = jnp.maximum(jnp.sum(sizes > 0), 1)
    most = jnp.maximum(jnp.max(sizes), 1)
    positives, negatives = jnp.sum(found.positive, axis=1), jnp.sum(found.negative, axis=1)

    def below(key, *limits):
        limits = jnp.stack([jnp.broadcast_to(limit, (count,)) for limit in limits])
        return jax.random.randint(key, limits.shape, 0, jnp.maximum(limits, 1), jnp.int32)

    def redraw(state):
        key, triplets, bad = state
        key, anchor_key, other_key = jax.random.split(key, 3)
        place, level = below(anchor_key, anchors, most)
        anchor = order[place]
        fresh = _int32(anchor, *below(other_key, positives[anchor], negatives[anchor]))
        triplets = tuple(jnp.where(bad, new, old) for new, old in zip(fresh, triplets, strict=True))
        missing = bad & (level >= sizes[anchor])
        return key, triplets, missing | _repeated(triplets, missing)

    nothing = jnp.zeros((count,), jnp.int32)
    state = vary_like(found.positive, (key, (nothing, nothing, nothing), jnp.full((count,), wanted)))
    _, triplets, _ = lax.while_loop(lambda state: jnp.any(state[2]), redraw, state)
    return *triplets, vary_like(found.positive, jnp.ones((count,), bool))


def _repeated(triplets, missing):
    """bool [t]: whether the triplet also occurs earlier; missing ones repeat nothing."""
    place = jnp.arange(len(missing), dtype=jnp.int32)
    anchor, positive, negative = triplets
    *ordered, place = lax.sort((jnp.where(missing, -1 - place, anchor), positive, negative, place), num_keys=3)
    alike = [x[1:] == x[:-1] for x in ordered]
    return jnp.zeros_like(missing).at[place[1:]].set(alike[0] & alike[1] & alike[2])


def _column(mask, row, rank):
    """int32 [t]: the column of row `row`'s `rank`-th (from 0) place within `mask` [n, m]."""
    ranks = jnp.cumsum(mask, axis=1, dtype=jnp.int32)
    low, high = jnp.zeros_like(rank), jnp.full_like(rank, mask.shape[1] - 1)
    # Halving by hand: a batched searchsorted would copy a row of the matrix for every triplet.
    for _ in range(mask.shape[1].bit_length()):
        middle = (low + high) // 2
        before = ranks[row, middle] <= rank
        low, high = jnp.where(before, jnp.minimum(middle + 1, high), low), jnp.where(before, high, middle)
    return low


def _int32(*arrays):
    return tuple(x.astype(jnp.int32) for x in arrays)
