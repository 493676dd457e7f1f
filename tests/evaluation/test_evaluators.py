"""All protocols on a network that is right about the test set only, so that mixed-up data sets show."""

import dataclasses

import ml_collections
import numpy as np
import pytest

from siamjax import evaluation
from siamjax.data.dataset import part_of
from siamjax.decision import Decision
from siamjax.evaluation import Measure, Skipped, Subject, evaluators, one_shot
from siamjax.evaluation import drawn as asked


class Oracle:
    """Embeddings are identities; equal ones score high, with an offset that differs between the data sets."""

    def score_pairs(self, embeddings, pairs):
        same = embeddings[pairs[:, 0], 0] == embeddings[pairs[:, 1], 0]
        return np.where(same, 1.0, -1.0).astype(np.float32) + embeddings[pairs[:, 0], 1]

    def score_trials(self, embeddings, query, support):
        query, support = embeddings[query, 0], embeddings[support, 0]
        return (query[:, :, None, None] == support[:, None]).mean(axis=3)


CONFIG = ml_collections.ConfigDict(
    dict(seed=0, ways=4, trials=80, validation_trials=40, pairs=200, across_groups=False)
)


@pytest.fixture
def datasets(drawn):
    return {"validation": drawn, "test": dataclasses.replace(drawn, label=drawn.label.copy())}


def subject(datasets, offsets, decision=None):
    """`offsets`: what is added to the scores of each data set."""
    embeddings = {
        part: np.stack([dataset.label.astype(np.float32), np.full(len(dataset), offsets[part], np.float32)], 1)
        for part, dataset in datasets.items()
    }
    pairs = asked.pairs(CONFIG, datasets)
    if decision is None:
        decision = asked.decision(Oracle(), datasets["validation"], embeddings["validation"], pairs["validation"])
    data = ml_collections.ConfigDict(dict(name="glyphs"))
    return Subject(Oracle(), decision, CONFIG, data, datasets, embeddings, pairs)


def outcomes(subject):
    return {one.name: one for one in evaluation.run(subject)}


def test_every_protocol_is_run_or_says_why_not(datasets):
    found = outcomes(subject(datasets, {"validation": 0.0, "test": 0.0}))
    right = [name for name, one in found.items() if isinstance(one, Measure) and one.table == "accuracy"]
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
    """Where validation scores are 5 higher, its threshold calls every test pair different: half of them rightly."""
    shifted = subject(datasets, {"validation": 5.0, "test": 0.0})
    assert outcomes(shifted)["verification"].value == 0.5
    pairs = evaluators.pair_scores(shifted)
    assert pairs.decision.same(pairs.scores + 5).tolist() == pairs.same.tolist()


def test_without_validation_data_pairs_are_judged_by_a_decision_that_is_given(datasets):
    del datasets["validation"]
    given = subject(datasets, {"test": 0.0}, Decision(threshold=2.0, slope=1.0, even=2.0))
    found = outcomes(given)
    assert found["verification"].value == 0.5 and not given.decision.same(evaluators.pair_scores(given).scores).any()
    assert found["validation_within_alphabet_4way_1shot"] == Skipped(
        "validation_within_alphabet_4way_1shot", "no validation data"
    )


def test_trials_between_groups_take_the_larger_set_where_there_is_one(datasets):
    datasets["few_shot"] = datasets["test"]
    judged = subject(datasets, {"validation": 0.0, "test": 0.0, "few_shot": 0.0})
    judged.embeddings["few_shot"][:, 0] = 0  # All alike: only ties.
    found = outcomes(judged)
    assert found["between_5way_1shot"].value == 0
    assert found["within_alphabet_4way_1shot"].value == 1


def test_a_part_that_is_too_small_is_named_with_a_remedy(drawn):
    single = part_of(drawn, np.unique(drawn.label, return_index=True)[1])
    with pytest.raises(
        one_shot.TooFewImages, match="the validation data is too small: 2-way .*found 0. .*folder.folds"
    ):
        asked.trials(CONFIG, single)
    with pytest.raises(
        ValueError, match="cannot draw pairs to verify from the test data: .* Give identities a second image"
    ):
        asked.pairs(CONFIG, {"validation": drawn, "test": single})
