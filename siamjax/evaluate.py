"""Evaluates the best or last checkpoint of a run on validation and test data: figures, tables and pictures."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from siamjax import data, evaluation, extras, network, parallel, report
from siamjax.data import SOURCES, Dataset
from siamjax.decision import Decision
from siamjax.evaluation import Measure, Skipped, drawn, evaluators, one_shot
from siamjax.run import Figures, Run, parts, recipe, settings

with extras.needed_for("evaluating a run"):
    import matplotlib.figure  # noqa: F401  Used at the end only; what is missing is told at once.


def evaluate(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Evaluates the best or last checkpoint of a run (`train.keep`) on the data that `config` names.

    Writes results.json, results_config.json (the evaluated configuration), verification.json (the decision, and the
    figures that do not depend on it), and pictures and index.html in report/. They are stored in the run folder if data
    and settings are those of its training, otherwise in a folder in its evaluations/.

    Args:
      config: see siamjax/run/settings.py; encoder and head must be those of the training.
      workdir: a run folder.

    Raises:
      FileNotFoundError: `workdir` has no checkpoint.
      ValueError: the configuration does not fit the checkpoint or the data, or `workdir` is not writable.
    """
    run = Run(workdir)
    settings.check(config)
    settings.check_processes(config)
    parallel.from_main(run.check_trained)
    parallel.from_main(run.check_writable)
    datasets = parallel.main_first(lambda: data.load(config.data, train=False))
    data.check_processes(datasets)
    with settings.keyed("encoder"):
        recipe.check_towers(config.encoder.towers, datasets)
    parallel.from_main(lambda: run.check_identities(datasets))
    parallel.from_main(lambda: _check_form(config, run, datasets["test"]))
    config = settings.with_form(config, *data.form(datasets["test"]))
    figures = Figures(pathlib.Path(parallel.from_main(lambda: str(run.figures_of(config).folder))))
    if figures != run.figures and parallel.is_main_process():
        differing = ", ".join(run.differences(config))
        report.note(f"{differing} differ(s) from the run's training: figures are stored in {figures.folder}")
    judge(config, run, figures, datasets)


def _check_form(config, run, test):
    """Refuses inputs of another type than was trained on, or another shape, unless both are images of `data.size`."""
    try:
        trained = network.inputs_of(run.settings)
    except FileNotFoundError:
        return  # An older run, which leaves the form to a file of arrays.
    shape, dtype = data.form(test)
    of_size = not any(SOURCES[each.data.name].form for each in (config, run.settings))
    if dtype != trained.dtype or (shape != trained.shape and not of_size):
        raise ValueError(
            f"{run.folder} was trained on inputs {trained.dtype} {list(trained.shape)}, but data.name="
            f"{config.data.name!r} has {dtype} {list(shape)}: convert them, or evaluate other data"
        )


def judge(config: ConfigDict, run: Run, figures: Figures, datasets: Mapping[str, Dataset]) -> None:
    """Evaluates a run on data sets that are already loaded and checked.

    Args:
      config: see `evaluate`.
      run: its checkpoint is evaluated.
      figures: where results are stored.
      datasets: see `siamjax.data.load`.
    """
    inputs = network.inputs_of(config)
    model, copies = parts.make_model(config), config.evaluation.copies
    trained, progress = run.restore(model, inputs.shape)
    weights, distort = (trained.params, trained.batch_stats), parts.make_augment(config, hide=False)
    evaluated = network.Network(model, *weights, inputs=inputs, copies=copies, distort=distort)
    # Sorted, so that all processes embed the data sets in the same order.
    names = sorted(datasets.keys() - {"train"})
    embeddings = {part: drawn.embed(evaluated, datasets[part], f"embedding {part}") for part in names}
    pairs = drawn.pairs(config.evaluation, datasets)
    if "validation" in datasets:
        decision = drawn.decision(evaluated, datasets["validation"], embeddings["validation"], pairs["validation"])
    else:
        saved = parallel.from_main(lambda: json.dumps(dataclasses.asdict(_decision_of(run, copies, int(trained.step)))))
        decision = Decision.read(json.loads(saved))
    verification: dict[str, Any] = {"decision": dataclasses.asdict(decision)}
    if copies and "validation" in datasets:
        without_copies = network.Network(model, *weights, inputs=inputs)
        validation = datasets["validation"]
        embedded = drawn.embed(without_copies, validation)
        fitted = drawn.decision(without_copies, validation, embedded, pairs["validation"], decision.familiar)
        verification["decision_without_copies"] = dataclasses.asdict(fitted)
    subject = evaluation.Subject(evaluated, decision, config.evaluation, config.data, datasets, embeddings, pairs)
    outcomes = list(evaluation.run(subject))
    # All processes score together; only the main one writes.
    page, scored_pairs, near = _page(subject), evaluators.pair_scores(subject), report.neighbours(subject)
    if parallel.is_main_process():
        _write(config, figures, outcomes)
        _show(config, run, figures, outcomes, progress)
        about = run.about(config, "test", int(trained.step))
        report.pictures(figures.report, about, datasets["test"], scored_pairs, outcomes, page)
        verification |= _other_figures(outcomes) | {"step": int(trained.step)}
        report.write(run, figures, verification, report.answers(datasets["test"], scored_pairs, page, near))
        # Written last, as it marks the evaluation of this step as complete.
        figures.write_verification(verification)


