"""MAP@5 with "new" as an answer, compared with a loop over lists, and the fitted threshold."""

import numpy as np
import pytest

from siamjax.evaluation import reidentification


def products(a, b):
    return a @ b.T


def means(*arguments):
    return {name: np.nanmean(values) for name, values in reidentification.per_query(*arguments).items()}


def draw(seed, known=12, images=3, queries=60, spread=1.2):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(known + 6, 8))
    label = np.repeat(np.arange(known), images)
    query_label = rng.integers(0, known + 6, queries)

    def images_of(labels):
        return centres[labels] + spread * rng.normal(size=(len(labels), 8))

    return images_of(query_label), query_label, images_of(label), label


def by_lists(scores, query_label, label, threshold):
    """The score of each query, from its list of answers."""
    found = []
    for row, right in zip(scores, query_label, strict=True):
        best = {identity: row[label == identity].max() for identity in np.unique(label)}
        answers = sorted(best, key=lambda identity: -best[identity])
        place = sum(best[identity] > threshold for identity in answers)
        answers.insert(place, "new")
        answer = right if right in best else "new"
        place = answers.index(answer)
        found.append(1 / (place + 1) if place < 5 else 0)
    return found


@pytest.mark.parametrize("threshold", [-100.0, 2.0, 5.0, 9.0, 100.0])
def test_scores_equal_those_of_explicit_lists(threshold):
    queries, query_label, gallery, label = draw(0)
    found = reidentification.answers(products, queries, query_label, gallery, label, block=7)
    expected = by_lists(queries @ gallery.T, query_label, label, threshold)
    np.testing.assert_allclose(reidentification.map_at_5(found, threshold), expected)


def test_the_fitted_threshold_is_the_best():
    found = reidentification.answers(products, *draw(1))
    fitted = reidentification.map_at_5(found, reidentification.fit_threshold(found)).mean()
    every = [reidentification.map_at_5(found, threshold).mean() for threshold in np.linspace(-20, 40, 400)]
    assert fitted >= max(every) - 1e-9 and fitted > min(every)


def test_measures_use_the_threshold_of_the_validation_queries():
    queries, query_label, gallery, label = draw(2, spread=0.05, queries=200)
    embeddings = {"gallery": gallery, "validation": queries[:100], "test": queries[100:]}
    labels = {"gallery": label, "validation": query_label[:100], "test": query_label[100:]}

    def near(a, b):
        return -np.linalg.norm(a[:, None] - b[None], axis=2)

    figures = means(near, embeddings, labels)
    assert figures["map_at_5"] > 0.97 and figures["rank_1_of_known"] == 1
    assert figures["map_at_5_all_new"] == np.mean(labels["test"] >= 12)
    constant = means(lambda a, b: np.zeros((len(a), len(b))), embeddings, labels)
    # Ties are not hits: constant scores are no better than always answering "new".
    assert constant["map_at_5"] == constant["map_at_5_all_new"] and constant["rank_1_of_known"] == 0
    with pytest.raises(ValueError, match="the gallery has 4 identities"):
        reidentification.answers(products, queries, query_label, gallery[:12], label[:12])


def test_nan_is_wrong():
    gallery, label, queries, query_label = draw(3)
    queries[:5] = np.nan
    found = reidentification.answers(products, queries, query_label, gallery, label)
    known = query_label[:5] < 12
    assert known.any() and (found.place[:5][known] >= 5).all()
    assert not reidentification.map_at_5(found, 0.0)[:5][known].any()
