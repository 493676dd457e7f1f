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
