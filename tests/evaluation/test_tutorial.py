"""The tutorial's trials: what is drawn, and which of them count as right with scores made by hand."""

import dataclasses

import ml_collections
import numpy as np
import pytest

from siamjax.data.dataset import Dataset, part_of
from siamjax.decision import Decision
from siamjax.evaluation import EVALUATORS, Skipped, Subject, one_shot, tutorial


@pytest.fixture(scope="module")
def alphabets():
    """20 alphabets of 5 characters, each drawn once by 6 drawers, in random order."""
    character, drawer = np.indices((100, 6), np.int32).reshape(2, -1)[:, np.random.default_rng(3).permutation(600)]
    images = np.zeros((600, 2, 2, 1), np.uint8)
    return Dataset(images, character, character // 5, drawer, tuple(f"alphabet {number}" for number in range(20)))


class Scores:
    """A network whose score of a pair is `of(first label, second label, number of the pair)`; embeddings are labels."""

    def __init__(self, of):
        self.of = of

    def score_pairs(self, embeddings, pairs):
        return self.of(*embeddings[pairs, 0].T, np.arange(len(pairs))).astype(np.float32)


def measured(dataset, of):
    config = ml_collections.ConfigDict({"seed": 4})
    embeddings = {"test": dataset.label[:, None].astype(np.float32)}
    data = ml_collections.ConfigDict({"name": "omniglot"})
    subject = Subject(Scores(of), Decision(0.0, 1.0, 0.0), config, data, {"test": dataset}, embeddings, {})
    [outcome] = EVALUATORS["tutorial_20_pairs"](subject)
    return outcome


def test_each_trial_has_one_same_pair_by_two_drawers_and_19_pairs_of_two_characters(alphabets):
    pairs, answer = tutorial.trials(alphabets, seed=0)
    assert pairs.shape == (352, 20, 2) and pairs.dtype == np.int32
    label, drawer, alphabet = alphabets.label[pairs], alphabets.source[pairs], alphabets.group[pairs]
    same = label[..., 0] == label[..., 1]
    np.testing.assert_array_equal(same, np.arange(20) == answer[:, None])
    assert (drawer[same][:, 0] != drawer[same][:, 1]).all()
    # Different pairs are of any drawers, and of any two of the 20 alphabets: 1 in 25 of a single one.
    assert 0.12 < np.mean(drawer[~same][:, 0] == drawer[~same][:, 1]) < 0.22
    assert 0.03 < np.mean(alphabet[~same][:, 0] == alphabet[~same][:, 1]) < 0.06
    for kind in (same, ~same):
        assert set(alphabet[kind].ravel()) == set(range(20))
    assert set(drawer[same].ravel()) == set(range(6)) and set(answer) == set(range(20))
    # The pairs of a trial do not share a query.
    assert np.mean([len(set(trial[:, 0])) for trial in pairs]) > 19


def test_the_seed_alone_decides_what_is_drawn(alphabets):
    first, again, other = (tutorial.trials(alphabets, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any() and (first[1] != other[1]).any()


def test_a_trial_is_right_only_if_its_same_pair_alone_scores_highest(alphabets):
    _, answer = tutorial.trials(alphabets, seed=4)

    def known(first, second, number):
        return first == second

    def tied(first, second, number):
        """In the first 100 trials all pairs score alike, in the next 100 one other pair as high as the same pair."""
        trial, place = np.divmod(number, 20)
        rival = (trial >= 100) & (trial < 200) & (place == (answer[trial] + 1) % 20)
        return np.where(trial < 100, 1, (first == second) | rival)

    found = measured(alphabets, known)
    assert (found.name, found.value, found.trials, found.seed) == ("tutorial_20_pairs", 1.0, 352, 4)
    assert measured(alphabets, lambda first, second, number: first != second).value == 0
    some = measured(alphabets, tied)
    assert some.value == 152 / 352 and some.interval[0] < some.value < some.interval[1]
    assert some.over == "identities" and 60 < some.units <= 100


def test_scores_are_compared_across_queries(alphabets):
    """An offset that depends on the query changes no ranking of candidates of one query, but it does change these."""

    def offset_by_query(first, second, number):
        return 0.5 * (first == second) + first

    assert measured(alphabets, offset_by_query).value < 0.2


def test_identities_with_one_drawer_are_only_in_different_pairs(alphabets):
    one = alphabets.group != 0
    single = part_of(alphabets, np.flatnonzero(~one | (alphabets.source == 2)))
    pairs, answer = tutorial.trials(single, seed=0)
    assert set(single.group[pairs[np.arange(352), answer]].ravel()) == {0}
    alone = dataclasses.replace(single, source=np.zeros_like(single.source))
    with pytest.raises(one_shot.TooFewImages, match="found 100 identities, 0 of them with two sources"):
        tutorial.trials(alone, seed=0)
    outcome = measured(alone, lambda first, second, number: first == second)
    assert isinstance(outcome, Skipped) and outcome.name == "tutorial_20_pairs"
