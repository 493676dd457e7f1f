"""Trains a run, then evaluates it: configuration and folder -> checkpoints, metrics, figures."""

import functools
import pathlib
from collections.abc import Mapping

import jax
from ml_collections import ConfigDict

from siamjax import data, extras, parallel, report
from siamjax.data import Dataset
from siamjax.evaluate import judge, show_again
from siamjax.evaluation import drawn, one_shot
from siamjax.network import Network
from siamjax.run import Run, parts, recipe, settings
from siamjax.training import loop, state, step
from siamjax.training.checkpoint import Checkpoints, difference
from siamjax.training.metrics import MetricsLog

with extras.needed_for("training in a run folder"):
    import tensorboardX  # noqa: F401  Used once the data is loaded; what is missing is told at once.


def train(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Trains or resumes a run, then evaluates its best or last checkpoint (`train.keep`).

    A run that is already trained and evaluated is not changed.

    Args:
      config: see siamjax/run/settings.py.
      workdir: the run folder; created if needed.

    Raises:
      ValueError: the configuration is invalid, the data does not fit it, or `workdir` contains a run of another
        configuration.
      FloatingPointError: training diverged.
    """
    run = Run(workdir)
    settings.check(config)
    settings.check_processes(config)
    parallel.from_main(lambda: run.check_resumable(config))
    datasets = parallel.main_first(lambda: data.load(config.data))
    data.check_processes(datasets)
    drawn.pairs(config.evaluation, datasets)  # Fails before training if evaluation would.
    training = _prepare(config, datasets)
    start = training.start
    if config.train.start and parallel.from_main(lambda: not run.has_checkpoint):
        start = _started_from(config.train.start, start)
    # Nothing is written before here, so that a configuration that cannot run leaves no files.
    with run.locked():
        # Another training may have begun in the meantime.
        parallel.from_main(lambda: run.check_resumable(config))
        _train_and_evaluate(config, run, training, start, datasets)


def _train_and_evaluate(config, run, training, start, datasets):
    parallel.from_main(lambda: run.check_identities(datasets))
    parallel.from_main(lambda: run.start(config, datasets))
    progress, complete = _train(config, run, training, start)
    about = run.about(config, "training and validation")
    parallel.from_main(lambda: report.curves(run.figures.report, run.metrics, about))
    if complete and parallel.from_main(lambda: run.figures.are_of(progress["best_step"])):
        parallel.from_main(lambda: show_again(config, run, progress["best_step"]))
    else:
        judge(config, run, run.figures, datasets)


class _Training:
    """Everything the loop needs, made from configuration and data: initial state, update, batches, validation."""

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
        # Training stops by this number, so all processes must use the same.
        return parallel.from_main(lambda: float(one_shot.right(scores, trials.answer).mean()))


def _prepare(config, datasets):
    training = _Training(config, datasets)
    requested = config.batch.identities * config.batch.per_identity
    if config.batch.mode == "identities" and training.images < requested and parallel.is_main_process():
        report.note(f"batches have {training.images} images, not {requested}: the training data has too few identities")
    return training


def _started_from(place: str, start: state.State) -> state.State:
    """`start` with the weights of the network in `place`."""
    try:
        network = Network.load(place, copies=0)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"train.start={place!r}: {error}") from error
    encoder = network.variables["encoder"]
    params = {"encoder": encoder["params"], "head": network.variables["head"]}
    own = {part: start.params[part] for part in params}
    differing = difference((params, encoder["batch_stats"]), (own, start.batch_stats))
    if differing:
        raise ValueError(
            f"train.start={place!r}: the network does not fit the configured encoder or head: {differing}; configure "
            "the same encoder and head, or start from another network"
        )
    return state.from_weights(start, params, encoder["batch_stats"])


def _train(config, run, training, start):
    """Trains to the end; returns (progress, whether training was already complete)."""
    checkpoints = Checkpoints(run.checkpoints)
    try:
        restored, progress = checkpoints.resume(start, report.note) or (start, loop.NEW_RUN)
        first = int(restored.step)
        if first and not progress["best_step"]:
            progress = loop.keep(checkpoints, parallel.replicate(restored), progress, training.validate)
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
