"""A whole run: configuration and run folder -> trained checkpoints, figures and pictures."""

import dataclasses
import functools
import json
import os
import pathlib

import jax
import ml_collections
import numpy as np

from siamjax import data, figures, files, parallel, report
from siamjax.evaluation import (
    calibration,
    decision,
    intervals,
    one_shot,
    open_set,
    protocols,
    reidentification,
    retrieval,
    verification,
)
from siamjax.evaluation.scorer import Scorer
from siamjax.run import parts, recipe, settings
from siamjax.training import loop, state, step
from siamjax.training.checkpoint import Checkpoints, check_trained, restore_best, restore_best_with_progress
from siamjax.training.metrics import MetricsLog

# May differ when a run goes on: where the data lies says nothing about what it is.
_PLACES = ("data.data_dir", "data.manual_dir", "data.folder.path")


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path):
    """Trains as `config` says, or goes on where an earlier call was cut off, then evaluates the kept checkpoint.

    That is the best on validation, or the last, as `train.keep` says. A run that is trained and evaluated is left as it
    is.

    Args:
      config: see configs/default.py.
      workdir: the run folder; created if need be.

    Raises:
      ValueError: the configuration or the data does not fit, or `workdir` holds a run of another configuration.
      FloatingPointError: training diverged.
    """
    _check_processes(config)
    parallel.from_main(lambda: (_check_folder(workdir), _check_same_run(config, workdir)))
    settings.check(config)
    model = parts.make_model(config)
    datasets = parallel.main_first(lambda: data.load(config.data))
    objective = recipe.make_objective(config, model, datasets.get("train"))
    transform = recipe.make_optimizer(config, objective)
    validation = datasets["validation"]
    trials = protocols.validation_trials(config.evaluation, validation)
    protocols.draw_pairs(config.evaluation, datasets)  # What evaluation would refuse is refused before the training.
    make_batches, images = recipe.make_batches(config, datasets.get("train"), functools.partial(Scorer, model))
    update = functools.partial(
        step.update,
        model=model,
        objective=objective,
        optimizer=transform,
        average=config.optimizer.average,
    )
    asked = config.batch.identities * config.batch.per_identity
    if config.batch.mode == "identities" and images < asked and parallel.is_main_process():
        report.note(f"batches are of {images} images, not {asked}: the training data has no more identities")
    weights_key, batches_key = jax.random.split(jax.random.key(config.seed))
    averaged = config.optimizer.average > 0
    start = state.create(model, weights_key, validation.images.shape[1:], transform, averaged, objective)

    def validate(replicated):
        scorer = Scorer(model, *parallel.first(replicated.judged()))
        scores = scorer.score_trials(scorer.embed(validation.images), trials)
        # Whether to stop is decided by this number: all processes take the same.
        return parallel.from_main(lambda: float(one_shot.right(scores, trials.answer).mean()))

    # Nothing is written before these lines, so that a configuration that cannot run leaves nothing behind.
    parallel.from_main(lambda: _check_same_identities(workdir, datasets))
    if config.train.start and not (workdir / "checkpoints").exists():
        if not (pathlib.Path(config.train.start) / "checkpoints").is_dir():
            raise ValueError(
                f"train.start={config.train.start!r} holds no checkpoint; name the folder of a trained run"
            )
        trained = restore_best(model, validation.images.shape[1:], pathlib.Path(config.train.start))
        start = state.from_weights(start, trained.params, trained.batch_stats)
    parallel.from_main(lambda: _write_start(workdir, config, datasets))
    checkpoints = Checkpoints(workdir)
    restored, progress = checkpoints.restore("latest", start) or (start, loop.NEW_RUN)
    checkpoints.forget_after(int(restored.step))
    try:
        if done := loop.finished(config.train, int(restored.step), progress):
            parallel.from_main(lambda: report.note(f"{workdir}: training is complete, at step {int(restored.step)}"))
        else:
            batches = make_batches(batches_key, int(restored.step), config.train.steps)
            take = step.stepper(update, batches, batches_key)
            _train(config, workdir, take, batches, restored, progress, checkpoints, validate)
    finally:
        checkpoints.close()
    parallel.from_main(lambda: report.curves(workdir, figures.about(config, workdir, "training and validation")))
    if done and parallel.from_main(lambda: _is_evaluated(workdir, progress["best_step"])):
        parallel.from_main(lambda: _show_again(config, workdir, progress["best_step"]))
    else:
        _evaluate(config, workdir, workdir, datasets)


def _train(config, workdir, take, batches, start, progress, checkpoints, validate):
    log = MetricsLog(workdir, after=int(start.step))
    every = (config.train.log_every, config.train.validate_every)
    try:
        loop.train(
            take,
            parallel.replicate(start),
            config=config.train,
            images=batches.images,
            at_once=parallel.steps_at_once(*every) if batches.constant else 1,
            validate=validate,
            checkpoints=checkpoints,
            log=log,
            progress=progress,
        )
    finally:
        log.close()


