"""Which images make a batch, chosen in graph from index tables.

Every device draws the whole batch from the same key, so that the number of devices changes nothing, and then fetches
its own share of the images.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from siamjax.data.dataset import Dataset
from siamjax.types import Array


@struct.dataclass
class Index:
    """Tables from group to identities and from identity to images, padded to rectangles.

    Attributes:
      image: int32 [labels, most images of a label], image numbers; entries past `images` are padding.
      images: int32 [labels], how many images each identity has.
      label: int32 [groups, most labels of a group], identities of a group; entries past `labels` are padding.
      labels: int32 [groups], how many identities each group has.
      group: int32 [labels], the group of each identity.
      weight: float32 [groups], relative probability that a group comes into a batch; None for all equal.
      originals: int32 [], identities from this number on are variants of others; None where there are no variants.
      source: int32, in the shape of `image`, the source of each image; None if batches do not depend on sources.
    """

    image: Array
    images: Array
    label: Array
    labels: Array
    group: Array
    weight: Array | None = None
    originals: Array | None = None
    source: Array | None = None


@struct.dataclass
class Drawn:
    """Which images make a batch.

    Attributes:
      item: int32 [n], image numbers.
      label: int32 [n], their identities.
      group: int32 [n], their groups.
      turn: int32 [n], rotation or reflection of each image, see `augment.turn`; None for none.
      variant: bool [n], whether the identity is a variant, see `augment.vary`; None where there are no variants.
    """

    item: Array
    label: Array
    group: Array
    turn: Array | None = None
    variant: Array | None = None


def make_index(dataset: Dataset, weight: np.ndarray | None = None) -> Index:
    """The tables of `dataset`, as NumPy arrays; `weight` as in `Index`."""
    return index_of(dataset.label, dataset.group, weight)


def with_variants(index: Index) -> Index:
    """Doubles the identities: i + k is a variant of i with the same images (k identities)."""
    originals = len(index.images)
    stretched = np.full((len(index.labels), 2 * index.label.shape[1]), 0, np.int32)
    for group, count in enumerate(index.labels):
        own = index.label[group, :count]
        stretched[group] = own[0]
        stretched[group, : 2 * count] = np.concatenate([own, own + originals])
    return Index(
        image=np.concatenate([index.image, index.image]),
        images=np.concatenate([index.images, index.images]),
        label=stretched,
        labels=2 * index.labels,
        group=np.concatenate([index.group, index.group]),
        weight=index.weight,
        originals=np.array(originals, np.int32),
    )


def with_sources(index: Index, source: np.ndarray) -> Index:
    """The tables with the `source` of each image, int32 [n]: see `identities`."""
    return dataclasses.replace(index, source=source[index.image])


def grid_index(groups: int, labels: int, images: int) -> Index:
    """The tables of a regular data set: `groups` groups of `labels` identities of `images` images, numbered in
    order."""
    label = np.arange(groups * labels, dtype=np.int32)
    return Index(
        image=np.arange(groups * labels * images, dtype=np.int32).reshape(-1, images),
        images=np.full(groups * labels, images, np.int32),
        label=label.reshape(groups, labels),
        labels=np.full(groups, labels, np.int32),
        group=label // labels,
    )


def index_of(label: np.ndarray, group: np.ndarray, weight: np.ndarray | None = None) -> Index:
    """Tables of items whose int32 [n] labels and groups are numbered from 0; every number occurs."""
    image, images = _table(label)
    group = group[image[:, 0]]
    label, labels = _table(group)
    return Index(image=image, images=images, label=label, labels=labels, group=group, weight=weight)


def _table(keys):
    """int32 [n] keys 0..k-1 -> (int32 [k, most], int32 [k]): the positions of each key, padded with its first."""
    counts = np.bincount(keys).astype(np.int32)
    order = np.argsort(keys, kind="stable").astype(np.int32)
    starts = np.cumsum(counts) - counts
    slot = np.arange(counts.max())
    return order[starts[:, None] + np.where(slot < counts[:, None], slot, 0)], counts


def check_pairs(index: Index, across_groups: bool) -> None:
    """Raises ValueError unless every group can provide same and different pairs."""
    if np.min(index.images) < 2:
        raise ValueError(f"label {np.argmin(index.images)} has a single image; a pair of the same identity needs two")
    if not across_groups and np.min(index.labels) < 2:
        raise ValueError(
            f"group {np.argmin(index.labels)} has a single identity; different pairs within a group need two "
            "(or set batch.across_groups=True)"
        )
    if len(index.images) < 2:
        raise ValueError("the data set has a single identity; different pairs need two")


def pairs(key: jax.Array, index: Index, *, count: int, across_groups: bool, turns: int = 1) -> Drawn:
    """Draws pairs, half of the same identity and half of different ones, equally many from each group (Koch 2015).

    A pair never holds the very same image twice. Groups take turns in random order, so that their numbers of pairs,
    of either kind, differ by one at most.

    Args:
      key: PRNG key.
      index: tables of the data set; see `check_pairs`.
      count: number of pairs.
      across_groups: whether the second identity of a different pair comes from the whole data set; otherwise it comes
        from the first one's group.
      turns: 1; 4: rotate each group by a random multiple of 90° and treat it as a new one; 8: also mirror it.

    Returns:
      Drawn, 2 × count images; image i pairs with image i + count.
    """
    keys = jax.random.split(key, 7)
    same = jnp.arange(count) % 2 == 0
    turn = jnp.arange(count) // 2
    groups = index.labels.shape[0]
    order = jax.random.permutation(keys[0], groups)
    group = order[turn % groups]
    slot = below(keys[1], index.labels[group])
    first = index.label[group, slot]
    if across_groups:
        other = another(keys[2], first, jnp.full((count,), index.images.shape[0]))
    else:
        other = index.label[group, another(keys[2], slot, index.labels[group])]
    second = jnp.where(same, first, other)
    first_slot = below(keys[3], index.images[first])
    second_slot = jnp.where(
        same, another(keys[4], first_slot, index.images[first]), below(keys[5], index.images[second])
    )
    label = jnp.concatenate([first, second])
    item = index.image[label, jnp.concatenate([first_slot, second_slot])]
    return make_drawn(index, item, label, keys[6], turns)


def most_identities(index: Index, per_identity: int, per_group: int) -> int:
    """The largest P of a P×K batch that the data set can fill.

    Raises:
      ValueError: no identity has two images, or there is a single identity.
    """
    if np.max(index.images) < 2:
        raise ValueError("no identity has two images; training needs two images of the same identity")
    if len(index.images) < 2:
        raise ValueError("the data set has a single identity; training needs at least two")
    if few_images(index, per_identity):
        return int(np.minimum(index.images, per_identity).sum()) // per_identity
    return int(np.minimum(index.labels, per_group).sum())


def few_images(index: Index, per_identity: int) -> bool:
    """Whether some identities have fewer than `per_identity` images."""
    return bool(np.min(index.images) < per_identity)


def identities(
    key: jax.Array,
    index: Index,
    *,
    count: int,
    per_identity: int,
    per_group: int,
    turns: int = 1,
    few: bool = False,
) -> Drawn:
    """Draws a P×K batch grouped by alphabet: P identities, K images of each, without repetition.

    If `index` has sources, the images of an identity are of as many sources as possible: with K = 2 and images from the
    front and from the side, every positive pair has one of each.

    Groups come in random order, those of larger weight tending to come first, each giving up to
    `per_group` random identities, until the batch is full: every identity meets the hard negatives of its own group.

    Args:
      key: PRNG key.
      index: tables of the data set.
      count: P, the number of identities; at most `most_identities`.
      per_identity: K, the images of each.
      per_group: most identities taken from one group.
      turns: 1; 4: rotate each group by a random multiple of 90° and treat it as a new one; 8: also mirror it.
      few: for a data set with `few_images`: such identities contribute all their images, and more identities than P
        fill the batch, however many of one group. A single image has no positive, and is a negative for all others.

    Returns:
      Drawn, P × K images; an identity's images follow one another.
    """
    group_key, label_key, image_key, turn_key = jax.random.split(key, 4)
    groups, most = index.label.shape
    taken = jnp.minimum(index.labels, per_group)
    turn = _order(group_key, groups, index.weight)
    # Slot j of a group, in the group's own random order, comes after all slots of the groups whose turn is earlier.
    rank = jnp.broadcast_to(jnp.arange(most), (groups, most))
    last = jnp.iinfo(jnp.int32).max
    place = jnp.where(rank < taken[:, None], turn[:, None] * most + rank, last)
    if few:
        # Then the identities beyond `per_group`: small groups of single images alone could not fill a batch.
        beyond = (rank >= taken[:, None]) & (rank < index.labels[:, None])
        place = jnp.where(beyond, last - groups * most + turn[:, None] * most + rank, place)
    wanted = min(count * per_identity, index.images.shape[0]) if few else count
    chosen = jnp.argsort(place.ravel())[:wanted]
    shuffled = jnp.take_along_axis(index.label, _random_order(label_key, index.labels, most), axis=1)
    label = shuffled.ravel()[chosen]
    if index.source is None:
        slots = _random_order(image_key, index.images[label], index.image.shape[1])[:, :per_identity]
    else:
        slots = _in_turn(image_key, index.images[label], index.source[label])[:, :per_identity]
    item = jnp.take_along_axis(index.image[label], slots, axis=1).ravel()
    images = index.images[label]
    label = jnp.repeat(label, slots.shape[1])
    if few:
        missing = jnp.arange(slots.shape[1])[None, :] >= images[:, None]
        present = jnp.argsort(missing.ravel(), stable=True)[: count * per_identity]
        item, label = item[present], label[present]
    return make_drawn(index, item, label, turn_key, turns)


def _order(key, groups, weight):
    """int32 [groups], the place of each in a random order; as if drawn by weight without replacement."""
    if weight is None:
        return jax.random.permutation(key, groups)
    return jnp.argsort(jnp.argsort(-jnp.log(weight) - jax.random.gumbel(key, (groups,))))


def make_drawn(index: Index, item: jax.Array, label: jax.Array, turn_key: jax.Array, turns: int) -> Drawn:
    """The batch; all images of a group get the same rotation, so that it stays a group."""
    group = index.group[label]
    turn = None if turns == 1 else jax.random.randint(turn_key, index.labels.shape, 0, turns)[group]
    variant = None if index.originals is None else label >= index.originals
    return Drawn(item=item, label=label, group=group, turn=turn, variant=variant)


def _random_order(key, counts, most):
    """int32 [n, most]: row i holds 0..counts[i]-1 in random order, then the rest."""
    draws = jax.random.uniform(key, (len(counts), most))
    rank = jnp.broadcast_to(jnp.arange(most), draws.shape)
    return jnp.argsort(jnp.where(rank < counts[:, None], draws, jnp.inf), axis=1)


def _in_turn(key, counts, source):
    """As `_random_order`, with rounds of one image of each source; `source` int32 [n, most]."""
    of_image, of_round = jax.random.split(key)
    draws = jax.random.uniform(of_image, source.shape)
    present = jnp.arange(source.shape[1])[None, :] < counts[:, None]
    before = (draws[:, None, :] < draws[:, :, None]) & (source[:, None, :] == source[:, :, None])
    turn = jnp.sum(before & present[:, None, :], axis=2)
    order = turn + jax.random.uniform(of_round, source.shape)
    return jnp.argsort(jnp.where(present, order, jnp.inf), axis=1)


def below(key: jax.Array, limit: jax.Array) -> jax.Array:
    """int32 [n] limits -> int32 [n] uniform draws from 0..limit-1."""
    return jax.random.randint(key, limit.shape, 0, limit)


def another(key: jax.Array, value: jax.Array, limit: jax.Array) -> jax.Array:
    """Uniform draws from 0..limit-1 that differ from `value`."""
    return (value + 1 + below(key, limit - 1)) % limit
