import dataclasses
import json

import numpy as np
import pytest

from siamjax.decision import Decision
from siamjax.evaluation import calibration


@pytest.mark.parametrize("seed", range(5))
def test_the_fitted_threshold_is_as_good_as_any(seed):
    rng = np.random.default_rng(seed)
    same = rng.uniform(size=60) < 0.4
    scores = np.round(rng.normal(size=60) + 1.2 * same, 1).astype(np.float32)  # Rounding gives many ties.
    accuracies = [((scores > threshold) == same).mean() for threshold in np.arange(-6, 6, 0.05)]
    fitted = calibration.fit_threshold(scores, same)
    assert ((scores > fitted) == same).mean() == max(accuracies)


def test_neighbouring_float32_scores_are_separated():
    low = np.float32(1.0)
    scores = np.array([low, np.nextafter(low, np.float32(2))], np.float32)
    fitted = calibration.fit_threshold(scores, np.array([False, True]))
    np.testing.assert_array_equal(scores.astype(np.float64) > fitted, [False, True])


def test_a_constant_score_verifies_at_chance():
    same = np.arange(10) % 2 == 0
    fitted = calibration.fit_threshold(np.zeros(10), same)
    assert ((np.zeros(10) > fitted) == same).mean() == 0.5


def scored_pairs(seed, n=400, apart=1.5):
    rng = np.random.default_rng(seed)
    same = rng.uniform(size=n) < 0.3
    return np.round(rng.normal(size=n) + apart * same, 1), same


def test_calibrated_probabilities_match_the_share_of_same_pairs():
    scores, same = scored_pairs(3, n=40_000)
    decision = calibration.fit(1e4 * scores - 7e5, same)  # any scale and offset of scores
    probability = decision.probability(1e4 * scores - 7e5)
    for low in np.arange(0, 1, 0.2):
        inside = (probability >= low) & (probability < low + 0.2)
        np.testing.assert_allclose(probability[inside].mean(), same[inside].mean(), atol=0.03)
    assert (decision.same(1e4 * scores - 7e5) == same).mean() > 0.79
    np.testing.assert_array_equal(decision.same(scores), decision.probability(scores) > 0.5)


def test_answer_and_probability_agree_on_scores_that_are_not_logistic():
    """Most same pairs score far above different ones, some far below."""
    rng = np.random.default_rng(0)
    same = np.arange(4000) % 2 == 0
    scores = np.where(rng.random(4000) < 0.8, rng.normal(5, 0.3, 4000), rng.normal(-2, 2, 4000))
    scores = np.where(same, scores, rng.normal(-5, 2.5, 4000))
    decision = calibration.fit(scores, same)
    probability = decision.probability(scores)
    np.testing.assert_array_equal(decision.same(scores), probability > 0.5)
    for side in (probability > 0.5, probability < 0.5):
        np.testing.assert_allclose(probability[side].mean(), same[side].mean(), atol=0.1)


def test_calibration_stays_finite_if_scores_separate_all_pairs():
    same = np.arange(20) >= 10
    decision = calibration.fit(np.arange(20.0), same)
    probability = decision.probability(np.arange(20.0))
    assert np.all(np.diff(probability) >= 0) and 0.001 < probability[0] < 0.2 and 0.8 < probability[-1] < 0.999
    np.testing.assert_array_equal(decision.same(np.arange(20.0)), same)


