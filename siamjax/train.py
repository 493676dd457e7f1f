"""Trains a run: its configuration and folder -> checkpoints and metrics; then evaluates it."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from siamjax import data, parallel, report
from siamjax.data import Dataset
from siamjax.evaluate import judge, show_again
from siamjax.evaluation import drawn, one_shot
from siamjax.network import Network
from siamjax.run import Run, parts, recipe, settings
from siamjax.training import loop, state, step
from siamjax.training.checkpoint import Checkpoints, shapes
from siamjax.training.metrics import MetricsLog


def train(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Trains as `config` says, or resumes, then evaluates the kept checkpoint: the best, or the last (`train.keep`).

    A run that is trained and evaluated is left as it is.

    Args:
      config: see siamjax/run/settings.py.
      workdir: the run folder; created if need be.

    Raises:
      ValueError: the configuration or the data does not fit, or `workdir` holds a run of another configuration.
      FloatingPointError: training diverged.
    """
    run = Run(workdir)
    settings.check_processes(config)
    parallel.from_main(lambda: run.check_resumable(config))
    settings.check(config)
    datasets = parallel.main_first(lambda: data.load(config.data))
    drawn.pairs(config.evaluation, datasets)  # What evaluation would refuse is refused before the training.
    training = _prepare(config, datasets)
    # Nothing is written before these lines, so that a configuration that cannot run leaves nothing behind.
    parallel.from_main(lambda: run.check_identities(datasets))
    start = training.start
    if config.train.start and not run.checkpoints.exists():
        start = _started_from(config.train.start, start)
    parallel.from_main(lambda: run.start(config, datasets))
    progress, done = _train(config, run, training, start)
    about = run.about(config, "training and validation")
    parallel.from_main(lambda: report.curves(run.figures.report, run.metrics, about))
    if done and parallel.from_main(lambda: run.figures.are_of(progress["best_step"])):
        parallel.from_main(lambda: show_again(config, run, progress["best_step"]))
    else:
        judge(config, run, run.figures, datasets)


class _Training:
    """What the configuration and the data make: the first state, the update, the batches, and how to validate."""

    def __init__(self, config: ConfigDict, datasets: Mapping[str, Dataset]):
        self.model = model = parts.make_model(config)
        train, self._validation = datasets.get("train"), datasets["validation"]
        objective = recipe.make_objective(config, model, train)
        optimizer = recipe.make_optimizer(config, objective)
        self._trials = drawn.trials(config.evaluation, self._validation)
        self.make_batches, self.images = recipe.make_batches(config, train, functools.partial(Network, model))
        average = config.optimizer.average
        self.update = functools.partial(
            step.update, model=model, objective=objective, optimizer=optimizer, average=average
        )
        weights_key, self.key = jax.random.split(jax.random.key(config.seed))
        shape = self._validation.images.shape[1:]
        self.start = state.create(model, weights_key, shape, optimizer, average > 0, objective)

    def validate(self, replicated: state.State) -> float:
        """One-shot accuracy on the validation trials, 0..1."""
        network, trials = Network(self.model, *parallel.first(replicated.judged())), self._trials
        scores = network.score_trials(network.embed(self._validation.images), trials.query, trials.support)
        # Whether to stop is decided by this number: all processes take the same.
        return parallel.from_main(lambda: float(one_shot.right(scores, trials.answer).mean()))


def _prepare(config, datasets):
    training = _Training(config, datasets)
    asked = config.batch.identities * config.batch.per_identity
    if config.batch.mode == "identities" and training.images < asked and parallel.is_main_process():
        report.note(f"batches are of {training.images} images, not {asked}: the training data has no more identities")
    return training


def _started_from(place: str, start: state.State) -> state.State:
    """`start` with the weights of a trained network."""
    try:
        network = Network.load(place, copies=0)
    except FileNotFoundError as error:
        raise ValueError(f"train.start={place!r} holds no trained network: {error}") from error
    encoder = network.variables["encoder"]
    params = {"encoder": encoder["params"], "head": network.variables["head"]}
    there, here = shapes((params, encoder["batch_stats"])), shapes((_trained(start), start.batch_stats))
    differing = [name for name in sorted({**there, **here}) if there.get(name) != here.get(name)]
    if differing:
        name = differing[0]
        raise ValueError(
            f"train.start={place!r}: its network does not fit the configured encoder or head: {name} is "
            f"{there.get(name, 'absent')} there and {here.get(name, 'absent')} as configured"
        )
    return state.from_weights(start, params, encoder["batch_stats"])


def _trained(start) -> dict[str, Any]:
    return {part: start.params[part] for part in ("encoder", "head")}


def _train(config, run, training, start):
    """Trains until the end; (progress, whether there was nothing left to train)."""
    checkpoints = Checkpoints(run.checkpoints)
    try:
        restored, progress = checkpoints.restore("latest", start) or (start, loop.NEW_RUN)
        first = int(restored.step)
        checkpoints.forget_after(first)
        if loop.finished(config.train, first, progress):
            parallel.from_main(lambda: report.note(f"{run.folder}: training is complete, at step {first}"))
            return progress, True
        batches = training.make_batches(training.key, first, config.train.steps)
        log = MetricsLog(run.metrics, run.tensorboard, after=first)
        every = (config.train.log_every, config.train.validate_every)
        try:
            progress = loop.train(
                step.stepper(training.update, batches, training.key),
                parallel.replicate(restored),
                config=config.train,
                images=batches.images,
                at_once=parallel.steps_at_once(*every) if batches.constant else 1,
                validate=training.validate,
                checkpoints=checkpoints,
                log=log,
                progress=progress,
            )
        finally:
            log.close()
        return progress, False
    finally:
        checkpoints.close()
