"""All protocols with an oracle whose scores are offset per data set, so that mixed-up data sets are detected."""

import dataclasses

import ml_collections
import numpy as np
import pytest

from siamjax import evaluation
from siamjax.data.dataset import part_of
from siamjax.decision import Decision
from siamjax.evaluation import Measure, Skipped, Subject, evaluators, one_shot
from siamjax.evaluation import drawn as draws


class Oracle:
    """Embeddings are (identity, offset of the data set); scores are 1 (same identity) or -1, plus the offset."""

    def score_pairs(self, embeddings, pairs):
        same = embeddings[pairs[:, 0], 0] == embeddings[pairs[:, 1], 0]
        return np.where(same, 1.0, -1.0).astype(np.float32) + embeddings[pairs[:, 0], 1]

    def score_trials(self, embeddings, query, support, prototypes=False):
        query, support = embeddings[query, 0], embeddings[support, 0]
        return (query[:, :, None, None] == support[:, None]).mean(axis=3)


CONFIG = ml_collections.ConfigDict(
    dict(seed=0, ways=4, trials=80, validation_trials=40, pairs=200, across_groups=False)
)


@pytest.fixture
def datasets(drawn):
    return {"validation": drawn, "test": dataclasses.replace(drawn, label=drawn.label.copy())}


def subject(datasets, offsets, decision=None):
    """A subject whose scores are shifted by `offsets` for each data set."""
    embeddings = {
        part: np.stack([dataset.label.astype(np.float32), np.full(len(dataset), offsets[part], np.float32)], 1)
        for part, dataset in datasets.items()
    }
    pairs = draws.pairs(CONFIG, datasets)
    if decision is None:
        decision = draws.decision(Oracle(), datasets["validation"], embeddings["validation"], pairs["validation"])
    data = ml_collections.ConfigDict(dict(name="glyphs"))
    return Subject(Oracle(), decision, CONFIG, data, datasets, embeddings, pairs)


def outcomes(subject):
    return {outcome.name: outcome for outcome in evaluation.run(subject)}


def test_every_protocol_is_run_or_skipped_with_a_reason(datasets):
    found = outcomes(subject(datasets, {"validation": 0.0, "test": 0.0}))
    right = [name for name, row in found.items() if isinstance(row, Measure) and row.table == "accuracy"]
    assert right == [
        "verification",
        "within_alphabet_4way_1shot",
        "validation_within_alphabet_4way_1shot",
        "between_5way_1shot",
    ]
    assert all(found[name].value == 1 for name in right)
    assert [(found[name].over, found[name].units) for name in right[1::2]] == [
        ("alphabets", 3),
        ("identities", len(np.unique(datasets["test"].label))),
    ]
    assert "20-way trials within a group need 20" in found["koch_400_trials"].reason
    assert "20-way 5-shot trials need 20 identities with at least 6 images each" in found["between_20way_5shot"].reason


def test_the_threshold_comes_from_the_validation_pairs(datasets):
    """With validation scores 5 higher, its threshold judges every test pair different; half of them are."""
    shifted = subject(datasets, {"validation": 5.0, "test": 0.0})
    assert outcomes(shifted)["verification"].value == 0.5
    pairs = evaluators.pair_scores(shifted)
    assert pairs.decision.same(pairs.scores + 5).tolist() == pairs.same.tolist()


def test_without_validation_data_the_given_decision_judges_pairs(datasets):
    del datasets["validation"]
    given = subject(datasets, {"test": 0.0}, Decision(threshold=2.0, slope=1.0, even=2.0))
    found = outcomes(given)
    assert found["verification"].value == 0.5 and not given.decision.same(evaluators.pair_scores(given).scores).any()
    assert found["validation_within_alphabet_4way_1shot"] == Skipped(
        "validation_within_alphabet_4way_1shot", "no validation data"
    )


def test_identification_without_validation_data_is_of_the_test_data_alone(datasets):
    del datasets["validation"]
    judged = subject(datasets, {"test": 0.0}, Decision(threshold=0.0, slope=1.0, even=0.0))
    skipped, found = evaluation.EVALUATORS["identification"](judged)
    assert skipped == Skipped("identification_validation", "no validation data")
    assert found.name.startswith("identification_test") and found.value == 1


def test_trials_between_groups_use_the_few_shot_data_if_there_is_any(datasets):
    datasets["few_shot"] = datasets["test"]
    judged = subject(datasets, {"validation": 0.0, "test": 0.0, "few_shot": 0.0})
    judged.embeddings["few_shot"][:, 0] = 0  # Equal embeddings give only ties.
    found = outcomes(judged)
    assert found["between_5way_1shot"].value == 0
    assert found["within_alphabet_4way_1shot"].value == 1


def test_several_shots_are_judged_by_prototypes_too(datasets):
    datasets["few_shot"] = part_of(datasets["test"], np.tile(np.arange(len(datasets["test"])), 2))
    judged = subject(datasets, {"validation": 0.0, "test": 0.0, "few_shot": 0.0})
    found = outcomes(judged)
    for name in ("between_5way_5shot", "between_5way_5shot_prototypes"):
        assert (found[name].value, found[name].trials, found[name].over) == (1, 80, "identities")
    assert "between_5way_1shot_prototypes" not in found and "between_20way_5shot_prototypes" not in found


def test_a_part_that_is_too_small_is_named_with_a_remedy(drawn):
    single = part_of(drawn, np.unique(drawn.label, return_index=True)[1])
    with pytest.raises(
        one_shot.TooFewImages, match="the validation data is too small: 2-way .*found 0. .*folder.folds"
    ):
        draws.trials(CONFIG, single)
    with pytest.raises(
        ValueError, match="cannot draw pairs to verify from the test data: .* Give identities a second image"
    ):
        draws.pairs(CONFIG, {"validation": drawn, "test": single})
