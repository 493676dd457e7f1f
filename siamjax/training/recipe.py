"""Configuration and data -> what a training run is made of."""

import functools
from typing import NamedTuple

import jax
import optax

from siamjax import augment, encoders, heads, parallel, sampling
from siamjax.choices import choose
from siamjax.data import source
from siamjax.data.dataset import Dataset
from siamjax.training import feed, objectives
from siamjax.training.state import Model
from siamjax.training.step import TrainingData, train_step


class Recipe(NamedTuple):
    """`feed`: (key, first step, last step) -> what takes the steps, see `feed.py`; `images`: how many a step embeds;
    `at_once`: how many steps the feed takes best at a time."""

    feed: callable
    images: int
    at_once: int


def make(config, train: Dataset | None, model: Model, transform: optax.GradientTransformation) -> Recipe:
    """The training that `config` describes, on the data set `train` or, without one, on drawn alphabets.

    Raises:
      ValueError: a name is unknown, or the data cannot fill the batches that are asked for.
    """
    index, lying, fetch = source.make(config.data, train)
    stream = train is not None and config.data.stream
    sample, images = choose("batch.mode", config.batch.mode, {"pairs": _pairs, "identities": _identities})(
        config.batch, index, config.data.turns
    )
    step = functools.partial(
        train_step,
        model=model,
        sample=feed.given_batch if stream else sample,
        fetch=feed.given_images if stream else fetch,
        augment=make_augment(config),
        objective=functools.partial(objectives.make(config.loss, config.batch), model.head),
        optimizer=transform,
        average=config.optimizer.average,
    )

    def made(key, first, last):
        if stream:
            return feed.streamed(step, sample, index, lying, key, first, last)
        return feed.resident(step, TrainingData(index=index, images=lying), key)

    at_once = 1 if stream else parallel.steps_at_once(config.train.log_every, config.train.validate_every)
    return Recipe(made, images, at_once)


def make_model(config) -> Model:
    """The network that `config` names."""
    head = config.head
    return Model(
        encoders.make(**config.encoder, axis_name=parallel.AXIS), heads.make(head.name, **head.get(head.name, {}))
    )


def make_augment(config):
    """The distortion that `config` names: (keys [n], images float [n, h, w, c]) -> images."""
    return choose("augment.name", config.augment.name, {"affine": _affine, "photo": _photo, "none": _unchanged})(
        config.augment
    )


def _pairs(batch, index, turns):
    sampling.check_pairs(index, batch.across_groups)
    sample = functools.partial(sampling.pairs, count=batch.pairs, across_groups=batch.across_groups, turns=turns)
    parallel.check_divisible(2 * batch.pairs, "2 × batch.pairs")
    return sample, 2 * batch.pairs


def _identities(batch, index, turns):
    shape = dict(per_identity=batch.per_identity, per_group=batch.per_group)
    sampling.check_identities(index, batch.identities, **shape)
    few = sampling.few_images(index, batch.per_identity)
    sample = functools.partial(sampling.identities, count=batch.identities, turns=turns, few=few, **shape)
    images = batch.identities * batch.per_identity
    parallel.check_divisible(images, "batch.identities × batch.per_identity")
    return sample, images


def _affine(config):
    return functools.partial(augment.affine, **config.affine)


def _photo(config):
    """Other views, then other light: what lies beyond the image stays dark."""
    move = _affine(config)

    def distort(keys, images):
        return augment.photo(jax.vmap(jax.random.fold_in, (0, None))(keys, 102), move(keys, images), **config.photo)

    return distort


def _unchanged(config):
    return lambda keys, images: images
