"""What a training step takes its images from: a data set that lies on the device, or alphabets drawn as it runs."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from siamjax import sampling
from siamjax.data import glyphs
from siamjax.data.dataset import Dataset


class Source(NamedTuple):
    """`index`: tables to choose images from; `images`: uint8 [n, h, w, c] to lie on the device, or None;
    `fetch`: (key, images, item int32 [m]) -> uint8 images [m, h, w, c]."""

    index: sampling.Index
    images: np.ndarray | None
    fetch: callable


def make(config, train: Dataset | None) -> Source:
    """The source for the data set `train`, or, where there is none, for the glyphs that `config` (`data`) describes."""
    if train is not None:
        return Source(sampling.make_index(train, _weight(config.glyphs, train)), train.images, _take)
    world = config.glyphs
    index = sampling.grid_index(world.alphabets, world.characters, world.drawers)
    draw = functools.partial(_draw, characters=world.characters, drawers=world.drawers, size=config.size)
    return Source(index, None, draw)


def _weight(world, train):
    """The weight of each group, where drawn alphabets stand behind the others; None where there are none."""
    drawn, others = world.joined, len(train.group_names) - world.joined
    if not drawn:
        return None
    return np.repeat(np.float32([(1 - world.share) / others, world.share / drawn]), [others, drawn])


def _take(key, images, item):
    return images[item]


def _draw(key, images, item, *, characters, drawers, size):
    """Draws from alphabets that are new at every step: the key, which changes with the step, makes them."""
    label, drawer = item // drawers, item % drawers
    alphabet, character = label // characters, label % characters
    return jax.vmap(lambda *numbers: glyphs.draw(key, *numbers, size))(alphabet, character, drawer)
