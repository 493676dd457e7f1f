"""Comparisons that the data comes with: in one fold, over folds, and with several references."""

import dataclasses

import ml_collections
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from siamjax import evaluation
from siamjax.data import SOURCES, Source
from siamjax.data.dataset import Comparisons
from siamjax.decision import Decision
from siamjax.evaluation import Skipped, Subject, calibration, given
from siamjax.network import score_references


class Plain:
    """Scores are minus the distance of one-dimensional embeddings."""

    def score_pairs(self, embeddings, pairs):
        return -np.abs(embeddings[pairs[:, 0], 0] - embeddings[pairs[:, 1], 0])


DECISION = Decision(0.0, 1.0, even=-2.0, usual=-1.1)


def scored(embeddings, pairs):
    return score_references(Plain(), embeddings, pairs.references, pairs.query, DECISION)


def compared(dataset, folds, seed=0, references=1, count=200):
    """Comparisons of random images, half of them same; identities of fold f are f, f + folds, ..."""
    rng, rows = np.random.default_rng(seed), []
    while len(rows) < count * folds:
        fold, wanted = len(rows) % folds, len(rows) // folds % 2 == 0
        own = np.flatnonzero(dataset.label % folds == fold)
        query = rng.choice(own)
        label = rng.choice(dataset.label[own]) if not wanted else dataset.label[query]
        of_label = np.flatnonzero((dataset.label == label) & (np.arange(len(dataset)) != query))
        if wanted == (label == dataset.label[query]):
            rows.append((rng.choice(of_label, references), query, wanted, fold))
    first, query, same, fold = (np.array(column) for column in zip(*rows, strict=True))
    return Comparisons(first.astype(np.int32), query.astype(np.int32), same, fold.astype(np.int32))


@pytest.fixture
def judged(drawn, monkeypatch):
    """The outcomes for test and validation comparisons, and the embeddings; noise hides who is who."""
    evaluators = Source(lambda config, train: {}, lambda config: "own", lambda config: ("protocols",))
    monkeypatch.setitem(SOURCES, "own", evaluators)
    noise = np.random.default_rng(0).normal(0, 1, len(drawn))
    embeddings = (drawn.label + noise)[:, None]

    def judge(**of_parts):
        datasets = {part: dataclasses.replace(drawn, protocols=given) for part, given in of_parts.items()}
        data = ml_collections.ConfigDict(dict(name="own"))
        scored = dict.fromkeys(datasets, embeddings)
        subject = Subject(Plain(), DECISION, ml_collections.ConfigDict(), data, datasets, scored, {})
        return {outcome.name: outcome for outcome in evaluation.run(subject)}

    return judge, embeddings


def test_each_fold_is_judged_by_the_threshold_of_the_others(drawn, judged):
    judge, embeddings = judged
    pairs = compared(drawn, folds=3)
    found = judge(test={"mine": pairs})
    scores = -np.abs(embeddings[pairs.references[:, 0], 0] - embeddings[pairs.query, 0])
    accuracies, areas = [], []
    for fold in range(3):
        held_out = pairs.fold == fold
        threshold = calibration.fit_threshold(scores[~held_out], pairs.same[~held_out])
        accuracies.append(np.mean((scores[held_out] > threshold) == pairs.same[held_out]))
        areas.append(roc_auc_score(pairs.same[held_out], scores[held_out]))
    assert found["mine"].value == pytest.approx(np.mean(accuracies)) and 0.6 < found["mine"].value < 0.98
    assert found["mine_deviation"].value == pytest.approx(np.std(accuracies, ddof=1))
    assert found["mine_auc"].value == pytest.approx(np.mean(areas))
    assert (found["mine"].over, found["mine"].units, found["mine"].trials) == ("folds", 3, 600)
    low, high = found["mine_eer"].interval
    assert low < found["mine_eer"].value < high


def test_one_fold_takes_its_threshold_from_the_validation_comparisons(drawn, judged):
    judge, embeddings = judged
    test, validation = (
        dataclasses.replace(pairs, fold=np.full_like(pairs.fold, fold))
        for fold, pairs in enumerate((compared(drawn, folds=1), compared(drawn, folds=1, seed=1)))
    )
    found = judge(test={"mine": test}, validation={"mine": validation})
    scores, fitted = (scored(embeddings, pairs).astype(np.float64) for pairs in (test, validation))
    threshold = calibration.fit_threshold(fitted, validation.same)
    assert found["mine"].value == pytest.approx(np.mean((scores > threshold) == test.same))
    assert found["mine"].over == "identities" and "mine_deviation" not in found
    alone = judge(test={"mine": test})
    assert isinstance(alone["mine"], Skipped) and "no validation data" in alone["mine"].reason


def test_several_references_tell_more(drawn, judged):
    judge, _ = judged
    five = compared(drawn, folds=3, references=5)
    found = judge(test={"one": compared(drawn, folds=3), "five": five})
    assert found["five_auc"].value > found["one_auc"].value


def test_intervals_are_over_groups_where_comparisons_stay_within_them(drawn):
    """A signer's forgeries are no person of their own."""
    pairs = compared(drawn, folds=1)
    unit, over = given.units(drawn, np.stack([pairs.references[:, 0], pairs.query], axis=1))
    assert over == "identities"
    np.testing.assert_array_equal(unit, drawn.label)
    inside = drawn.group[pairs.references[:, 0]] == drawn.group[pairs.query]
    kept = Comparisons(*(getattr(pairs, field.name)[inside] for field in dataclasses.fields(pairs)))
    unit, over = given.units(drawn, np.stack([kept.references[:, 0], kept.query], axis=1))
    assert over == "groups" and len(kept.same) > 100
    np.testing.assert_array_equal(unit, drawn.group)
