import collections
import tracemalloc

import numpy as np
import pytest

from siamjax.data.dataset import Dataset
from siamjax.evaluation import one_shot


def test_within_group_trials_follow_kochs_protocol(drawn):
    trials = one_shot.within_group(drawn, trials=160, ways=4, seed=0)
    assert trials.support.shape == (40, 4, 1) and trials.query.shape == trials.answer.shape == (40, 4)
    met = collections.Counter()
    for support, query, answer in zip(trials.support[..., 0], trials.query, trials.answer, strict=True):
        assert len(set(drawn.group[support]) | set(drawn.group[query])) == 1
        first, second = set(drawn.source[support]), set(drawn.source[query])
        assert len(first) == len(second) == 1 and first != second
        assert len(set(drawn.label[support])) == 4
        np.testing.assert_array_equal(drawn.label[support[answer]], drawn.label[query])
        met[int(drawn.group[support[0]])] += 1
    assert max(met.values()) - min(met.values()) <= 1 and set(met) == {0, 1, 2}
    places = np.bincount(trials.answer[:, 0], minlength=4)
    assert places.min() >= 3  # The position of the answer is random.


def test_alphabets_with_too_few_characters_are_ignored(drawn):
    trials = one_shot.within_group(drawn, trials=60, ways=6, seed=0)
    assert set(drawn.group[trials.support.ravel()]) == {0, 2}
    with pytest.raises(one_shot.TooFewImages, match="9-way"):
        one_shot.within_group(drawn, trials=90, ways=9, seed=0)


@pytest.mark.parametrize("shots", [1, 3])
def test_between_groups_trials(drawn, shots):
    trials = one_shot.between_groups(drawn, trials=200, ways=5, shots=shots, seed=0)
    assert trials.support.shape == (200, 5, shots)
    crossed = 0
    for support, query, answer in zip(trials.support, trials.query[:, 0], trials.answer[:, 0], strict=True):
        labels = drawn.label[support]
        assert all(len(set(row)) == 1 for row in labels) and len(set(labels[:, 0])) == 5
        assert len(set(support.ravel())) == 5 * shots
        assert drawn.label[query] == labels[answer, 0] and query not in support
        crossed += len(set(drawn.group[support[:, 0]])) > 1
    assert crossed > 150
    assert np.bincount(trials.answer[:, 0], minlength=5).min() > 20
    with pytest.raises(one_shot.TooFewImages):
        one_shot.between_groups(drawn, trials=1, ways=15, shots=4, seed=0)


@pytest.mark.parametrize("ends", [[3] * 60_000, [3, 5] * 30_000])
def test_every_choice_and_order_is_as_likely_as_another(ends):
    drawn = one_shot._distinct(np.random.default_rng(0), np.array(ends), 2)
    for end in set(ends):
        rows = drawn[np.array(ends) == end]
        found, counts = np.unique(rows, axis=0, return_counts=True)
        assert found.tolist() == [[a, b] for a in range(end) for b in range(end) if a != b]
        expected = len(rows) / len(found)
        assert abs(counts - expected).max() < 5 * expected**0.5


def test_ties_and_nan_are_wrong_and_a_clear_best_is_right():
    answer = np.array([[0, 2]])
    assert not one_shot.right(np.zeros((1, 2, 3)), answer).any()
    assert not one_shot.right(np.full((1, 2, 3), np.nan), answer).any()
    scores = np.array([[[1.0, 0.5, 1.0], [0.0, 0.5, 0.6]]])
    np.testing.assert_array_equal(one_shot.right(scores, answer), [[False, True]])
    scores = np.array([[[1.0, 0.5, np.nan], [0.0, np.nan, 9.0]]])
    assert not one_shot.right(scores, answer).any()


def test_the_same_seed_draws_the_same_trials(drawn):
    first, again, other = (one_shot.within_group(drawn, trials=40, ways=4, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.query, again.query)
    assert (first.query != other.query).any()


def test_trials_can_be_taken_from_some_groups_only(drawn):
    trials = one_shot.within_group(drawn, trials=80, ways=4, seed=0, among=("a", "c"))
    assert set(drawn.group[trials.support].ravel()) == {0, 2}
    with pytest.raises(one_shot.TooFewImages):
        one_shot.within_group(drawn, trials=80, ways=4, seed=0, among=("nowhere",))


def test_as_many_sources_as_images_need_little_memory():
    number = np.arange(100_000, dtype=np.int32)
    images = np.broadcast_to(np.zeros(1, np.uint8), (100_000, 1, 1, 1))
    lone = Dataset(images, number % 10, 0 * number, number, ("digits",))
    with pytest.raises(one_shot.TooFewImages):
        one_shot.within_group(lone, trials=20, ways=5, seed=0)


def test_memory_does_not_grow_with_identities_times_images():
    """In a folder, each image is a source of its own."""
    n = 20_000
    label, images = np.arange(n, dtype=np.int32) // 2, np.zeros((n, 1, 1, 1), np.uint8)
    dataset = Dataset(images, label, np.zeros(n, np.int32), np.arange(n, dtype=np.int32), ("all",))
    tracemalloc.start()
    with pytest.raises(one_shot.TooFewImages):
        one_shot.within_group(dataset, trials=40, ways=20, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
