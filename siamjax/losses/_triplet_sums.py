"""Sums over an anchor's triplets, without the [n, n, n] array of them.

The batch is sorted by class, so that the positives of an anchor are adjacent. Each pass takes a few of them, and
compares them with all the anchor's negatives at once. There are only as many passes as the largest class needs: on the
CPU this is faster than sorting each row of distances, unless an anchor has several hundred positives. Where the pairs
are not those of a batch, the positives are found one after another in the masks.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from siamjax import distances
from siamjax.losses._candidates import Compared
from siamjax.rows import columns, farthest, first, nearest, vary_like
from siamjax.types import PairwiseDistance, Scalar

Negatives = Literal["all", "semi_hard", "semi_hard_or_farthest"]

# The batch is padded to a multiple of this, which is also how many booleans are counted in one int8.
_MULTIPLE = 64
# Positives of an anchor that are compared with its negatives in one pass over these.
_SLOTS = 4
# Distances in one block of anchors, few enough to stay in a core's cache from one pass to the next.
_BLOCK = 1 << 17


def sums_of_anchors(
    c: Compared, distance: PairwiseDistance, margin: Scalar, *, soft: bool, negatives: Negatives = "all"
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums over each anchor's triplets, in the order of the whole batch.

    Args:
      c: the batch and what it is compared with.
      distance: all-pairs distance, [n, d], [m, d] -> [n, m].
      margin: m.
      soft: log(1 + exp(gap + m)) in place of max(0, gap + m), where gap is d_ap − d_an.
      negatives: which negatives each positive pair goes with: "all"; "semi_hard", the nearest that is farther than the
        positive; or "semi_hard_or_farthest", where there is none the farthest of all.

    Returns:
      float [n] losses, number of triplets, number of them with gap + m > 0; no gradient flows through the last two.
    """
    if not len(c.anchors) or not len(c.others):
        nothing = jnp.zeros((len(c.anchors),), c.anchors.dtype)
        return nothing, nothing, nothing
    if c.within and c.labels is not None:
        order, pairs = _by_class(c.labels[0], c.where)
        x = y = c.anchors[order]
    else:
        order = jnp.arange(len(c.anchors))
        x, y, pairs = _padded(c.anchors), _padded(c.others), _by_masks(c.found)
    # Counts up to n, and sums of as many losses, are beyond half precision.
    (d,) = distances.widen(distance(x, y))
    losses, terms, active = _sums((soft, negatives), d, jnp.asarray(margin, d.dtype), pairs)
    # NaN may come from entries of no triplet; of the triplets, it leaves unknown which are active.
    losses = jnp.where(terms > 0, losses, 0)
    active = jnp.where(jnp.isnan(losses), lax.stop_gradient(losses), active)
    sums = (each[: len(order)] for each in (losses, terms, active))
    losses, terms, active = (jnp.zeros((len(c.anchors),), d.dtype).at[order].add(each) for each in sums)
    return losses, terms, active


@struct.dataclass
class _Classes:
    """The pairs of a batch sorted by class: where each item's class begins and ends; the first `count` take part."""

    row: jax.Array
    start: jax.Array
    stop: jax.Array
    count: jax.Array

    def negative(self, column):
        return ((column < self.start[:, None]) | (column >= self.stop[:, None])) & (column < self.count[:, None])

    def before(self):
        """The column before each row's first positive; and the largest number of positives."""
        return self.start - 1, jnp.max(self.stop - self.start) - 1

    def following(self, last):
        """Each row's next positive column after `last`, and whether there is one."""
        at = last + 1 + (last + 1 == self.row)
        return at, at < self.stop


@struct.dataclass
class _Masks:
    """Any pairs: masks bool [n, m]."""

    positive: jax.Array
    negatives: jax.Array

    def negative(self, column):
        return self.negatives

    def before(self):
        counts = jnp.sum(self.positive, axis=1, dtype=jnp.int32)
        return jnp.full(counts.shape, -1, jnp.int32), jnp.max(counts)

    def following(self, last):
        left = self.positive & (columns(self.positive) > last[:, None])
        return first(left), jnp.any(left, axis=1)


def _by_class(labels, where):
    """The order that sorts the batch by class, those that take no part last, and the classes in it.

    Items that take no part, and padding, are replaced by the first item: so they do not extend the range of the batch,
    with which a distance's rounding error may grow.
    """
    count = jnp.sum(where, dtype=jnp.int32)
    order = jnp.pad(jnp.lexsort((labels, ~where)), (0, -len(labels) % _MULTIPLE))
    place = jnp.arange(len(order), dtype=jnp.int32)
    order = jnp.where(place < count, order, order[0])
    labels = jnp.asarray(labels)[order]
    begins = (labels != jnp.roll(labels, 1)) | (place == 0) | (place >= count)
    start = lax.cummax(jnp.where(begins, place, 0))
    ends = jnp.roll(begins, -1).at[-1].set(True)
    stop = lax.cummin(jnp.where(ends, place + 1, len(order)), reverse=True)
    stop = jnp.where(place < count, stop, start)
    return order, _Classes(row=place, start=start, stop=stop, count=jnp.full_like(place, count))


def _by_masks(found):
    """The pairs as masks of rows and columns padded to a multiple; anchors without negatives have no triplets."""
    margins = [(0, -size % _MULTIPLE) for size in found.positive.shape]
    positive = found.positive & jnp.any(found.negative, axis=1, keepdims=True)
    return _Masks(positive=jnp.pad(positive, margins), negatives=jnp.pad(found.negative, margins))


