"""Configuration and data -> what a training run is made of."""

import functools
from typing import NamedTuple

import jax
import optax

from siamjax import augment, encoders, heads, optimizer, parallel, sampling
from siamjax.choices import choose
from siamjax.data import glyphs
from siamjax.training import objectives
from siamjax.training.state import Model
from siamjax.training.step import TrainingData, train_step


class Recipe(NamedTuple):
    """The pure training step (see `train_step`), the data it reads, and how many images it embeds."""

    step: callable
    data: TrainingData
    images: int


def make(config, datasets, model: Model, transform: optax.GradientTransformation) -> Recipe:
    """The training step that `config` describes, on `datasets["train"]` or on drawn alphabets.

    Raises:
      ValueError: a name is unknown, or the data cannot fill the batches that are asked for.
    """
    if config.data.name == "glyphs":
        world = config.data.glyphs
        data = TrainingData(index=sampling.grid_index(world.alphabets, world.characters, world.drawers))
        fetch = functools.partial(_draw_glyphs, world=world, size=config.data.size)
    else:
        data = TrainingData(index=sampling.make_index(datasets["train"]), images=datasets["train"].images)
        fetch = _take_images
    sample, objective, images = choose("batch.mode", config.batch.mode, {"pairs": _pairs, "all_pairs": _all_pairs})(
        config.batch, data.index
    )
    parallel.check_divisible(images, "batch: images a step")
    step = functools.partial(
        train_step,
        model=model,
        sample=sample,
        fetch=fetch,
        augment=choose("augment.name", config.augment.name, {"affine": _affine, "none": _unchanged})(config.augment),
        objective=functools.partial(objective, model.head),
        optimizer=transform,
    )
    return Recipe(step, data, images)


def make_model(config) -> tuple[Model, optax.GradientTransformation]:
    """The network and the optimizer that `config` names."""
    encoder = encoders.make(**config.encoder, axis_name=parallel.AXIS)
    transform = optimizer.make(config.optimizer, config.train.epoch_steps, config.train.steps)
    return Model(encoder, heads.make(**config.head)), transform


def _pairs(batch, index):
    sampling.check_pairs(index, batch.across_groups)
    sample = functools.partial(sampling.pairs, count=batch.pairs, across_groups=batch.across_groups)
    return sample, objectives.sampled_pairs, 2 * batch.pairs


def _all_pairs(batch, index):
    shape = dict(per_identity=batch.per_identity, per_group=batch.per_group)
    sampling.check_identities(index, batch.identities, **shape)
    sample = functools.partial(sampling.identities, count=batch.identities, **shape)
    objective = functools.partial(objectives.all_pairs, across_groups=batch.across_groups)
    return sample, objective, batch.identities * batch.per_identity


def _take_images(key, data, item):
    return data.images[item]


def _draw_glyphs(key, data, item, *, world, size):
    """Draws from alphabets that are new at every step: the key, which changes with the step, makes them."""
    label, drawer = item // world.drawers, item % world.drawers
    alphabet, character = label // world.characters, label % world.characters
    return jax.vmap(lambda *numbers: glyphs.draw(key, *numbers, size))(alphabet, character, drawer)


def _affine(config):
    return functools.partial(augment.affine, **config.affine)


def _unchanged(config):
    return lambda keys, images: images
