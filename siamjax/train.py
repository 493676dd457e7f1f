"""Trains a run, then evaluates it: configuration and folder -> checkpoints, metrics, figures."""

import functools
import pathlib

from ml_collections import ConfigDict

from siamjax import data, extras, parallel, report
from siamjax.evaluate import judge, show_again
from siamjax.evaluation import drawn
from siamjax.network import Network
from siamjax.run import Run, check_unseen, parts, recipe, settings
from siamjax.training import state, whole
from siamjax.training.checkpoint import difference

with extras.needed_for("training in a run folder"):
    import tensorboardX  # noqa: F401  Used once the data is loaded; what is missing is told at once.


def train(config: ConfigDict, workdir: pathlib.Path, command: str = "") -> None:
    """Trains or resumes a run, then evaluates its best or last checkpoint (`train.keep`).

    A run that is already trained and evaluated is not changed.

    Args:
      config: see siamjax/run/settings.py.
      workdir: the run folder; created if needed.
      command: that was typed, which the run stores for its report.

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
    config = settings.with_form(config, *data.form(datasets["validation"]))
    with settings.keyed("encoder"):
        recipe.check_towers(config.encoder.towers, datasets)
    drawn.pairs(config.evaluation, datasets)  # Fails before training if evaluation would.
    before = parallel.from_main(lambda: _trained_before(config, datasets))
    new = parallel.from_main(lambda: not run.has_checkpoint)
    published = parallel.main_first(lambda: parts.published_weights(config)) if new else None
    training = _made(config, datasets, published)
    if new and config.train.start:
        training = training._replace(start=_started_from(config.train.start, training.start))
    # Nothing is written before here, so that a configuration that cannot run leaves no files.
    with run.locked():
        # Another training may have begun in the meantime.
        parallel.from_main(lambda: run.check_resumable(config))
        _train_and_evaluate(config, run, training, datasets, command, before)


def _train_and_evaluate(config, run, training, datasets, command, before):
    parallel.from_main(lambda: run.check_identities(datasets))
    parallel.from_main(lambda: run.start(config, datasets, command, before))
    progress, complete = whole.in_folder(training, config.train, run.paths, lambda *_: None, report.note)
    about = run.about(config, "training and validation")
    parallel.from_main(lambda: report.curves(run.figures.report, run.metrics, about))
    if complete and parallel.from_main(lambda: run.figures.are_of(progress["best_step"])):
        parallel.from_main(lambda: show_again(config, run, progress))
    else:
        judge(config, run, run.figures, datasets)


def _made(config, datasets, published):
    """The training that configuration and data describe."""
    model, validation = parts.make_model(config), datasets["validation"]
    objective = recipe.make_objective(config, model, datasets.get("train"))
    if config.train.teacher:
        teacher = _loaded("train.teacher", config.train.teacher)
        with settings.keyed("train"):
            objective = recipe.taught(config, objective, model, validation.images.shape[1:], teacher)
    optimizer = recipe.make_optimizer(config, objective)
    network_of = functools.partial(Network, model)
    make_batches, images = recipe.make_batches(config, datasets.get("train"), network_of)
    requested = config.batch.identities * config.batch.per_identity
    if config.batch.mode == "identities" and images < requested and parallel.is_main_process():
        report.note(f"batches have {images} images, not {requested}: the training data has too few identities")
    validate = None
    if validation.pairs is None:
        validate = drawn.accuracy_of(network_of, validation, drawn.trials(config.evaluation, validation))
    with settings.keyed("batch"):
        chunk = whole.checked_chunk(config.batch.chunk, images, model.encoder)
    return whole.training(
        model,
        objective,
        optimizer,
        make_batches,
        validation.images.shape[1:],
        seed=config.seed,
        validate=validate,
        average=config.optimizer.average,
        chunk=chunk,
        published=published,
        tell=report.note,
    )


def _loaded(key, place):
    try:
        return Network.load(place, copies=0)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{key}={place!r}: {error}") from error


def _trained_before(config, datasets):
    """The names of those that the runs have learned from which this one starts from, or is taught by; sorted.

    A network saved alone does not know them.
    """
    before = set()
    for key in ("start", "teacher"):
        if (place := config.train[key]) and (run := Run(place)).is_started:
            reason = (
                "choose the folds (data.folder.fold) and the protocol of that run, or other data. For other identities "
                "that only have the same names, save the network alone: siamjax.Network.load(RUN).save(FOLDER)"
            )
            trained = run.trained_on
            check_unseen(trained, datasets, f"train.{key}={place!r}: ", reason)
            before |= trained
    return sorted(before)


def _started_from(place: str, start: state.State) -> state.State:
    """`start` with the weights of the network in `place`."""
    network = _loaded("train.start", place)
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