def evaluate(config: ml_collections.ConfigDict, workdir: pathlib.Path):
    """Evaluates the kept checkpoint in `workdir` on validation and test data.

    Writes results.json, results_config.json (the configuration that the figures belong to), verification.json (the
    threshold and calibration, test figures that do not depend on them, of a folder's images those of retrieval, and the
    intervals of these), and pictures in report/. They go to the run folder where data and settings are those of its
    training, otherwise to a folder for them in its evaluations/.

    Args:
      config: see configs/default.py; its encoder and head must be those that were trained.
      workdir: a run folder.

    Raises:
      FileNotFoundError: `workdir` holds no checkpoint.
      ValueError: the configuration does not fit the checkpoint or the data.
    """
    _check_processes(config)
    settings.check(config)
    parallel.from_main(lambda: check_trained(workdir))
    datasets = parallel.main_first(lambda: data.load(config.data, train=False))
    parallel.from_main(lambda: _check_same_identities(workdir, datasets))
    _evaluate(config, workdir, parallel.from_main(lambda: figures.folder_of(config, workdir)), datasets)


def _evaluate(config, workdir, folder, datasets):
    """Evaluates the run in `workdir`; the figures go to `folder`."""
    fitted = None if "validation" in datasets else parallel.from_main(lambda: _decision_of(workdir, config))
    test = datasets["test"]
    model = parts.make_model(config)
    trained, progress = restore_best_with_progress(model, test.images.shape[1:], workdir)
    copies, distort = config.evaluation.copies, parts.make_augment(config, hide=False)
    scorer = Scorer(model, trained.params, trained.batch_stats, copies=copies, distort=distort)
    # Sorted: all processes embed the same data set at a time.
    embeddings = {
        part: scorer.embed(datasets[part].images, f"embedding {part}") for part in sorted(datasets.keys() - {"train"})
    }
    verified = protocols.verify(config.evaluation, datasets, embeddings, scorer, fitted)
    judged = {"decision": dataclasses.asdict(verified.decision)}
    if copies and "validation" in datasets:
        judged["decision_without_copies"] = _decision_without_copies(config, datasets["validation"], model, trained)
    outcome, bounds = protocols.verification_result(verified, test, config.evaluation.seed)
    outcomes = {"verification": outcome, **dict(protocols.run(config, datasets, embeddings, scorer))}
    if config.data.name in ("folder", "tfds"):
        arguments = (scorer.score_all, embeddings["test"], test.label, verified.decision, config.evaluation.seed)
        judged["open_set"] = open_set.measures(*arguments)
    found = _found(config, datasets, embeddings, scorer)
    try:
        trials = protocols.validation_trials(config.evaluation, test)
        scores = scorer.score_trials(embeddings["test"], trials)
    except one_shot.TooFewImages:
        trials = None  # No trials within a group, no page of them.
    if parallel.is_main_process():
        about = figures.about(config, workdir, "test", int(trained.step))
        _report(config, workdir, folder, outcomes, progress)
        if trials:
            report.trials(folder, about, test, trials, scores)
        _report_figures(folder, about, test, verified, bounds, found, judged | {"step": int(trained.step)})


def _found(config, datasets, embeddings, scorer):
    """What each test image finds among the others, or in the gallery, by name of the measure; {} for other trials."""
    if "gallery" in datasets:
        labels = {part: datasets[part].label for part in embeddings}
        return reidentification.per_query(scorer.score_all, embeddings, labels)
    if config.data.name in ("folder", "tfds") and one_shot.identities_of(datasets["test"], 2):
        return retrieval.per_query(scorer.score_all, embeddings["test"], datasets["test"].label)
    return {}


def _decision_without_copies(config, validation, model, trained):
    """That of the network alone, which is what `export` hands over."""
    scorer, drawn = Scorer(model, trained.params, trained.batch_stats), {"validation": validation}
    pairs = protocols.draw_pairs(config.evaluation, drawn)["validation"]
    return dataclasses.asdict(protocols.fit(validation, pairs, scorer.embed(validation.images), scorer))


def _decision_of(workdir, config):
    """The run's own threshold and calibration."""
    path = workdir / "verification.json"
    if not path.is_file():
        raise ValueError(f"there is no validation data to fit a threshold on, and no {path}; evaluate the run first")
    report.note("no validation data to fit a threshold on: pairs are verified by that of the run")
    trained = json.loads((workdir / "config.json").read_text())["evaluation"]["copies"]
    return decision.of_copies(workdir, trained, config.evaluation.copies)


def _report(config, workdir, folder, outcomes, progress):
    for name, outcome in outcomes.items():
        if isinstance(outcome, str):
            report.note(f"{name}: skipped, {outcome}")
    results = {name: dataclasses.asdict(outcome) for name, outcome in outcomes.items() if not isinstance(outcome, str)}
    _write_json(folder / "results_config.json", json.loads(config.to_json()))
    _write_json(folder / "results.json", results)
    report.table(results, figures.title(config, workdir, progress["best_step"]))
    if folder == workdir and any("validation" in name for name in results):
        copies = config.evaluation.copies
        alone = f", of single images, not averaged over {copies} distorted copies" if copies else ""
        report.note(
            f"While training, this checkpoint had {progress['best_accuracy']:.2%} on validation: in "
            f"{config.evaluation.validation_trials} other trials{alone}"
        )
    _warn_of_seen_alphabets(config, workdir)


