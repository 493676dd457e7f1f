"""A whole training: from its parts to a trained state, in memory or in a folder that it can be resumed from."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from siamjax import parallel
from siamjax.encoders import Encoder, Towers
from siamjax.training import loop, step
from siamjax.training.state import Model, State, create
from siamjax.training.types import Batch, Batches, Keeps, Log, Metrics, Objective, Paths


class Training(NamedTuple):
    """What a training is made of.

    Attributes:
      start: initial state, on the host.
      update: the step on one batch.
      make_batches: (key, first step, last step) -> `Batches` of these steps.
      key: the run's PRNG key.
      validate: as `loop.train` takes it.
    """

    start: State
    update: Callable[[State, Batch], tuple[State, Metrics]]
    make_batches: Callable[[jax.Array, int, int], Batches]
    key: jax.Array
    validate: Callable[[State], float] | None


def training(
    model: Model,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    make_batches: Callable[[jax.Array, int, int], Batches],
    shape: tuple[int, ...],
    *,
    seed: int,
    validate: Callable[[State], float] | None,
    average: float = 0.0,
    chunk: int = 0,
    published: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = print,
) -> Training:
    """The training of these parts.

    Args:
      model, objective, optimizer, average, chunk: see `step.update`.
      make_batches, validate: see `Training`.
      shape: of an input.
      seed: of initial weights and batches.
      published: see `state.create`.
      tell: called with a line to print, where batch statistics are those of a chunk.
    """
    weights_key, key = jax.random.split(jax.random.key(seed))
    start = create(model, weights_key, shape, optimizer, average > 0, objective, published)
    encoder = getattr(model.encoder, "encoder", model.encoder)  # Of two towers, the one that both are like.
    stay = getattr(encoder, "frozen", False) or getattr(encoder, "keep_statistics", False)
    if chunk and start.batch_stats and not stay and parallel.is_main_process():
        tell(
            f"the encoder has batch statistics: with chunk={chunk}, they are those of {chunk} images, not of the batch"
        )
    step_on = functools.partial(
        step.update, model=model, objective=objective, optimizer=optimizer, average=average, chunk=chunk
    )
    return Training(start, step_on, make_batches, key, validate)


def checked_chunk(chunk: int, images: int, encoder: Encoder) -> int:
    """`chunk` for `step.update`: 0 where it covers the share of a device.

    Args:
      chunk: images that each device embeds at a time; 0 for all.
      images: per batch, over all devices.
      encoder: that embeds them.

    Raises:
      ValueError: it does not divide the images of a device, or the encoder is `Towers`.
    """
    share = images // jax.device_count()
    if not 0 < chunk < share:
        return 0
    if share % chunk:
        raise ValueError(f"chunk={chunk} must divide {share}, the images of a batch on each device")
    if isinstance(encoder, Towers):
        raise ValueError(f"chunk={chunk}: two towers embed the whole batch at once; set chunk=0, or towers=1")
    return chunk


def in_memory(training: Training, config: ConfigDict, log: Log) -> State:
    """Trains to the end, and returns the state to keep, on the host; `config` and `log` as for `loop.train`."""
    memory = _Memory()
    _go_on(training, config, training.start, loop.NEW_RUN, memory, log)
    assert memory.best is not None  # The last validation, at least, was kept.
    return memory.best


def in_folder(
    training: Training, config: ConfigDict, paths: Paths, log: Log, tell: Callable[[str], None]
) -> tuple[dict, bool]:
    """Trains to the end from where the folder's checkpoints end.

    Args:
      training: its parts.
      config: as for `loop.train`.
      paths: where its files are.
      log: called besides writing the metrics; as for `loop.train`.
      tell: called with lines to print.

    Returns:
      The progress, see `loop.train`, and whether the training was already complete.
    """
    from siamjax.training.checkpoint import Checkpoints  # Slow imports, which training in memory does without.
    from siamjax.training.metrics import MetricsLog

    checkpoints = Checkpoints(paths.checkpoints)
    try:
        restored, progress = checkpoints.resume(training.start, tell) or (training.start, loop.NEW_RUN)
        first = int(restored.step)
        if first and not progress["best_step"]:
            progress = loop.keep(checkpoints, parallel.replicate(restored), progress, training.validate)
        if loop.finished(config, first, progress):
            if parallel.is_main_process():
                tell(f"{paths.checkpoints.parent}: training is complete, at step {first}")
            return progress, True
        metrics = MetricsLog(paths.metrics, paths.tensorboard, after=first)

        def log_both(number, values, state):
            metrics.write(number, values)
            log(number, values, state)

        try:
            return _go_on(training, config, restored, progress, checkpoints, log_both), False
        finally:
            metrics.close()
    finally:
        checkpoints.close()


def _go_on(training, config, state, progress, checkpoints: Keeps, log):
    batches = training.make_batches(training.key, int(state.step), config.steps)
    return loop.train(
        step.stepper(training.update, batches, training.key),
        parallel.replicate(state),
        config=config,
        images=batches.images,
        at_once=parallel.steps_at_once(config.log_every, config.validate_every) if batches.constant else 1,
        validate=training.validate,
        checkpoints=checkpoints,
        log=log,
        progress=progress,
    )


class _Memory:
    """Keeps the best state of a training that has no folder."""

    def __init__(self) -> None:
        self.best: State | None = None

    def save(self, which: str, state: State, progress: dict) -> None:
        if which == "best":
            self.best = parallel.first(state)