def show_again(config: ConfigDict, run: Run, progress: Mapping[str, Any]) -> None:
    """Prints the table of a run that is already evaluated; `progress` as `Run.restore` returns it."""
    report.table(run.figures.results, run.title(config, progress))
    report.note(f"already evaluated; to evaluate again: siamjax evaluate {run.folder}")


def _decision_of(run, copies, step):
    """The decision of the run, for test data without validation data."""
    decisions = run.figures.decisions(run.settings.evaluation.copies, step)
    if copies not in decisions:
        raise ValueError(
            f"no validation data to fit a threshold on, and {run.folder} has no threshold for copies={copies}; "
            f"evaluate the run first: siamjax evaluate {run.folder}"
        )
    report.note("no validation data to fit a threshold on: pairs are verified with the threshold of the run")
    return decisions[copies]


def _page(subject):
    """Trials on the test data and their scores, for a picture; None if the data is too small, or has two sides."""
    if subject.network.towers == 2:
        return None
    try:
        trials = drawn.trials(subject.config, subject.datasets["test"], "test")
    except one_shot.TooFewImages:
        return None
    embeddings = subject.embeddings["test"]
    return trials, subject.network.score_trials(embeddings, trials.query, trials.support)


def _of(outcomes: Sequence[Measure | Skipped], *tables: str) -> list[Measure]:
    return [row for row in outcomes if isinstance(row, Measure) and row.table in tables]


def _write(config, figures, outcomes):
    """Stores the accuracies, and prints which protocols were skipped."""
    for outcome in outcomes:
        if isinstance(outcome, Skipped):
            report.note(f"{outcome.name}: skipped, {outcome.reason}")
    results = {
        row.name: {
            "accuracy": row.value,
            "ci95": row.interval,
            "trials": row.trials,
            "seed": row.seed,
            "over": row.over,
            "units": row.units,
        }
        for row in _of(outcomes, "accuracy")
    }
    figures.write(config, results)


def _show(config, run, figures, outcomes, progress):
    """Prints the tables, and notes on how to read them."""
    report.table(figures.results, run.title(config, progress))
    if figures == run.figures and any("validation" in name for name in figures.results):
        copies = config.evaluation.copies
        single = f" and single images, not averaged over {copies} distorted copies" if copies else ""
        report.note(
            f"During training, this checkpoint had a validation accuracy of {progress['best_accuracy']:.2%}, on "
            f"{config.evaluation.validation_trials} other trials{single}"
        )
    trained = run.settings.data
    if trained.name == config.data.name:
        overlap = SOURCES[config.data.name].overlap(trained, config.data)
        if overlap:
            report.note(overlap)
    for table, title in _TITLES.items():
        shown = [row for row in _of(outcomes, table) if row.is_share]
        if shown:
            bounds = {row.name: row.interval for row in shown} if table != "open_set" else None
            values = {row.name: row.value for row in shown}
            over = " or ".join(sorted({row.over for row in shown}))
            report.figures(values, title.format(shown[0].trials), bounds, over)


_TITLES = {
    "pairs": "{} test pairs, threshold-free measures",
    "protocols": "{} comparisons that the data comes with, threshold-free measures",
    "retrieval": "{} test images, each searched among the others",
    "reidentification": "{} test images, each searched in the gallery; 'new' is a possible answer",
    "open_set": "{} identities enrolled with one image each, and as many strangers",
}


def _other_figures(outcomes):
    """The content of verification.json except for the decisions."""
    pairs, given, searched, strangers = (
        _of(outcomes, *tables)
        for tables in (("pairs",), ("protocols",), ("retrieval", "reidentification"), ("open_set",))
    )
    over, units = (pairs[0].over, pairs[0].units) if pairs else ("identities", 0)
    bounds: dict[str, Any] = {"over": over, "units": units}
    bounds["test"] = {row.name: row.interval for row in pairs if row.is_share}
    if given:
        bounds["protocols"] = {row.name: row.interval for row in given}
    if searched:
        bounds["retrieval"] = {row.name: row.interval for row in searched}
    tables = {"test": pairs, "protocols": given, "retrieval": searched, "open_set": strangers}
    saved = {name: {row.name: row.value for row in rows} for name, rows in tables.items()}
    if strangers:
        saved["open_set"]["enrolled"] = strangers[0].trials
    return saved | {"intervals": bounds}
