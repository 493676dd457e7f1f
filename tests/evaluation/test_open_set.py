"""Open-set figures, compared with a loop over all queries, and in simple cases."""

import numpy as np
import pytest

from siamjax.decision import Decision
from siamjax.evaluation import open_set


def score(queries, gallery):
    return -np.linalg.norm(queries[:, None] - gallery[None], axis=2)


def people(identities, spread, seed, images=5):
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.repeat(np.arange(identities) * 3 + 7, images))
    centre = dict(zip(np.unique(label), rng.normal(size=(identities, 8)), strict=True))
    return np.stack([centre[one] for one in label]) + spread * rng.normal(size=(len(label), 8)), label


def test_well_separated_people_are_all_found_and_no_stranger_is_accepted():
    embeddings, label = people(9, 0.01, 0)
    got = open_set.measures(score, embeddings, label, Decision(-0.2, 1.0, -0.2), seed=0)
    perfect = {"dir": 1, "wrongly_named": 0, "strangers_accepted": 0, "dir_at_far_0.1": 1, "dir_at_far_0.01": 1}
    assert got == {"enrolled": 4, **perfect}
    none = open_set.measures(score, embeddings, label, Decision(0.0, 1.0, 0.0), seed=0)
    assert (none["dir"], none["strangers_accepted"], none["dir_at_far_0.1"]) == (0, 0, 1)


@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_a_loop_over_the_queries(seed):
    embeddings, label = people(8, 0.9, seed)
    of = {tuple(row): one for row, one in zip(embeddings, label, strict=True)}
    asked = []

    def watched(queries, gallery):
        scores = score(queries, gallery)
        enrolled = [of[tuple(row)] for row in gallery]
        for row, values in zip(queries, scores, strict=True):
            best = int(np.argmax(values))
            asked.append((of[tuple(row)], of[tuple(row)] in enrolled, enrolled[best], values[best]))
            assert tuple(row) not in {tuple(one) for one in gallery}
        return scores

    got = open_set.measures(watched, embeddings, label, Decision(-3.6, 1.0, -3.6), seed=seed)
    strangers = sorted((value for _, known, _, value in asked if not known), reverse=True)
    known = [(one == best, value) for one, known, best, value in asked if known]
    assert len(strangers) == len(known) == 400
    assert got["strangers_accepted"] == np.mean([value > -3.6 for value in strangers])
    assert got["dir"] == np.mean([right and value > -3.6 for right, value in known])
    assert got["wrongly_named"] == np.mean([not right and value > -3.6 for right, value in known])
    for rate, count in ((0.1, 40), (0.01, 4)):
        assert got[f"dir_at_far_{rate:g}"] == np.mean([right and value > strangers[count] for right, value in known])
    assert 0 < got["strangers_accepted"] < 1 and 0.2 < got["dir"] < 1


def test_too_few_identities_give_no_figures():
    embeddings, label = people(3, 0.1, 0)
    assert open_set.measures(score, embeddings, label, Decision(0.0, 1.0, 0.0), seed=0) == {}


def by_queries(queries, query_label, gallery, gallery_label, rate):
    """DIR at a FAR, one query at a time."""
    strangers, known = [], []
    for query, label in zip(queries, query_label, strict=True):
        ranked = sorted(
            (-np.linalg.norm(query - image), one) for image, one in zip(gallery, gallery_label, strict=True)
        )
        if label in gallery_label:
            known.append((ranked[-1][1] == label, ranked[-1][0]))
        else:
            strangers.append(ranked[-1][0])
    threshold = sorted(strangers, reverse=True)[int(rate * len(strangers) + 1e-9)]
    return np.mean([right and value > threshold for right, value in known])


@pytest.mark.parametrize("block", [7, 1024])
def test_rates_of_given_queries_equal_a_loop(block):
    embeddings, label = people(20, 0.9, 0, images=9)
    names = np.array([f"person {one}" for one in label])
    enrolled = np.isin(label, np.unique(label)[:12]) & (np.arange(len(label)) % 3 == 0)
    sets = embeddings[~enrolled], names[~enrolled], embeddings[enrolled], names[enrolled]
    got = open_set.dir_at_far(score, *sets, rates=(0.2, 0.05, 0.001), block=block)
    assert got == {f"dir_at_far_{rate:g}": by_queries(*sets, rate) for rate in (0.2, 0.05)}
    assert 0.1 < got["dir_at_far_0.05"] < got["dir_at_far_0.2"] < 1
    constant = open_set.dir_at_far(lambda a, b: np.zeros((len(a), len(b))), *sets)
    unknown = open_set.dir_at_far(lambda a, b: np.full((len(a), len(b)), np.nan), *sets)
    assert set(constant.values()) == set(unknown.values()) == {0.0}


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (([1, 2, 3], [1, 2]), {}, r"queries: expected \[n, d\] and a label each; found \(2, 1\) and \(3,\)"),
        (([1, 2], [1, 2]), {}, "2 of 2 queries are of identities in the gallery; some must be, and some must not"),
        (([3, 4], [1, 2]), {}, "0 of 2 queries are of identities in the gallery"),
        (([1, 3], [1, 2]), {"rates": (1,)}, "rates: 1 is not between 0 and 1"),
    ],
)
def test_wrong_sets_are_named(labels, options, message):
    with pytest.raises(ValueError, match=message):
        open_set.dir_at_far(score, [[0.0], [1.0]], labels[0], [[0.0], [1.0]], labels[1], **options)
