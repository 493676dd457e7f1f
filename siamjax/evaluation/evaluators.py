"""The protocols in which results of siamese networks are reported. Each data source names those that apply to it."""

import pathlib
from collections.abc import Iterator

import numpy as np

from siamjax import parallel
from siamjax.data import SOURCES
from siamjax.evaluation import (
    calibration,
    drawn,
    given,
    intervals,
    one_shot,
    open_set,
    reidentification,
    retrieval,
    tutorial,
    verification,
)
from siamjax.evaluation.types import Evaluator, Measure, PairScores, Skipped, Subject, accuracy
from siamjax.network import score_references

_MOST_WAYS = 100  # identities per identification trial, at most
_RETRIEVAL = ("recall_at_1", "recall_at_5", "recall_at_10", "r_precision", "map_at_r", "map_at_5")  # in the table


def run(subject: Subject) -> Iterator[Measure | Skipped]:
    """Runs every evaluator that the data source names."""
    source = SOURCES[subject.data.name]
    skipped = source.skipped(subject.data)
    for name in source.evaluators(subject.data):
        if name in skipped:
            yield Skipped(name, skipped[name])
        else:
            yield from EVALUATORS[name](subject)


def pair_scores(subject: Subject) -> PairScores:
    """The test pairs with their scores and the decision that judges them."""
    pairs, same = subject.pairs["test"]
    scores = subject.network.score_pairs(subject.embeddings["test"], pairs)
    return PairScores(pairs, same, scores, subject.decision)


def _verification(subject):
    """Koch's table 1: test pairs, judged by the decision that was fitted to the validation pairs."""
    test, seed = pair_scores(subject), subject.config.seed
    dataset, over = subject.datasets["test"], "identities"
    unit = dataset.label
    if dataset.pairs is not None:
        unit, over = given.units(dataset, test.pairs)
    unit = unit[test.pairs]
    accepted, count, units = test.decision.same(test.scores), len(test.same), len(np.unique(unit))
    bounds = verification.intervals_of(test.scores, test.same, unit, accepted)
    value = float(np.mean(accepted == test.same))
    yield Measure("verification", value, bounds["accuracy"], count, seed, over, units)
    for name, value in verification.measures(test.scores, test.same).items():
        yield Measure(name, value, bounds[name], count, seed, over, units, "pairs")
    loss = calibration.log_loss(test.decision.probability(test.scores), test.same)
    yield Measure("log_loss", loss, None, count, seed, over, units, "pairs", is_share=False)


def _protocols(subject):
    """Comparisons that the data comes with: LFW's pairs, for example. See `given`."""
    test, validation = (subject.datasets.get(part) for part in ("test", "validation"))
    for name, compared in test.protocols.items():
        scores = _scores(subject, "test", compared)
        if len(np.unique(compared.fold)) > 1:
            yield from given.over_folds(name, scores, compared)
        elif validation is None or name not in validation.protocols:
            yield Skipped(name, "one fold, and no validation data with this protocol to fit a threshold on")
        else:
            fitted = validation.protocols[name]
            threshold = calibration.fit_threshold(_scores(subject, "validation", fitted), fitted.same)
            images = np.stack([compared.references[:, 0], compared.query], axis=1)
            unit, over = given.units(test, images)
            yield from given.of_fold(name, scores, compared, unit[images], over, threshold)


def _scores(subject, part, compared):
    embeddings = subject.embeddings[part]
    return score_references(subject.network, embeddings, compared.references, compared.query, subject.decision)


def _open_set(subject):
    test, network = subject.datasets["test"], subject.network
    arguments = (network.score_all, subject.embeddings["test"], test.label, subject.decision, subject.config.seed)
    figures = open_set.measures(*arguments)
    enrolled = int(figures.pop("enrolled", 0))
    for name, value in figures.items():
        yield Measure(name, value, None, enrolled, subject.config.seed, table="open_set")


def _trials(subject, name, part, draw, **options):
    """The accuracy on trials that `draw` draws from a part of the data; with several shots, by prototypes, too."""
    if part not in subject.datasets:
        yield Skipped(name, f"no {part} data")
        return
    dataset, embeddings, score_trials = subject.datasets[part], subject.embeddings[part], subject.network.score_trials
    try:
        trials = draw(dataset, seed=subject.config.seed, **options)
    except one_shot.TooFewImages as error:
        yield Skipped(name, str(error))
        return
    found = {name: score_trials(embeddings, trials.query, trials.support)}
    if options.get("shots", 1) > 1:
        found[f"{name}_prototypes"] = score_trials(embeddings, trials.query, trials.support, prototypes=True)
    for each, scores in found.items():
        # Trials of one alphabet are correlated, as are trials that share an identity or its most similar rival.
        if draw is one_shot.within_group:
            over, unit = "alphabets", dataset.group[trials.query]
        else:
            rival = np.take_along_axis(trials.support[:, :, 0], one_shot.rival(scores, trials.answer), axis=1)
            over, unit = "identities", dataset.label[np.stack([trials.query, rival], axis=2)]
        yield accuracy(each, one_shot.right(scores, trials.answer), subject.config.seed, over, unit)


