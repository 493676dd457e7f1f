"""Evaluates a run: its kept checkpoint, on validation and test data -> figures, tables and pictures."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from siamjax import data, evaluation, network, parallel, report
from siamjax.data import SOURCES, Dataset
from siamjax.evaluation import Measure, Skipped, drawn, evaluators, one_shot
from siamjax.run import Figures, Run, parts, settings


def evaluate(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Evaluates the kept checkpoint of a run on the data that `config` names.

    Writes results.json, results_config.json (the configuration that the figures belong to), verification.json (the
    decision, and the figures that do not depend on it) and pictures in report/. They go to the run folder if data and
    settings are those of its training, otherwise to a folder in its evaluations/.

    Args:
      config: see siamjax/run/settings.py; its encoder and head must be those that were trained.
      workdir: a run folder.

    Raises:
      FileNotFoundError: `workdir` holds no checkpoint.
      ValueError: the configuration does not fit the checkpoint or the data.
    """
    run = Run(workdir)
    settings.check_processes(config)
    settings.check(config)
    parallel.from_main(run.check_trained)
    datasets = parallel.main_first(lambda: data.load(config.data, train=False))
    parallel.from_main(lambda: run.check_identities(datasets))
    figures = parallel.from_main(lambda: run.figures_of(config))
    if figures != run.figures and parallel.is_main_process():
        differing = ", ".join(run.differences(config))
        report.note(f"{differing} differ(s) from the run's training: the figures go to {figures.folder}")
    judge(config, run, figures, datasets)


def judge(config: ConfigDict, run: Run, figures: Figures, datasets: Mapping[str, Dataset]) -> None:
    """Evaluates a run on data sets that are loaded and checked; arguments as in `evaluate`, results go to `figures`."""
    inputs = network.inputs_of(config)
    model, copies = parts.make_model(config), config.evaluation.copies
    trained, progress = run.restore(model, inputs.shape)
    weights, distort = (trained.params, trained.batch_stats), parts.make_augment(config, hide=False)
    judged = network.Network(model, *weights, inputs=inputs, copies=copies, distort=distort)
    # Sorted: all processes embed the same data set at a time.
    names = sorted(datasets.keys() - {"train"})
    embeddings = {part: judged.embed(datasets[part].images, f"embedding {part}") for part in names}
    asked = drawn.pairs(config.evaluation, datasets)
    if "validation" in datasets:
        decision = drawn.decision(judged, datasets["validation"], embeddings["validation"], asked["validation"])
    else:
        decision = parallel.from_main(lambda: _decision_of(run, copies))
    verification: dict[str, Any] = {"decision": dataclasses.asdict(decision)}
    if copies and "validation" in datasets:
        alone = network.Network(model, *weights, inputs=inputs)
        validation = datasets["validation"]
        fitted = drawn.decision(alone, validation, alone.embed(validation.images), asked["validation"])
        verification["decision_without_copies"] = dataclasses.asdict(fitted)
    subject = evaluation.Subject(judged, decision, config.evaluation, config.data, datasets, embeddings, asked)
    found = list(evaluation.run(subject))
    page = _page(subject)
    if parallel.is_main_process():
        _write(config, figures, found)
        _show(config, run, figures, found, progress)
        about = run.about(config, "test", int(trained.step))
        report.pictures(figures.report, about, datasets["test"], evaluators.pair_scores(subject), found, page)
        # The last file: with it, the evaluation of this step is complete.
        figures.write_verification(verification | _other_figures(found) | {"step": int(trained.step)})


def show_again(config: ConfigDict, run: Run, step: int) -> None:
    """Prints the table of a run that is evaluated."""
    report.table(run.figures.results, run.title(config, step))
    report.note(f"It is already evaluated; to do that again: --mode evaluate --workdir {run.folder}")


def _decision_of(run, copies):
    """The run's own decision."""
    decisions = run.figures.decisions(run.settings.evaluation.copies)
    if copies not in decisions:
        raise ValueError(
            f"there is no validation data to fit a threshold on, and {run.folder} has none for copies={copies}; "
            f"evaluate the run first: python launch.py --mode evaluate --workdir {run.folder}"
        )
    report.note("no validation data to fit a threshold on: pairs are verified by that of the run")
    return decisions[copies]


def _page(subject):
    """Trials of the test data and their scores, for a picture; None if there are none."""
    try:
        trials = drawn.trials(subject.config, subject.datasets["test"], "test")
    except one_shot.TooFewImages:
        return None
    embeddings = subject.embeddings["test"]
    return trials, subject.network.score_trials(embeddings, trials.query, trials.support)


def _of(found: Sequence[Measure | Skipped], *tables: str) -> list[Measure]:
    return [one for one in found if isinstance(one, Measure) and one.table in tables]


def _write(config, figures, found):
    """Stores the accuracies, and prints what was skipped."""
    for one in found:
        if isinstance(one, Skipped):
            report.note(f"{one.name}: skipped, {one.reason}")
    results = {
        one.name: {
            "accuracy": one.value,
            "ci95": one.interval,
            "trials": one.trials,
            "seed": one.seed,
            "over": one.over,
            "units": one.units,
        }
        for one in _of(found, "accuracy")
    }
    figures.write(config, results)


def _show(config, run, figures, found, progress):
    """Prints the tables, and what a reader might miss in them."""
    report.table(figures.results, run.title(config, progress["best_step"]))
    if figures == run.figures and any("validation" in name for name in figures.results):
        copies = config.evaluation.copies
        alone = f", of single images, not averaged over {copies} distorted copies" if copies else ""
        report.note(
            f"While training, this checkpoint had {progress['best_accuracy']:.2%} on validation: in "
            f"{config.evaluation.validation_trials} other trials{alone}"
        )
    trained = run.settings.data
    if trained.name == config.data.name:
        overlap = SOURCES[config.data.name].overlap(trained, config.data)
        if overlap:
            report.note(overlap)
    for table, title in _TITLES.items():
        shown = [one for one in _of(found, table) if one.name != "log_loss"]
        if shown:
            bounds = {one.name: one.interval for one in shown} if table != "open_set" else None
            values = {one.name: one.value for one in shown}
            report.figures(values, title.format(shown[0].trials), bounds)


_TITLES = {
    "pairs": "{} test pairs, whatever the threshold",
    "retrieval": "{} test images, each asked for among the others",
    "reidentification": "{} test images, each asked for in the gallery, where 'new' is an answer",
    "open_set": "{} people enrolled with an image each, and as many strangers",
}


def _other_figures(found):
    """What verification.json holds besides the decisions."""
    pairs, searched, strangers = (
        _of(found, *tables) for tables in (("pairs",), ("retrieval", "reidentification"), ("open_set",))
    )
    bounds: dict[str, Any] = {"over": "identities", "units": pairs[0].units}
    bounds["test"] = {one.name: one.interval for one in pairs if one.name != "log_loss"}
    if searched:
        bounds["retrieval"] = {one.name: one.interval for one in searched}
    tables = {"test": pairs, "retrieval": searched, "open_set": strangers}
    saved = {name: {one.name: one.value for one in rows} for name, rows in tables.items()}
    if strangers:
        saved["open_set"]["enrolled"] = strangers[0].trials
    return saved | {"intervals": bounds}