def people(identities, seed):
    """(scores, same, pairs, labels) of all pairs of ten images per person; people vary to different degrees."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(identities), 10)
    varies = 0.45 * np.exp(0.3 * rng.normal(size=identities))[label, None]
    images = rng.normal(size=(identities, 24))[label] + varies * rng.normal(size=(len(label), 24))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    pairs = np.stack(np.triu_indices(len(label), 1), axis=1)
    return (images @ images.T)[tuple(pairs.T)], label[pairs[:, 0]] == label[pairs[:, 1]], pairs, label


@pytest.mark.parametrize("seed", range(4))
def test_calibration_on_a_few_people_is_not_overconfident_on_others(seed):
    """Fitted on four people whose pairs are all separated, it must not give different pairs of others 99 %."""
    rng = np.random.default_rng(seed)
    scores, same, pairs, label = people(4, seed)
    drawn = np.concatenate([rng.choice(np.flatnonzero(kind), 5000) for kind in (same, ~same)])
    few = calibration.fit(scores[drawn], same[drawn], pairs[drawn], label)
    as_if_independent = calibration.fit(scores[drawn], same[drawn])
    scores, same, _, _ = people(60, seed + 100)
    probability = few.probability(scores)
    assert np.mean(probability[~same] >= 0.99) < 1e-3 and np.mean(probability[same] > 0.5) > 0.8
    assert few.slope < 0.8 * as_if_independent.slope


def test_a_few_pairs_allow_no_extreme_probability_however_far_out_a_score_is():
    """Two identities with 25 different pairs: no sooner than one in nine, as of seven that were all different."""
    label = np.repeat([0, 1], 5)
    pairs = np.stack(np.triu_indices(10, 1), axis=1)
    same = label[pairs[:, 0]] == label[pairs[:, 1]]
    decision = calibration.fit(np.where(same, 1.0, -1.0), same, pairs, label)
    found = decision.probability([-1e9, 0.0, 1e9])
    n = np.sqrt([25 * 2, 20 * 2])
    np.testing.assert_allclose(found, [1 / (n[0] + 2), 0.5, (n[1] + 1) / (n[1] + 2)])
    assert np.isnan(decision.probability([np.nan])).all()


def test_a_pair_drawn_twice_counts_once():
    scores, same, pairs, label = people(5, 0)
    once, thrice = (
        calibration.fit(np.tile(scores, n), np.tile(same, n), np.tile(pairs, (n, 1)), label) for n in (1, 3)
    )
    assert once.false_accepts == thrice.false_accepts and once.false_accepts.identities == 5
    np.testing.assert_allclose(once.slope, thrice.slope, rtol=1e-3)


@pytest.mark.parametrize("n", [30, 1000, 20_000])
def test_a_false_accept_rate_is_met_and_nearly_reached(n):
    rng = np.random.default_rng(n)
    scores, same = np.round(rng.normal(size=2 * n), 2 if n < 2000 else 6), np.arange(2 * n) < n
    decision = calibration.fit(scores + 2 * same, same)
    different = scores[~same]
    for rate in (0.5, 0.1, 0.034, 1 / n):
        moved = decision.moved(far=rate)
        accepted = moved.same(different).mean()
        assert accepted <= rate + 1e-12
        # The next lower threshold would accept about `rate` or more; with very many pairs, only some ranks are stored.
        below = np.sort(different[different < moved.threshold])[-1]
        assert (different > below).mean() > 0.9 * rate
        np.testing.assert_array_equal(moved.probability(scores), decision.probability(scores))


def test_rates_that_the_pairs_cannot_measure_are_refused():
    scores, same, pairs, label = people(4, 1)
    decision = calibration.fit(scores, same, pairs, label)
    with pytest.raises(ValueError, match=r"far=0.001 is less than one of the 600 diff.* of 4 identities; .* 0.0017"):
        decision.moved(far=0.001)
    for far in (0, 1, -0.1, np.nan):
        with pytest.raises(ValueError, match="must be a share between 0 and 1"):
            decision.moved(far=far)
    with pytest.raises(ValueError, match="give only one"):
        decision.moved(threshold=0.1, far=0.1)
    with pytest.raises(ValueError, match="finite"):
        decision.moved(threshold=np.nan)


def test_decisions_of_older_runs_are_read():
    old = Decision.read({"threshold": 0.5, "below": 7.0, "above": 90.0})
    assert old.same(np.array([0.4, 0.6])).tolist() == [False, True]
    np.testing.assert_allclose(old.probability(0.6), 1 / (1 + np.exp(-0.7)))
    with pytest.raises(ValueError, match="evaluate it again"):
        old.moved(far=0.1)
    new = calibration.fit(*people(4, 2))
    assert Decision.read(json.loads(json.dumps(dataclasses.asdict(new)))).moved(far=0.1) == new.moved(far=0.1)


def test_uninformative_or_reversed_scores_give_a_probability_of_one_half():
    same = np.arange(40) % 2 == 0
    for scores in (np.zeros(40), -1.0 * same):
        decision = calibration.fit(scores, same)
        np.testing.assert_array_equal(decision.probability(scores), 0.5)
