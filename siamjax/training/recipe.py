"""Configuration and data -> what a training run is made of."""

import functools
from typing import NamedTuple

import numpy as np
import optax

from siamjax import parallel, sampling
from siamjax.choices import choose
from siamjax.data import source
from siamjax.data.dataset import Dataset
from siamjax.mining import assignment
from siamjax.training import feed, objectives
from siamjax.training.model import make_augment as make_augment  # Both are part of a recipe.
from siamjax.training.model import make_model as make_model
from siamjax.training.state import Model
from siamjax.training.step import TrainingData, train_step


class Recipe(NamedTuple):
    """`feed`: (key, first step, last step) -> what takes the steps, see `feed.py`; `images`: how many a step embeds;
    `at_once`: how many steps the feed takes best at a time."""

    feed: callable
    images: int
    at_once: int


def make(config, train: Dataset | None, model: Model, transform: optax.GradientTransformation, scorer=None) -> Recipe:
    """The training that `config` describes, on the data set `train` or, without one, on drawn alphabets.

    `scorer` is needed where batches are planned by scores, mode "assigned": (params, batch_stats) -> what embeds images
    and scores embeddings, as `evaluation.scorer.Scorer` does.

    Raises:
      ValueError: a name is unknown, or the data cannot fill the batches that are asked for.
    """
    index, lying, fetch = source.make(config.data, train)
    known = None
    if config.data.variants > 1:
        known, index = len(index.images), sampling.with_variants(index)
    stream = train is not None and config.data.stream
    modes = {"pairs": _pairs, "identities": _identities, "assigned": _assigned}
    sample, images = choose("batch.mode", config.batch.mode, modes)(config.batch, index, config.data.turns)
    assigned = config.batch.mode == "assigned"
    if assigned:
        plan, every = _plan(config, train, scorer)
    step = functools.partial(
        train_step,
        model=model,
        sample=feed.given_batch if stream or assigned else sample,
        fetch=feed.given_images if stream else fetch,
        augment=make_augment(config),
        objective=functools.partial(objectives.make(config.loss, config.batch), model.head),
        optimizer=transform,
        average=config.optimizer.average,
        known=known,
    )

    def made(key, first, last):
        if stream:
            return feed.streamed(step, sample, index, lying, key, first, last)
        if assigned:
            batch_of = functools.partial(_batch_of, train)
            return feed.replanned(step, plan, batch_of, lying, key, first, every)
        return feed.resident(step, TrainingData(index=index, images=lying), key)

    at_once = 1 if stream or assigned else parallel.steps_at_once(config.train.log_every, config.train.validate_every)
    return Recipe(made, images, at_once)


def _pairs(batch, index, turns):
    sampling.check_pairs(index, batch.across_groups)
    sample = functools.partial(sampling.pairs, count=batch.pairs, across_groups=batch.across_groups, turns=turns)
    parallel.check_divisible(2 * batch.pairs, "2 × batch.pairs")
    return sample, 2 * batch.pairs


def _identities(batch, index, turns):
    shape = dict(per_identity=batch.per_identity, per_group=batch.per_group)
    count = min(batch.identities, sampling.most_identities(index, **shape))
    few = sampling.few_images(index, batch.per_identity)
    sample = functools.partial(sampling.identities, count=count, turns=turns, few=few, **shape)
    images = count * batch.per_identity
    name = "batch.identities" if count == batch.identities else f"the {count} identities that there are"
    parallel.check_divisible(images, f"{name} × batch.per_identity")
    return sample, images


def _assigned(batch, index, turns):
    if np.max(index.images) < 2 or len(index.images) < 2:
        raise ValueError("pairs need an identity with two images, and another identity; the training data has not both")
    for key, least in (("epochs", 1), ("block", 2), ("noise", 0)):
        if batch.assigned[key] < least:
            raise ValueError(f"batch.assigned.{key}={batch.assigned[key]} must be at least {least}")
    if turns > 1 or batch.pairs % 2:
        raise ValueError("batch.mode='assigned' needs data.turns=1, and an even number of batch.pairs")
    parallel.check_divisible(2 * batch.pairs, "2 × batch.pairs")
    return None, 2 * batch.pairs


def _plan(config, train, scorer):
    """What plans the batches of `feed.replanned`, and for how many steps."""
    if train is None or config.data.stream or config.data.variants > 1:
        raise ValueError(
            "batch.mode='assigned' compares all training images: it needs data in memory, not glyphs, and no variants"
        )
    settings, pairs = config.batch.assigned, config.batch.pairs
    epoch = -(-2 * len(train) // pairs)
    every = settings.epochs * epoch
    if config.train.validate_every % every:
        raise ValueError(
            f"train.validate_every={config.train.validate_every} must be a multiple of {every}, the steps between two "
            f"assignments (batch.assigned.epochs={settings.epochs} × {epoch} steps for {len(train)} images): a run "
            "that was cut off goes on from there"
        )

    def plan(state, number):
        judge = scorer(*parallel.first(state.judged()))
        embeddings = judge.embed(train.images)
        rng = np.random.default_rng([config.seed, number])
        negatives = assignment.hard_negatives(
            lambda rows, columns: judge.score_all(embeddings[rows], embeddings[columns]),
            train.label,
            rng,
            rounds=settings.epochs,
            noise=settings.noise * settings.decay ** (number // every),
            block=settings.block,
        )
        epochs = [assignment.pairs(assignment.derangement(train.label, rng), row, pairs, rng) for row in negatives]
        # Scores may differ in their last bits: all processes take the main one's plan.
        return parallel.from_main(lambda: np.concatenate(epochs))

    return plan, every


def _batch_of(train, items):
    return sampling.Batch(item=items, label=train.label[items], group=train.group[items])
