"""The images of training: those of a data set, or alphabets drawn inside the training step."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from siamjax import sampling
from siamjax.data import glyphs
from siamjax.data.dataset import Dataset, Images


class TrainingImages(NamedTuple):
    """Where a training step finds its images.

    Attributes:
      index: tables from which images are sampled.
      images: uint8 [n, h, w, c], to be kept on the device, or `Images` to be read; None if they are drawn.
      fetch: (key, images, item int32 [m]) -> uint8 [m, h, w, c], inside the step.
    """

    index: sampling.Index
    images: np.ndarray | Images | None
    fetch: Callable[[Array, Any, Array], Array]


def make(config: ConfigDict, train: Dataset | None) -> TrainingImages:
    """Those of the data set `train`, or without one, the glyphs of `config`, the `data` part of a configuration."""
    if train is not None:
        return TrainingImages(sampling.make_index(train, _weight(config.glyphs, train)), train.images, _take)
    world = config.glyphs
    index = sampling.grid_index(world.alphabets, world.characters, world.drawers)
    draw = functools.partial(_draw, characters=world.characters, drawers=world.drawers, size=config.size)
    return TrainingImages(index, None, draw)


def _weight(world: ConfigDict, train: Dataset) -> np.ndarray | None:
    """The weight of each group, float32 [g], if drawn alphabets come after the others; None if there are none."""
    drawn, others = world.joined, len(train.group_names) - world.joined
    if not drawn:
        return None
    weights = np.array([(1 - world.share) / others, world.share / drawn], np.float32)
    return np.repeat(weights, [others, drawn])


def _take(key: Array, images: Array, item: Array) -> Array:
    return images[item]


def _draw(key: Array, images: None, item: Array, *, characters: int, drawers: int, size: int) -> Array:
    """Draws from alphabets that are new in every step: they follow from the key, which changes with the step."""
    label, drawer = item // drawers, item % drawers
    alphabet, character = label // characters, label % characters
    return jax.vmap(lambda *numbers: glyphs.draw(key, *numbers, size))(alphabet, character, drawer)
