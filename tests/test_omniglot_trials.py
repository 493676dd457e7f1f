"""The trials between official and random ones, of `benchmarks/omniglot_trials.py`, on made-up runs."""

import numpy as np
import pytest

from benchmarks import omniglot_trials
from siamjax.data.dataset import Dataset
from siamjax.evaluation import one_shot

OFFICIAL = {"first": (0, 3), "second": (2, 1)}  # the drawers of the run in each alphabet


@pytest.fixture(scope="module")
def dataset():
    """Two alphabets of 26 characters, by 5 drawers each, in random order."""
    character, drawer = np.indices((52, 5), np.int32).reshape(2, -1)[:, np.random.default_rng(1).permutation(260)]
    return Dataset(np.zeros((260, 2, 2, 1), np.uint8), character, character // 26, drawer, tuple(OFFICIAL))


def test_drawers_and_characters_are_replaced_one_at_a_time(dataset):
    image = np.empty((52, 5), np.int32)
    image[dataset.label, dataset.source] = np.arange(260)
    answer = np.stack([np.random.default_rng(run).permutation(20) for run in range(2)])
    shown = np.array([np.arange(20), 30 + np.arange(20)])
    drawers = np.array(list(OFFICIAL.values()))
    query = image[np.take_along_axis(shown, answer, axis=1), drawers[:, 1:]]
    official = one_shot.Trials(image[shown, drawers[:, :1]][..., None], query, answer)

    kinds = omniglot_trials.kinds_of_trials(dataset, official)
    assert kinds.pop("official runs") is official
    for name, trials in kinds.items():
        characters, known = "their characters" in name, "by their drawers" in name
        assert trials.query.shape == (50, 20), name
        for support, queries, places in zip(trials.support[..., 0], trials.query, trials.answer, strict=True):
            np.testing.assert_array_equal(dataset.label[support[places]], dataset.label[queries])
            assert len(set(support)) == 20 and set(places) == set(range(20))
            (first,), (second,), (group,) = (
                {*values} for values in (dataset.source[support], dataset.source[queries], dataset.group[support])
            )
            assert first != second
            assert not known or (first, second) == tuple(drawers[group])
            assert not characters or set(dataset.label[support]) == set(shown[group])
        met = {tuple(pair) for pair in dataset.source[np.stack([trials.support[:, 0, 0], trials.query[:, 0]], axis=1)]}
        assert (len(met) == 2) == known, name
        assert (len(set(dataset.label[trials.support].ravel())) == 40) == characters, name


def test_the_distance_is_of_the_ink_around_its_centre():
    """A bar of three points, moved; a bar across; a bar of five points, each next to a nearest point of the first."""
    images = np.zeros((4, 9, 9, 1), np.uint8)
    images[0, 1, 1:4] = images[1, 5, 4:7] = images[2, 3:6, 2] = images[3, 4, 2:7] = 255
    trials = one_shot.Trials(np.array([[[1], [2], [3]]]), np.array([[0]]), np.array([[0]]))
    scores = omniglot_trials.distance_scores(images, trials)
    # Across: 1, 0, 1 from the centre. Five points: 0 in one direction; 1, 0, 0, 0, 1 in the other.
    np.testing.assert_allclose(scores, [[[0, -2 / 3, -2 / 5]]], atol=1e-12)