def _report_figures(folder, about, dataset, verified, bounds, found, judged):
    measured = verification.measures(verified.scores, verified.same)
    report.figures(measured, f"{len(verified.same)} test pairs, whatever the threshold", bounds)
    # Not a share, it is no row of the table.
    measured["log_loss"] = calibration.log_loss(verified.decision.probability(verified.scores), verified.same)
    intervals_of = {"over": "identities", "units": len(np.unique(dataset.label[verified.pairs])), "test": bounds}
    means = {name: float(np.nanmean(values)) for name, values in found.items()}
    if found:
        intervals_of["retrieval"] = {name: intervals.of_mean(values, dataset.label) for name, values in found.items()}
        against = "in the gallery, where 'new' is an answer" if "map_at_5_of_new" in found else "among the others"
        title = f"{len(dataset)} test images, each asked for {against}"
        report.figures(means, title, intervals_of["retrieval"])
    if judged.get("open_set"):
        shown = dict(judged["open_set"])
        report.figures(shown, f"{shown.pop('enrolled')} people enrolled with an image each, and as many strangers")
    report.verification(folder, about, dataset, verified, measured)
    report.reliability(folder, about, verified, measured["log_loss"])
    # The last file: with it, the evaluation of this step is complete.
    saved = {"test": measured, "retrieval": means, "intervals": intervals_of}
    _write_json(folder / "verification.json", judged | saved)


def _is_evaluated(workdir, step):
    """Whether the run's own figures are there, and of this step."""
    paths = [workdir / name for name in ("results.json", "verification.json")]
    return all(path.exists() for path in paths) and json.loads(paths[1].read_text()).get("step") == step


def _show_again(config, workdir, step):
    report.table(json.loads((workdir / "results.json").read_text()), figures.title(config, workdir, step))
    report.note(f"It is evaluated, too; to do that again: --mode evaluate --workdir {workdir}")


def _write_start(workdir, config, datasets):
    _write_json(workdir / "config.json", json.loads(config.to_json()))
    names = {part: sorted(dataset.names) for part, dataset in datasets.items() if dataset.names}
    if names:
        _write_json(workdir / "identities.json", names)


def _check_same_identities(workdir, datasets):
    """Refuses to go on where an identity that was trained on would now be judged, or the other way round."""
    path = workdir / "identities.json"
    if not path.exists():
        return
    before = json.loads(path.read_text())
    trained = set(map(files.named, before["train"]))
    for part in datasets.keys() & {"validation", "test"}:
        moved = sorted(trained & set(datasets[part].names))
        if moved:
            raise ValueError(
                f"{path}: {len(moved)} identities of the {part} data were trained on ({moved[0]!r} first): identities "
                "were added or removed since, and are dealt out anew. Use a new --workdir, or put back what was there"
            )


def _check_folder(workdir):
    parent = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        reason = "cannot be written to" if parent.is_dir() else "is a file"
        raise ValueError(f"--workdir {workdir}: {parent} {reason}; name another folder")


def _warn_of_seen_alphabets(config, workdir):
    saved = json.loads((workdir / "config.json").read_text())["data"]
    if saved["name"] == config.data.name == "omniglot" and saved["splits"] != config.data.splits:
        report.note(
            f"Beware: trained on the split {saved['splits']!r}, evaluated on {config.data.splits!r}: alphabets of its "
            "validation or test data may have been used in training, or to choose the checkpoint"
        )


def _check_same_run(config, workdir):
    path = workdir / "config.json"
    if not path.exists():
        return
    before = settings.read(json.loads(path.read_text()))  # What was no setting then has its default.
    changed = _changed(json.loads(before.to_json()), json.loads(config.to_json()))
    changed = [change for change in changed if change[0] != "data.stream"]  # The numbers are the same.
    if changed:
        values = "; ".join(f"{key} was {was}, now {now}" for key, was, now in changed)
        raise ValueError(
            f"{path} is of another run: {values}. Resume with the same values, or evaluate with --mode evaluate; to "
            f"train on with others, use a new --workdir and start from this run with --config.train.start={workdir}"
        )


def _check_processes(config):
    own = json.loads(config.to_json())
    changed = _changed(parallel.from_main(lambda: own), own)
    if changed:
        values = "; ".join(f"{key} is {there} there, {here} here" for key, there, here in changed)
        raise ValueError(
            f"process 0 has another configuration than this one: {values}. Give all processes the same --config, or a "
            "--workdir that all of them see"
        )


def _changed(before, after):
    """[(key, value before, value after)] of what differs between two configurations."""
    before, after = figures.flat(before), figures.flat(after)
    keys = [key for key in sorted({**before, **after}) if key not in _PLACES]
    return [(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


def _write_json(path, content):
    files.write(path, f"{json.dumps(content, indent=2)}\n".encode())
