"""Samplers on plain labels: functions of a key, whose tables are constants, also under `jax.jit`.

sampler = sampling.Balanced(labels, identities=16, per_identity=4)
drawn = sampler(jax.random.key(step))
batch, identity = x[drawn.item], drawn.label
"""

import dataclasses
from collections.abc import Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from siamjax.labels import numbered
from siamjax.sampling._draw import (
    Drawn,
    another,
    below,
    few_images,
    identities,
    index_of,
    make_drawn,
    most_identities,
    pairs,
)
from siamjax.types import Array

Labels = Sequence[Hashable] | Array  # one for each item, of any hashable kind: numbers, strings, tuples


class Balanced:
    """P×K batches of labelled items: `sampler(key) -> Drawn` of P identities with K items each, all different.

    An identity with fewer than K items contributes all of them, and more identities than P fill the batch; see
    `identities` with `few`. Data that cannot fill P×K gives the largest P that it can.

    Attributes:
      identities: P, as asked for, or the largest that the data can fill.
      per_identity: K.
      names: the labels, by the numbers in `Drawn.label`.
    """

    def __init__(
        self,
        labels: Labels,
        *,
        identities: int,
        per_identity: int,
        groups: Labels | None = None,
        per_group: int | None = None,
    ):
        """Numbers the labels and makes the tables.

        Args:
          labels: [n], the identity of each item.
          identities: P, 2 or more.
          per_identity: K, 2 or more.
          groups: optional [n], a group for each item, the same for all of an identity; a batch then takes whole groups.
          per_group: most identities taken from one group; None for any number.

        Raises:
          ValueError: the numbers are too small, groups do not fit, or there is no positive or no negative pair.
        """
        if identities < 2 or per_identity < 2:
            raise ValueError(
                f"identities={identities}, per_identity={per_identity}: a batch needs 2 or more of each, for positive "
                "and negative pairs"
            )
        index, self.names = _labelled(labels, groups)
        self._per_group = per_group or len(self.names)
        self.identities = min(identities, most_identities(index, per_identity, self._per_group))
        if self.identities < 1:
            raise ValueError(f"per_identity={per_identity} is more than the items of all identities can fill; lower it")
        self.per_identity, self._few = per_identity, few_images(index, per_identity)
        self._index = jax.tree.map(jnp.asarray, index)

    def __call__(self, key: jax.Array) -> Drawn:
        """P × K items; those of an identity follow one another."""
        counts = {"count": self.identities, "per_identity": self.per_identity, "per_group": self._per_group}
        return identities(key, self._index, **counts, few=self._few)


class Pairs:
    """Pairs of labelled items: `sampler(key) -> Drawn`, half of one identity, half of two; item i with i + count.

    Identities with a single item are left out: they have no pair of their own.

    Attributes:
      count: pairs per batch.
      names: the labels, by the numbers in `Drawn.label`, without those left out.
    """

    def __init__(self, labels: Labels, *, count: int, groups: Labels | None = None, across_groups: bool = False):
        """Numbers the labels and makes the tables.

        Args:
          labels: [n], the identity of each item.
          count: pairs, 1 or more.
          groups: optional [n], a group for each item, the same for all of an identity; all have equally many pairs.
          across_groups: whether the items of a different pair may be of two groups.

        Raises:
          ValueError: `count` is below 1, groups do not fit, or fewer than two identities (of one group) have two items.
        """
        if count < 1:
            raise ValueError(f"count={count}: draw 1 pair or more")
        index, self.names = _labelled(labels, groups, at_least=2)
        if len(index.images) < 2 or (not across_groups and np.min(index.labels) < 2):
            raise ValueError(
                "labels: different pairs need two identities with two items each"
                + (", in every group, or across_groups=True" if groups is not None else "")
            )
        self.count, self._across_groups = count, across_groups
        self._index = jax.tree.map(jnp.asarray, index)

    def __call__(self, key: jax.Array) -> Drawn:
        """2 × count items."""
        return pairs(key, self._index, count=self.count, across_groups=self._across_groups)


class Triplets:
    """Triplets of labelled items: `sampler(key) -> Drawn`, `count` anchors, then their positives, then their negatives.

    The anchor's identity is drawn from those with two items or more, each as likely; the negative's from all others,
    those of a single item too.

    Attributes:
      count: triplets per batch.
      names: the labels, by the numbers in `Drawn.label`.
    """

    def __init__(self, labels: Labels, *, count: int):
        """Numbers the labels and makes the tables.

        Args:
          labels: [n], the identity of each item.
          count: triplets, 1 or more.

        Raises:
          ValueError: `count` is below 1, or there is no identity with two items, or no other one.
        """
        if count < 1:
            raise ValueError(f"count={count}: draw 1 triplet or more")
        index, self.names = _labelled(labels, None)
        most_identities(index, 2, len(self.names))
        self.count, self._anchors = count, jnp.asarray(np.flatnonzero(index.images > 1).astype(np.int32))
        self._index = jax.tree.map(jnp.asarray, index)

    def __call__(self, key: jax.Array) -> Drawn:
        """3 × count items; anchor i, positive i + count, negative i + 2 count."""
        keys, index = jax.random.split(key, 5), self._index
        label = jax.random.choice(keys[0], self._anchors, (self.count,))
        other = another(keys[1], label, jnp.full(label.shape, len(index.images)))
        slot = below(keys[2], index.images[label])
        slots = slot, another(keys[3], slot, index.images[label]), below(keys[4], index.images[other])
        label = jnp.concatenate([label, label, other])
        return make_drawn(index, index.image[label, jnp.concatenate(slots)], label, keys[0], 1)


def _labelled(labels, groups, at_least=1):
    """Tables of items by label, of identities with `at_least` items, and the labels by number."""
    names, label = numbered(labels)
    group = np.zeros_like(label) if groups is None else numbered(groups)[1]
    if len(group) != len(label):
        raise ValueError(f"groups: found {len(group)}, expected {len(label)}, one for each label")
    if not len(label):
        raise ValueError("labels: found none")
    images = np.bincount(label)
    if np.any(group != group[np.unique(label, return_index=True)[1]][label]):
        raise ValueError("groups: an identity is in two groups; each must be in one")
    item = np.flatnonzero(images[label] >= at_least).astype(np.int32)
    if not len(item):
        raise ValueError(f"labels: no identity has {at_least} items")
    kept, own = np.unique(label[item], return_inverse=True)
    index = index_of(own.astype(np.int32), np.unique(group[item], return_inverse=True)[1].astype(np.int32))
    return dataclasses.replace(index, image=item[index.image]), tuple(names[number] for number in kept)
