import numpy as np
import pytest

from siamjax.evaluation import verification


@pytest.mark.parametrize("seed", range(5))
def test_the_fitted_threshold_is_as_good_as_any(seed):
    rng = np.random.default_rng(seed)
    same = rng.uniform(size=60) < 0.4
    scores = np.round(rng.normal(size=60) + 1.2 * same, 1).astype(np.float32)  # Rounded: many ties.
    tried = [((scores > threshold) == same).mean() for threshold in np.arange(-6, 6, 0.05)]
    fitted = verification.fit_threshold(scores, same)
    assert ((scores > fitted) == same).mean() == max(tried)


def test_neighbouring_float32_scores_are_told_apart():
    low = np.float32(1.0)
    scores = np.array([low, np.nextafter(low, np.float32(2))], np.float32)
    fitted = verification.fit_threshold(scores, np.array([False, True]))
    np.testing.assert_array_equal(scores.astype(np.float64) > fitted, [False, True])


def test_a_constant_score_verifies_at_chance():
    same = np.arange(10) % 2 == 0
    fitted = verification.fit_threshold(np.zeros(10), same)
    assert ((np.zeros(10) > fitted) == same).mean() == 0.5


def test_pairs_to_verify_are_half_the_same_and_never_one_image_twice(drawn):
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
    assert "tar_at_far_0.001" not in got  # not one of 280 different pairs
    # As dense a curve as one likes, made of straight lines between the points.
    fine = np.linspace(0, 1, 200_001)
    misses = 1 - np.interp(fine, far[::-1], tar[::-1])
    np.testing.assert_allclose(got["eer"], fine[np.argmin(np.abs(misses - fine))], atol=2e-5)


def test_perfect_and_useless_scores():
    same = np.arange(20) % 2 == 0
    perfect = verification.measures(same.astype(float), same)
    assert (perfect["auc"], perfect["eer"], perfect["tar_at_far_0.1"]) == (1, 0, 1)
    useless = verification.measures(np.zeros(20), same)
    assert (useless["auc"], useless["eer"], useless["tar_at_far_0.1"]) == (0.5, 0.5, 0)


def test_calibrated_probabilities_are_the_shares_that_are_the_same():
    scores, same = scored_pairs(3, n=40_000)
    decision = verification.fit(1e4 * scores - 7e5, same)  # scores of any scale and zero
    probability = decision.probability(1e4 * scores - 7e5)
    for low in np.arange(0, 1, 0.2):
        inside = (probability >= low) & (probability < low + 0.2)
        np.testing.assert_allclose(probability[inside].mean(), same[inside].mean(), atol=0.03)
    assert (decision.same(1e4 * scores - 7e5) == same).mean() > 0.79
    np.testing.assert_array_equal(decision.same(scores), decision.probability(scores) > 0.5)


def test_answer_and_probability_agree_where_the_scores_are_no_logistic_ones():
    """Most same pairs far above, a few far below; different ones in between: a single curve would cross ½ elsewhere."""
    rng = np.random.default_rng(0)
    same = np.arange(4000) % 2 == 0
    scores = np.where(same, np.where(rng.random(4000) < 0.8, rng.normal(5, 0.3, 4000), rng.normal(-2, 2, 4000)), 0)
    scores = np.where(same, scores, rng.normal(-5, 2.5, 4000))
    decision = verification.fit(scores, same)
    probability = decision.probability(scores)
    np.testing.assert_array_equal(decision.same(scores), probability > 0.5)
    for side in (probability > 0.5, probability < 0.5):
        np.testing.assert_allclose(probability[side].mean(), same[side].mean(), atol=0.05)


def test_calibration_stays_finite_where_the_scores_tell_all_pairs_apart():
    same = np.arange(20) >= 10
    decision = verification.fit(np.arange(20.0), same)
    probability = decision.probability(np.arange(20.0))
    assert np.all(np.diff(probability) > 0) and 0.001 < probability[0] < 0.2 and 0.8 < probability[-1] < 0.999
    np.testing.assert_array_equal(decision.same(np.arange(20.0)), same)


def test_folds_are_judged_by_the_threshold_of_the_others():
    """Two folds with opposite thresholds: each is wrong by the other's."""
    scores, same = np.array([0.0, 1, 2, 3, 10, 11, 12, 13]), np.array([0, 0, 1, 1, 0, 0, 1, 1], bool)
    fold = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert verification.folds(scores, same, fold) == (0.5, 0.0)
    scores, same = scored_pairs(5)
    fold = np.arange(400) % 10
    accuracies = [
        ((scores[fold == f] > verification.fit_threshold(scores[fold != f], same[fold != f])) == same[fold == f]).mean()
        for f in range(10)
    ]
    mean, error = verification.folds(scores, same, fold)
    np.testing.assert_allclose((mean, error), (np.mean(accuracies), np.std(accuracies, ddof=1) / 10**0.5))


def test_pairs_of_one_kind_are_refused():
    with pytest.raises(ValueError, match="all 5 pairs are of same identities; verification needs pairs of both kinds"):
        verification.fit(np.arange(5), np.ones(5, bool))
    with pytest.raises(ValueError, match="all 5 pairs are of different identities"):
        verification.measures(np.arange(5), np.zeros(5, bool))
