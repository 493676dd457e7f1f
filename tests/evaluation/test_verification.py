import numpy as np
import pytest

from siamjax.evaluation import result, verification


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


def test_the_interval_is_wilsons():
    right = np.arange(400) < 368
    z, p, n = 1.959963984540054, 0.92, 400
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    got = result.of(right, seed=3)
    np.testing.assert_allclose(got.ci95, (middle - half, middle + half), rtol=1e-9)
    assert (got.accuracy, got.trials, got.seed) == (0.92, 400, 3)
