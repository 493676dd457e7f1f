"""Intervals over units: coverage in simulations where units differ, and equality with explicit resampling."""

import numpy as np
import pytest
import scipy.special
import scipy.stats

from siamjax.evaluation import intervals, one_shot, verification
from siamjax.evaluation.types import accuracy

WORLDS = 150


def alphabets(rng, count):
    """The probability of a right answer in each alphabet."""
    return scipy.special.expit(1.5 + rng.normal(size=count))


def pairs_of_people(rng, people, count):
    """(scores, same, identities), with scores whose level depends on the people; the threshold is 0."""
    same = np.arange(count) % 2 == 0
    first = rng.integers(people, size=count)
    second = np.where(same, first, (first + rng.integers(1, people, size=count)) % people)
    alike, like_others = rng.normal(size=(2, people))
    level = np.where(same, 1.5 + alike[first], -1.5 + (like_others[first] + like_others[second]) / 2**0.5)
    return level + rng.normal(size=count), same, np.stack([first, second], 1)


def covers(interval, truth):
    return interval[0] <= truth <= interval[1]


@pytest.mark.parametrize("units", [3, 6, 20])
def test_the_interval_over_alphabets_covers_the_truth_and_the_one_over_trials_does_not(units):
    rng = np.random.default_rng(units)
    truth, held = alphabets(rng, 200_000).mean(), np.zeros(2)
    for _ in range(WORLDS):
        right = rng.random((units, 500)) < alphabets(rng, units)[:, None]
        got = accuracy("", right, 0, "alphabets", np.indices(right.shape)[0])
        over_trials = scipy.stats.binomtest(int(right.sum()), right.size).proportion_ci(method="wilson")
        held += covers(got.interval, truth), covers(over_trials, truth)
    assert held[0] / WORLDS > 0.86 and held[1] / WORLDS < 0.4


@pytest.mark.parametrize("people,ways", [(6, 6), (20, 5)])
def test_the_interval_over_people_covers_the_truth_of_identification(people, ways):
    """People are points; neighbours are confused with each other, so that trials of both fail."""
    rng = np.random.default_rng(ways)

    def identify(trials):
        points = rng.normal(size=(people, 4))
        chosen = np.argsort(rng.random((trials, people)), axis=1)[:, :ways]
        apart = points[chosen] - points[chosen[:, :1]] + 0.8 * rng.normal(size=(trials, ways, 4))
        scores = -np.sum(apart**2, axis=2)[:, None]
        answer = np.zeros((trials, 1), int)
        unit = np.stack([chosen[:, :1], np.take_along_axis(chosen, one_shot.rival(scores, answer), 1)], 2)
        return one_shot.right(scores, answer), unit

    truth = np.mean([identify(200)[0].mean() for _ in range(2000)])
    held = [
        covers(accuracy("", right, 0, "", unit).interval, truth)
        for right, unit in (identify(600) for _ in range(WORLDS))
    ]
    assert np.mean(held) > 0.86


@pytest.mark.parametrize("people", [6, 30])
def test_the_intervals_over_people_cover_the_truth(people):
    rng = np.random.default_rng(people)
    scores, same, _ = pairs_of_people(rng, 100_000, 400_000)
    truth = {"accuracy": np.mean((scores > 0) == same), **verification.measures(scores, same)}
    held, over_pairs = dict.fromkeys(("accuracy", "auc", "eer", "tar_at_far_0.1"), 0), 0
    for _ in range(WORLDS):
        scores, same, identities = pairs_of_people(rng, people, 400)
        got = verification.intervals_of(scores, same, identities, scores > 0)
        held = {name: count + covers(got[name] or (0, 1), truth[name]) for name, count in held.items()}
        right = int(np.sum((scores > 0) == same))
        over_pairs += covers(scipy.stats.binomtest(right, 400).proportion_ci(method="wilson"), truth["accuracy"])
    assert all(count / WORLDS > 0.86 for count in held.values()), held
    assert over_pairs / WORLDS < 0.88


def test_weighted_pairs_give_the_intervals_of_repeated_pairs():
    """Explicit resampling: a different pair is repeated for each combination of copies, a same pair for each copy."""
    scores, same, identities = pairs_of_people(np.random.default_rng(0), 8, 300)
    scores = np.round(scores, 1)  # many ties
    resampled = []
    for drawn in np.concatenate(list(intervals.resamples(8, 300))).astype(int):
        times = [drawn[a] if a == b else drawn[a] * drawn[b] for a, b in identities]
        rows = np.repeat(np.arange(300), times)
        resampled.append(verification.measures(scores[rows], same[rows]))
    got = verification.intervals_of(scores, same, identities, scores > 0)
    for name, value in verification.measures(scores, same).items():
        values = np.array([figures[name] for figures in resampled if name in figures])
        if name != "tar_at_far_0.01":  # missing in explicit resamples with fewer than 100 different pairs
            np.testing.assert_allclose(got[name], intervals.around(value, values, 8), rtol=1e-9, err_msg=name)


def test_there_is_no_interval_for_too_few_units_or_without_differences():
    right = np.arange(1000) % 10 > 0
    assert accuracy("", right, 0, "alphabets", np.arange(1000) % 2).interval is None
    few = accuracy("", right, 0, "alphabets", np.arange(1000) % 3)
    assert (few.over, few.units, few.trials, few.value) == ("alphabets", 3, 1000, 0.9) and few.interval[0] < 0.9
    assert accuracy("", np.ones(1000, bool), 0, "alphabets", np.arange(1000) % 20).interval is None
    scores, same, identities = pairs_of_people(np.random.default_rng(0), 2, 100)
    assert set(verification.intervals_of(scores, same, identities, scores > 0).values()) == {None}


def test_intervals_ignore_nan_and_are_reproducible():
    rng = np.random.default_rng(0)
    values, unit = rng.random(300), rng.integers(10, size=300)
    got = intervals.of_mean(values, unit)
    assert got == intervals.of_mean(values, unit) and got[0] < values.mean() < got[1]
    more = np.append(values, [np.nan] * 5), np.append(unit, [11, 12, 13, 14, 15])
    assert got == intervals.of_mean(*more)
    assert intervals.of_mean(np.full(5, np.nan), np.arange(5)) is None
