"""Makes the batches, the objective and the optimizer of a configuration."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from siamjax import optimizer, parallel, sampling
from siamjax.choices import choose
from siamjax.data import training_images
from siamjax.data.dataset import Dataset
from siamjax.mining import assignment
from siamjax.run import settings
from siamjax.run.parts import make_augment
from siamjax.training import batches, objectives, teaching
from siamjax.training.state import Model
from siamjax.training.types import Augment, Batches, Objective

# (key, first step, last step) -> `Batches` of these steps.
MakeBatches = Callable[[jax.Array, int, int], Batches]


def make_objective(config: ConfigDict, model: Model, train: Dataset | None) -> Objective:
    """Makes the objective that `config` names.

    Args:
      config: the whole configuration.
      train: the training data; None if alphabets are drawn in the step.
    """
    identities = None
    if train is not None and config.data.turns == 1:
        identities = config.data.variants * (int(train.label.max()) + 1)
    with settings.keyed("loss"):
        return objectives.make(
            config.loss.name,
            model.head,
            mode=config.batch.mode,
            options=config.loss.get(config.loss.name, {}),
            across_groups=config.batch.across_groups,
            identities=identities,
        )


def taught(config: ConfigDict, objective: Objective, model: Model, images: tuple[int, ...], teacher: Any) -> Objective:
    """`objective`, and besides what a trained network finds similar; see `teaching.taught`.

    Args:
      config: the whole configuration.
      objective, model: of the network that learns.
      images: shape of its inputs.
      teacher: an object with `model`, `variables` and `inputs`, such as `siamjax.network.Network`.
    """
    return teaching.taught(
        objective,
        model.head,
        teacher.model,
        teacher.variables,
        share=config.train.teacher_share,
        mode=config.batch.mode,
        images=images,
        expected=teacher.inputs.shape,
    )


def check_towers(towers: int, datasets: Mapping[str, Dataset]) -> None:
    """Refuses two encoders, one for each side of a pair, for data without given pairs.

    Args:
      towers: 1 or 2.
      datasets: by part.

    Raises:
      ValueError: the message names the part.
    """
    if towers not in (1, 2):
        raise ValueError(f"towers={towers} must be 1 (all inputs share an encoder) or 2 (one for each side of a pair)")
    for part, dataset in datasets.items():
        if towers == 2 and dataset.pairs is None:
            raise ValueError(
                f"towers=2 is for given pairs, whose first and second inputs are of two kinds; the {part} data has "
                "labels instead: use data of pairs (siamjax.Pairs, or data.name='pairs'), or towers=1"
            )


def make_optimizer(config: ConfigDict, objective: Objective) -> optax.GradientTransformation:
    """Makes the optimizer that `config` names; it also trains the parameters of `objective`, if there are any."""
    own = config.optimizer
    parts = ("encoder", "head", "loss") if objective.init(jax.random.key(0), 1) else ("encoder", "head")
    options = dict(own[own.name])
    if own.name == "adamw" and not (config.encoder.weights or config.train.start):
        options["pretrained_share"] = 1.0  # Random weights are to be learned like all others.
    with settings.keyed("optimizer"):
        made = optimizer.make(
            own.name, options, epoch_steps=config.train.epoch_steps, steps=config.train.steps, parts=parts
        )
    return optimizer.keep_published(made) if config.encoder.frozen else made


def make_batches(
    config: ConfigDict, train: Dataset | None, scorer: Any = None, distort: Augment | None = None
) -> tuple[MakeBatches, int]:
    """Makes what makes the batches, from training data or drawn alphabets.

    Args:
      config: the whole configuration.
      train: the training data; None if alphabets are drawn in the step.
      scorer: (params, batch_stats) -> an object with `embed` and `score_all`, such as `siamjax.network.Network`; needed
        for mode "assigned", which plans batches by scores.
      distort: replaces the augmentation that `config` names.

    Returns:
      A function that makes `Batches`, and the number of images per batch.

    Raises:
      ValueError: a name is unknown, or the data cannot fill the batches.
    """
    index, stored, fetch = training_images.make(config.data, train)
    index = _tables(config, index, train)
    modes = {"pairs": _pairs, "identities": _identities, "assigned": _assigned}
    sample, images = choose("batch.mode", config.batch.mode, modes)(config.batch, index, config.data.turns)
    if config.encoder.towers == 2:
        parallel.check_divisible(config.batch.pairs, "encoder.towers=2: batch.pairs")
    distort = distort or make_augment(config)
    if config.batch.mode == "assigned":
        plan, every = _plan(config, train, scorer)
        planned = functools.partial(
            batches.planned, plan, functools.partial(_drawn, train), distort, source=stored, images=images, every=every
        )
        return lambda key, first, last: planned(), images
    if train is not None and config.data.stream:
        streamed = functools.partial(batches.streamed, sample, distort, index=index, read=stored, images=images)
        return lambda key, first, last: streamed(key=key, first=first, last=last), images
    resident = functools.partial(batches.resident, sample, fetch, distort, index=index, source=stored, images=images)
    return lambda key, first, last: resident(), images


def _tables(config: ConfigDict, index: sampling.Index, train: Dataset | None) -> sampling.Index | sampling.PairIndex:
    """The tables that `config` draws from, made of those of the identities."""
    batch, of = config.batch, config.data
    if batch.across_sources and (train is None or batch.mode != "identities"):
        raise ValueError(
            f"batch.across_sources=True is for batch.mode='identities' and data with sources, found {batch.mode!r} and "
            f"data.name={of.name!r}: set it to False"
        )
    if train is not None and train.pairs is not None:
        if batch.mode != "pairs":
            raise ValueError("only pairs of the training data are known to be the same: set batch.mode='pairs'")
        for name in ("variants", "turns"):
            if of[name] > 1:
                raise ValueError(
                    f"data.{name}={of[name]} makes new identities of labelled ones, and given pairs have no labels: "
                    f"set data.{name}=1"
                )
        return sampling.make_pair_index(*train.pairs)
    if of.variants > 1:
        index = sampling.with_variants(index)
    return sampling.with_sources(index, train.source) if batch.across_sources and train is not None else index


def _pairs(batch, index, turns):
    parallel.check_divisible(2 * batch.pairs, "2 × batch.pairs")
    if isinstance(index, sampling.PairIndex):
        return functools.partial(sampling.given_pairs, count=batch.pairs), 2 * batch.pairs
    sampling.check_pairs(index, batch.across_groups)
    sample = functools.partial(sampling.pairs, count=batch.pairs, across_groups=batch.across_groups, turns=turns)
    return sample, 2 * batch.pairs


def _identities(batch, index, turns):
    shape = dict(per_identity=batch.per_identity, per_group=batch.per_group)
    count = min(batch.identities, sampling.most_identities(index, **shape))
    if count < 1:
        raise ValueError(
            f"batch.per_identity={batch.per_identity} is more than the training data's {index.images.sum()} images can "
            "fill: set fewer, or add images"
        )
    if not batch.across_groups and min(batch.per_group, index.labels.max()) < 2:
        raise ValueError(
            f"batch.across_groups=False compares identities of one group, but a batch has one of each (batch.per_group="
            f"{batch.per_group}, groups of up to {index.labels.max()}): set batch.across_groups=True, or more per group"
        )
    few = sampling.few_images(index, batch.per_identity)
    sample = functools.partial(sampling.identities, count=count, turns=turns, few=few, **shape)
    images = count * batch.per_identity
    name = "batch.identities" if count == batch.identities else f"the {count} available identities"
    parallel.check_divisible(images, f"{name} × batch.per_identity")
    return sample, images


def _assigned(batch, index, turns):
    if np.max(index.images) < 2 or len(index.images) < 2:
        raise ValueError(
            "training needs two identities, one of them with two images; add identities or images to the training data"
        )
    if turns > 1 or batch.pairs % 2:
        raise ValueError(
            f"batch.mode='assigned' needs data.turns=1 and an even batch.pairs; found {turns} and {batch.pairs}"
        )
    parallel.check_divisible(2 * batch.pairs, "2 × batch.pairs")
    return None, 2 * batch.pairs


def _plan(config, train, scorer):
    """The planning function for `batches.planned`, and the number of steps per plan."""
    if train is None or config.data.stream or config.data.variants > 1:
        raise ValueError(
            "batch.mode='assigned' compares all training images in memory: it cannot be used with data.name='glyphs', "
            "data.stream or data.variants=2"
        )
    settings, pairs = config.batch.assigned, config.batch.pairs
    epoch = -(-2 * len(train) // pairs)
    every = settings.epochs * epoch
    if config.train.validate_every % every:
        raise ValueError(
            f"train.validate_every={config.train.validate_every} must be a multiple of {every}, the steps between two "
            f"assignments (batch.assigned.epochs={settings.epochs} × {epoch} steps for {len(train)} images): an "
            "interrupted run resumes from there"
        )

    def plan(state, number):
        network = scorer(*parallel.first(state.judged()))
        embeddings = network.embed(train.images)
        rng = np.random.default_rng([config.seed, number])
        negatives = assignment.hard_negatives(
            lambda rows, columns: network.score_all(embeddings[rows], embeddings[columns]),
            train.label,
            rng,
            rounds=settings.epochs,
            noise=settings.noise * settings.decay ** (number // every),
            block=settings.block,
        )
        epochs = [assignment.pairs(assignment.derangement(train.label, rng), row, pairs, rng) for row in negatives]
        # Scores may differ in their last bits between processes, so all use the plan of the main process.
        return parallel.from_main(lambda: np.concatenate(epochs))

    return plan, every


def _drawn(train, items):
    return sampling.Drawn(item=items, label=train.label[items], group=train.group[items])
