"""All protocols on a scorer that is right about the test set only, so that mixed-up data sets show."""

import dataclasses

import ml_collections
import numpy as np
import pytest

from siamjax.data.dataset import part_of
from siamjax.evaluation import one_shot, protocols
from siamjax.evaluation.decision import Decision


class Oracle:
    """Embeddings are identities; equal ones score high, with an offset that differs between the data sets."""

    def score_pairs(self, embeddings, pairs):
        same = embeddings[pairs[:, 0], 0] == embeddings[pairs[:, 1], 0]
        return np.where(same, 1.0, -1.0).astype(np.float32) + embeddings[pairs[:, 0], 1]

    def score_trials(self, embeddings, trials):
        query, support = embeddings[trials.query, 0], embeddings[trials.support, 0]
        return (query[:, :, None, None] == support[:, None]).mean(axis=3)


def config(**changed):
    settings = dict(seed=0, ways=4, trials=80, validation_trials=40, pairs=200, across_groups=False)
    return ml_collections.ConfigDict(dict(evaluation={**settings, **changed}, data=dict(name="glyphs")))


@pytest.fixture
def datasets(drawn):
    return {"validation": drawn, "test": dataclasses.replace(drawn, label=drawn.label.copy())}


def embeddings_of(datasets, offsets):
    return {
        part: np.stack([dataset.label.astype(np.float32), np.full(len(dataset), offsets[part], np.float32)], 1)
        for part, dataset in datasets.items()
    }


def test_every_protocol_is_run_or_says_why_not(datasets):
    embeddings = embeddings_of(datasets, {"validation": 0.0, "test": 0.0})
    outcomes = dict(protocols.run(config(), datasets, embeddings, Oracle()))
    right = [name for name, outcome in outcomes.items() if not isinstance(outcome, str)]
    assert right == [
        "within_alphabet_4way_1shot",
        "validation_within_alphabet_4way_1shot",
        "between_5way_1shot",
    ]
    assert all(outcomes[name].accuracy == 1 for name in right)
    assert [(outcomes[name].over, outcomes[name].units) for name in right[::2]] == [
        ("alphabets", 3),
        ("identities", len(np.unique(datasets["test"].label))),
    ]
    assert "20-way trials within a group need 20" in outcomes["koch_400_trials"]
    assert "20-way 5-shot trials need 20 identities with at least 6 images each" in outcomes["between_20way_5shot"]


def test_the_threshold_comes_from_the_validation_pairs(datasets):
    """Where validation scores lie 5 higher, its threshold calls every test pair different: half of them rightly."""
    embeddings = embeddings_of(datasets, {"validation": 5.0, "test": 0.0})
    verified = protocols.verify(config().evaluation, datasets, embeddings, Oracle())
    assert (verified.decision.same(verified.scores) == verified.same).mean() == 0.5
    assert verified.decision.same(verified.scores + 5).tolist() == verified.same.tolist()


def test_without_validation_data_pairs_are_judged_by_a_decision_that_is_given(datasets):
    del datasets["validation"]
    embeddings = embeddings_of(datasets, {"test": 0.0})
    given = Decision(threshold=2.0, slope=1.0, even=2.0)
    verified = protocols.verify(config().evaluation, datasets, embeddings, Oracle(), given)
    assert verified.decision is given and not verified.decision.same(verified.scores).any()
    outcomes = dict(protocols.run(config(), datasets, embeddings, Oracle()))
    assert outcomes["validation_within_alphabet_4way_1shot"] == "there is no validation data"


def test_trials_between_groups_take_the_larger_set_where_there_is_one(datasets):
    datasets["few_shot"] = datasets["test"]
    embeddings = embeddings_of(datasets, {"validation": 0.0, "test": 0.0, "few_shot": 0.0})
    embeddings["few_shot"][:, 0] = 0  # All alike: only ties.
    outcomes = dict(protocols.run(config(), datasets, embeddings, Oracle()))
    assert outcomes["between_5way_1shot"].accuracy == 0
    assert outcomes["within_alphabet_4way_1shot"].accuracy == 1


def test_a_part_that_is_too_small_is_named_with_a_remedy(drawn):
    single = part_of(drawn, np.unique(drawn.label, return_index=True)[1])
    with pytest.raises(
        one_shot.TooFewImages, match="the validation data is too small: 2-way .*found 0. .*folder.folds"
    ):
        protocols.validation_trials(config().evaluation, single)
    with pytest.raises(ValueError, match="no pairs of the test data to verify: .* Give identities a second image"):
        protocols.draw_pairs(config().evaluation, {"validation": drawn, "test": single})
