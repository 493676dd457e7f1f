import numpy as np
import pytest

from siamjax.evaluation import calibration, verification


def test_half_of_the_pairs_are_same_pairs_and_none_is_of_one_image(drawn):
    pairs, same = verification.draw_pairs(drawn, pairs=300, across_groups=False, seed=2)
    assert same.sum() == 150
    assert (pairs[:, 0] != pairs[:, 1]).all()
    np.testing.assert_array_equal(drawn.label[pairs[:, 0]] == drawn.label[pairs[:, 1]], same)
    np.testing.assert_array_equal(drawn.group[pairs[:, 0]], drawn.group[pairs[:, 1]])


def scored_pairs(seed, n=400, apart=1.5):
    rng = np.random.default_rng(seed)
    same = rng.uniform(size=n) < 0.3
    return np.round(rng.normal(size=n) + apart * same, 1), same


@pytest.mark.parametrize("seed", range(3))
def test_measures_equal_their_definitions(seed):
    """Every threshold is tried; the area is the share of (same, different) pairs in the right order, ties half."""
    scores, same = scored_pairs(seed)
    got = verification.measures(scores, same)
    order = np.sign(scores[same][:, None] - scores[~same][None])
    np.testing.assert_allclose(got["auc"], ((order + 1) / 2).mean())
    thresholds = [-np.inf, *np.unique(scores)]
    far = np.array([(scores[~same] > threshold).mean() for threshold in thresholds])
    tar = np.array([(scores[same] > threshold).mean() for threshold in thresholds])
    assert got["tar_at_far_0.1"] == tar[far <= 0.1].max()
    assert got["tar_at_far_0.01"] == tar[far <= 0.01].max()
    assert "tar_at_far_0.001" not in got  # less than one of 280 different pairs
    # A dense curve, interpolated linearly between the points.
    fine = np.linspace(0, 1, 200_001)
    misses = 1 - np.interp(fine, far[::-1], tar[::-1])
    np.testing.assert_allclose(got["eer"], fine[np.argmin(np.abs(misses - fine))], atol=2e-5)


def test_perfect_and_useless_scores():
    same = np.arange(20) % 2 == 0
    perfect = verification.measures(same.astype(float), same)
    assert (perfect["auc"], perfect["eer"], perfect["tar_at_far_0.1"]) == (1, 0, 1)
    useless = verification.measures(np.zeros(20), same)
    assert (useless["auc"], useless["eer"], useless["tar_at_far_0.1"]) == (0.5, 0.5, 0)


def test_folds_use_the_threshold_of_the_other_folds():
    """Two folds with opposite thresholds: each is all wrong with the threshold of the other."""
    scores, same = np.array([0.0, 1, 2, 3, 10, 11, 12, 13]), np.array([0, 0, 1, 1, 0, 0, 1, 1], bool)
    fold = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert verification.folds(scores, same, fold) == (0.5, 0.0)
    scores, same = scored_pairs(5)
    fold = np.arange(400) % 10
    accuracies = [
        ((scores[fold == f] > calibration.fit_threshold(scores[fold != f], same[fold != f])) == same[fold == f]).mean()
        for f in range(10)
    ]
    mean, error = verification.folds(scores, same, fold)
    np.testing.assert_allclose((mean, error), (np.mean(accuracies), np.std(accuracies, ddof=1) / 10**0.5))


def test_pairs_of_one_kind_are_refused():
    with pytest.raises(
        ValueError, match="all 5 pairs are same pairs; verification needs both same and different pairs"
    ):
        calibration.fit(np.arange(5), np.ones(5, bool))
    with pytest.raises(ValueError, match="all 5 pairs are different pairs"):
        verification.measures(np.arange(5), np.zeros(5, bool))
