import numpy as np
import pytest

from siamjax.evaluation import retrieval


def nearer(a, b):
    return -np.linalg.norm(a[:, None] - b[None], axis=2)


def means(*arguments, **options):
    return {name: np.nanmean(values) for name, values in retrieval.per_query(*arguments, **options).items()}


def clusters(seed, identities=12, spread=1.4):
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(identities) * 7, rng.integers(1, 9, identities))
    centres = rng.normal(size=(identities, 3))
    return centres[label // 7] + spread * 0.5 * rng.normal(size=(len(label), 3)), label


def by_loops(queries, query_label, gallery, gallery_label, own):
    """The definitions, one query at a time."""
    sums, counted = np.zeros(6), 0
    for number, (query, label) in enumerate(zip(queries, query_label, strict=True)):
        ranked = sorted(
            (np.linalg.norm(query - image), other)
            for place, (image, other) in enumerate(zip(gallery, gallery_label, strict=True))
            if not (own and place == number)
        )
        names = [other for _, other in ranked]
        count = names.count(label)
        if not count:
            continue
        counted += 1
        precision = [names[: k + 1].count(label) / (k + 1) for k in range(count) if names[k] == label]
        distinct = list(dict.fromkeys(names))
        whale = 1 / (1 + distinct.index(label)) if distinct.index(label) < 5 else 0
        recalls = [label in names[:k] for k in (1, 5, 10)]
        sums += [*recalls, names[:count].count(label) / count, sum(precision) / count, whale]
    return sums / counted


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_measures_equal_their_definitions_for_any_block(block):
    points, label = clusters(0)
    got = means(nearer, points, label, block=block)
    np.testing.assert_allclose(list(got.values()), by_loops(points, label, points, label, True), rtol=1e-12)
    others, other_label = clusters(1, identities=15)
    got = means(nearer, others, other_label, points, label, block=block)
    np.testing.assert_allclose(list(got.values()), by_loops(others, other_label, points, label, False), rtol=1e-12)


def test_scores_are_computed_in_blocks():
    points, label = clusters(2)
    rows = []

    def score(a, b):
        rows.append(len(a))
        return nearer(a, b)

    means(score, points, label, block=8)
    assert max(rows) == 8


def test_constant_embeddings_find_nothing():
    label = np.repeat(np.arange(10), 2)
    assert set(means(nearer, np.zeros((20, 3)), label).values()) == {0.0}


def test_queries_without_their_identity_in_the_gallery_do_not_count():
    points, label = np.array([[0.0], [0.1], [5.0]]), np.array([1, 1, 2])
    assert set(means(nearer, points, label).values()) == {1.0}
    with pytest.raises(ValueError, match="no query has an image of its identity in the gallery"):
        means(nearer, points, np.arange(3))