def _padded(x):
    return jnp.pad(x, ((0, -len(x) % _MULTIPLE), (0, 0)), mode="edge")


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sums(rule, d, margin, pairs):
    """Distances [n, m] of padded sets -> losses, triplets and active triplets of each anchor, float [n]."""
    return _scan(rule, d, margin, pairs)[0]


@_sums.defjvp
def _sums_jvp(rule, primals, tangents):
    sums, slopes = _scan(rule, *primals)
    d_dot, margin_dot, _ = tangents
    # The slopes at an anchor's positives are those of its gaps, which contain the margin.
    dot = jnp.sum(slopes * d_dot, axis=1) + jnp.sum(jnp.maximum(slopes, 0), axis=1) * margin_dot
    return sums, (dot, jnp.zeros_like(dot), jnp.zeros_like(dot))


def _scan(rule, d, margin, pairs):
    """The three sums [n] of each anchor, and the derivative [n, m] of its losses by its distances."""
    rows = 1 << max(min(_BLOCK // d.shape[1], _MULTIPLE).bit_length() - 1, 0)
    blocks = jax.tree.map(lambda x: x.reshape(len(d) // rows, rows, *x.shape[1:]), (d, pairs))
    sums, slopes = lax.map(lambda block: _scan_block(rule, *block, margin=margin), blocks)
    return jax.tree.map(lambda x: x.reshape(len(d)), sums), slopes.reshape(d.shape)


def _scan_block(rule, d, pairs, margin):
    """`_scan` for a block of anchors: d [r, m]."""
    soft, negatives = rule
    column = columns(d)
    is_negative = pairs.negative(column)
    far = jnp.where(is_negative, d, jnp.inf)
    choose = _chooser(negatives, far, is_negative)
    at_most = d.shape[1] - 1
    before, most = pairs.before()

    def step(state):
        slot, last, values, terms, active, slopes = state
        gaps, places = [], []
        for _ in range(_SLOTS):
            last, is_positive = pairs.following(last)
            near = jnp.take_along_axis(d, jnp.minimum(last, at_most)[:, None], axis=1)
            chosen, found = choose(near)
            # The difference first: next to distances of 1e8, a margin added to one of them is lost.
            gaps.append(jnp.where(is_positive[:, None], near, -jnp.inf) - chosen + margin)
            places.append(last[:, None])
            terms += jnp.where(is_positive, found, 0)
            active += _count(gaps[-1] > 0)
        value, slope = _soft(gaps) if soft else _hinge(gaps)
        for at, s in zip(places, slope, strict=True):
            total = _count(s) if s.dtype == bool else jnp.sum(s, axis=1)
            slopes += jnp.where(column == at, total[:, None], -s.astype(d.dtype))
        return slot + _SLOTS, last, values + value, terms, active, slopes

    zeros = jnp.zeros_like(d)
    start = vary_like(d, (jnp.int32(0), before, zeros, zeros[:, 0], zeros[:, 0], zeros))
    _, _, values, terms, active, slopes = lax.while_loop(lambda x: x[0] < most, step, start)
    return (jnp.sum(values, axis=1), terms, active), slopes


def _hinge(gaps):
    """Σ max(0, gap), and the derivative of each."""
    return sum(jax.nn.relu(gap) for gap in gaps), [gap > 0 for gap in gaps]


def _soft(gaps):
    """Σ log(1 + exp(gap)), and the derivative of each."""
    linear, product, slopes = 0, 0, []
    for gap in gaps:
        power = jnp.exp(-jnp.abs(gap))
        linear += jax.nn.relu(gap)
        # (1 + product) is the product of all (1 + power): one logarithm serves all, without loss where they are small.
        product += power + product * power
        slopes.append(jnp.where(gap > 0, 1, power) / (1 + power))
    return linear + jnp.log1p(product), slopes


def _chooser(negatives, far, is_negative):
    """Function from a positive's distance [r, 1] to those of the chosen negatives [r, n], infinite elsewhere, and how
    many were chosen [r]."""
    if negatives == "all":
        count = _count(is_negative)
        return lambda near: (far, count)
    column = columns(far)
    farthest_of_all = farthest(far, is_negative)[:, None]

    def choose(near):
        beyond = is_negative & ~(far <= near)  # a NaN distance is chosen, too
        chosen = nearest(far, beyond)[:, None]
        if negatives == "semi_hard_or_farthest":
            chosen = jnp.where(jnp.any(beyond, axis=1, keepdims=True), chosen, farthest_of_all)
            beyond = is_negative
        is_chosen = beyond & (column == chosen)
        return jnp.where(is_chosen, far, jnp.inf), jnp.any(is_chosen, axis=1).astype(far.dtype)

    return choose


def _count(mask):
    """Number of True in each row, float32 or wider by promotion: [r, n] -> [r]."""
    # XLA counts several times faster in narrow integers, and 64 at once cannot overflow them below two million columns.
    lanes = mask.reshape(len(mask), -1, _MULTIPLE).astype(jnp.int16)
    return jnp.sum(jnp.sum(lanes, axis=1, dtype=jnp.int16), axis=1, dtype=jnp.int32).astype(jnp.float32)
