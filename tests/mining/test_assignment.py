"""Pairs by linear assignment: hard, all different, and never of the same identity."""

import itertools

import numpy as np
import pytest

from siamjax.mining import assignment

LABELS = np.array([0, 1, 0, 2, 1, 0, 3, 2, 4, 4, 4, 5])


def rng():
    return np.random.default_rng(3)


def test_a_derangement_gives_each_image_another_of_its_identity_and_each_is_given_once():
    for seed in range(20):
        partner = assignment.derangement(LABELS, np.random.default_rng(seed))
        np.testing.assert_array_equal(LABELS[partner], LABELS)
        np.testing.assert_array_equal(np.sort(partner), np.arange(12))
        alone = partner == np.arange(12)
        np.testing.assert_array_equal(alone, np.isin(LABELS, (3, 5)))
    seen = {tuple(assignment.derangement(np.zeros(3, int), np.random.default_rng(seed))) for seed in range(20)}
    assert seen == {(1, 2, 0), (2, 0, 1)}


def score_of(scores):
    return lambda rows, columns: scores[np.ix_(rows, columns)]


def test_a_round_is_the_hardest_way_to_give_each_image_its_own_negative():
    labels = np.array([0, 1, 0, 2, 3, 2])
    scores = np.random.default_rng(0).normal(size=(6, 6))
    (found,) = assignment.hard_negatives(score_of(scores), labels, rng(), rounds=1, noise=0, block=100)
    allowed = [
        order for order in itertools.permutations(range(6)) if all(labels[i] != labels[j] for i, j in enumerate(order))
    ]
    best = max(allowed, key=lambda order: scores[range(6), list(order)].sum())
    np.testing.assert_array_equal(found, best)


def test_rounds_do_not_repeat_a_pair_and_blocks_are_separate():
    labels = np.arange(40) // 2
    scores = np.random.default_rng(0).normal(size=(40, 40))
    blocks = []

    def score(rows, columns):
        np.testing.assert_array_equal(rows, columns)
        blocks.append(rows)
        return scores[np.ix_(rows, columns)]

    found = assignment.hard_negatives(score, labels, rng(), rounds=6, noise=0, block=10)
    assert [len(rows) for rows in blocks] == [10] * 4 and len(set(np.concatenate(blocks))) == 40
    assert all(len(set(found[:, image])) == 6 for image in range(40))
    assert np.all(labels[found] != labels)
    for rows in blocks:
        assert set(found[:, rows].ravel()) == set(rows)


def test_large_noise_makes_the_choice_random():
    labels = np.arange(30)
    scores = np.zeros((30, 30))
    scores[:, ::-1] += 5 * np.eye(30)  # the hardest of image i is 29 - i

    def share(noise):
        (found,) = assignment.hard_negatives(score_of(scores), labels, rng(), rounds=1, noise=noise, block=100)
        return np.mean(found == 29 - np.arange(30))

    assert share(0.1) == 1 and share(1000.0) < 0.2


def test_an_identity_with_most_of_the_images_still_gets_negatives():
    labels = np.array([0] * 20 + [1, 2])
    scores = np.zeros((22, 22))
    found = assignment.hard_negatives(score_of(scores), labels, rng(), rounds=3, noise=1, block=8)
    assert np.all(labels[found] != labels)
    with pytest.raises(ValueError, match="all images are of one identity"):
        assignment.hard_negatives(score_of(scores), np.zeros(22, int), rng(), rounds=1, noise=1, block=8)


def test_batches_use_every_image_and_have_as_many_same_pairs_as_different_ones():
    partners = assignment.derangement(LABELS, rng())
    (negatives,) = assignment.hard_negatives(score_of(np.zeros((12, 12))), LABELS, rng(), rounds=1, noise=1, block=99)
    items = assignment.pairs(partners, negatives, 8, rng())
    assert items.shape == (3, 16) and items.dtype == np.int32
    first, second = items[:, :8], items[:, 8:]
    same = LABELS[first] == LABELS[second]
    np.testing.assert_array_equal(same, np.tile([True] * 4 + [False] * 4, (3, 1)))
    assert np.all(first != second)
    assert set(first[~same]) == set(range(12)) and set(first[same]) == set(np.flatnonzero(~np.isin(LABELS, (3, 5))))
    np.testing.assert_array_equal(second[~same], negatives[first[~same]])
    with pytest.raises(ValueError, match="no identity has two images"):
        assignment.pairs(np.arange(12), negatives, 8, rng())