def _within(subject, prefix="", part="test", **options):
    config = subject.config
    name = f"{prefix}{config.ways}way_1shot"
    yield from _trials(subject, name, part, one_shot.within_group, trials=config.trials, ways=config.ways, **options)


def _within_group(subject):
    yield from _within(subject, "within_alphabet_")


def _validation_within_group(subject):
    yield from _within(subject, "validation_within_alphabet_", "validation")


def _run_alphabets(subject):
    from siamjax.data.omniglot import RUN_ALPHABETS  # Imports TFDS, which takes a second.

    yield from _within(subject, "run_alphabets_", among=RUN_ALPHABETS)


def _koch_400_trials(subject):
    yield from _trials(subject, "koch_400_trials", "test", one_shot.within_group, trials=400, ways=20)


def _between_groups(subject):
    part = "few_shot" if "few_shot" in subject.datasets else "test"
    for ways in SOURCES[subject.data.name].ways:
        for shots in (1, 5):
            options = dict(trials=subject.config.trials, ways=ways, shots=shots)
            yield from _trials(subject, f"between_{ways}way_{shots}shot", part, one_shot.between_groups, **options)


def _identification(subject):
    for part in ("validation", "test"):
        if part not in subject.datasets:
            yield Skipped(f"identification_{part}", f"no {part} data")
            continue
        ways = drawn.possible_ways(subject.datasets[part], _MOST_WAYS)
        options = dict(trials=subject.config.trials, ways=ways, shots=1)
        yield from _trials(subject, f"identification_{part}_{ways}way_1shot", part, one_shot.between_groups, **options)


def _official_runs(subject):
    from siamjax.evaluation import official_runs  # Imports TFDS, which takes a second.

    data = subject.data
    cache = pathlib.Path(data.data_dir or "~/tensorflow_datasets").expanduser() / "downloads" / "omniglot"

    def load():
        images, trials = official_runs.load(official_runs.find(data.manual_dir, cache), data.size)
        return {"images": images, **vars(trials)}

    try:
        # All processes must agree on whether the archive was found.
        found = parallel.from_main(load)
    except (FileNotFoundError, ValueError) as error:
        yield Skipped("official_runs", str(error))  # Only this protocol needs the archive.
        return
    images, trials = found["images"], one_shot.Trials(found["support"], found["query"], found["answer"])
    embeddings = subject.network.embed(images, "embedding official runs")
    right = one_shot.right(subject.network.score_trials(embeddings, trials.query, trials.support), trials.answer)
    yield accuracy("official_runs", right, None, "runs", np.indices(right.shape)[0])


def _tutorial_20_pairs(subject):
    """A tutorial's protocol, weaker than 20-way one-shot: see `tutorial`."""
    dataset, seed = subject.datasets["test"], subject.config.seed
    try:
        # Units are of the same pair only: its most similar rival hardly ever meets it again.
        right, identity = tutorial.answers(subject.network, subject.embeddings["test"], dataset, seed=seed)
    except one_shot.TooFewImages as error:
        yield Skipped("tutorial_20_pairs", str(error))
        return
    yield accuracy("tutorial_20_pairs", right, seed, "identities", identity)


def _retrieval(subject):
    test = subject.datasets["test"]
    if one_shot.identities_of(test, 2):
        found = retrieval.per_query(subject.network.score_all, subject.embeddings["test"], test.label)
        yield from _per_query(subject, {name: found[name] for name in _RETRIEVAL}, "retrieval")


def _reidentification(subject):
    labels = {part: subject.datasets[part].label for part in subject.embeddings}
    found = reidentification.per_query(subject.network.score_all, subject.embeddings, labels)
    yield from _per_query(subject, found, "reidentification")


def _per_query(subject, found, table):
    label = subject.datasets["test"].label
    for name, values in found.items():
        interval, units = intervals.of_mean(values, label), len(np.unique(label))
        yield Measure(name, float(np.nanmean(values)), interval, len(label), None, "identities", units, table)


EVALUATORS: dict[str, Evaluator] = {
    "verification": _verification,
    "protocols": _protocols,
    "open_set": _open_set,
    "within_group": _within_group,
    "koch_400_trials": _koch_400_trials,
    "validation_within_group": _validation_within_group,
    "run_alphabets": _run_alphabets,
    "official_runs": _official_runs,
    "tutorial_20_pairs": _tutorial_20_pairs,
    "between_groups": _between_groups,
    "identification": _identification,
    "retrieval": _retrieval,
    "reidentification": _reidentification,
}
