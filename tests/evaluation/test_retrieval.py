import collections
import math

import numpy as np
import pytest
import sklearn.metrics

from siamjax.evaluation import retrieval


def nearer(a, b):
    return -np.linalg.norm(np.asarray(a)[:, None] - np.asarray(b)[None], axis=2)


def means(*arguments, **options):
    return {name: np.nanmean(values) for name, values in retrieval.per_query(*arguments, **options).items()}


def clusters(seed, identities=12, spread=1.4):
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(identities) * 7, rng.integers(1, 9, identities))
    centres = rng.normal(size=(identities, 3))
    return centres[label // 7] + spread * 0.5 * rng.normal(size=(len(label), 3)), label


def by_loops(queries, query_label, gallery, gallery_label, own=None):
    """The definitions, one query at a time: {name: the values of queries that count}; `own` as `per_query` takes it."""
    found = collections.defaultdict(list)
    for number, (query, label) in enumerate(zip(queries, query_label, strict=True)):
        ranked = sorted(
            (np.linalg.norm(query - image), other)
            for place, (image, other) in enumerate(zip(gallery, gallery_label, strict=True))
            if own is None or place != own[number]
        )
        names = [other for _, other in ranked]
        count = names.count(label)
        if not count:
            continue
        precision = [names[: k + 1].count(label) / (k + 1) for k in range(len(names)) if names[k] == label]
        within = [names[: k + 1].count(label) / (k + 1) for k in range(count) if names[k] == label]
        distinct = list(dict.fromkeys(names))
        for k in (1, 5, 10):
            gains = [1 / math.log2(rank + 2) for rank in range(min(k, len(names))) if names[rank] == label]
            most = [1 / math.log2(rank + 2) for rank in range(min(k, count))]
            found[f"recall_at_{k}"].append(label in names[:k])
            found[f"precision_at_{k}"].append(names[:k].count(label) / k)
            found[f"ndcg_at_{k}"].append(sum(gains) / sum(most))
        found["r_precision"].append(names[:count].count(label) / count)
        found["map_at_r"].append(sum(within) / count)
        found["map"].append(sum(precision) / count)
        found["mrr"].append(1 / (1 + names.index(label)))
        found["map_at_5"].append(1 / (1 + distinct.index(label)) if distinct.index(label) < 5 else 0)
    return {name: np.mean(values) for name, values in found.items()}


def assert_equal(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_measures_equal_their_definitions_for_any_block(block):
    points, label = clusters(0)
    got = means(nearer, points, label, block=block)
    assert_equal(got, by_loops(points, label, points, label, range(len(points))))
    others, other_label = clusters(1, identities=15)
    got = means(nearer, others, other_label, points, label, block=block)
    assert_equal(got, by_loops(others, other_label, points, label))
    some = np.arange(5, len(points), 3)
    got = means(nearer, points[some], label[some], points, label, own=some, block=block)
    assert_equal(got, by_loops(points[some], label[some], points, label, some))


def test_map_and_ndcg_equal_scikit_learns():
    points, label = clusters(3)
    found = retrieval.per_query(nearer, points, label)
    for number in range(0, len(points), 7):
        others = np.arange(len(points)) != number
        relevant, scores = label[others] == label[number], nearer(points[[number]], points[others])[0]
        if relevant.any():
            expected = sklearn.metrics.average_precision_score(relevant, scores)
            np.testing.assert_allclose(found["map"][number], expected)
            np.testing.assert_allclose(
                found["ndcg_at_5"][number], sklearn.metrics.ndcg_score(relevant[None], scores[None], k=5)
            )


def test_measures_are_means_over_queries_or_classes_with_labels_of_any_kind():
    points, label = clusters(4)
    names = np.array([f"class {one}" for one in label])
    found = retrieval.measures(nearer, points, names, ks=(2,))
    assert_equal(found, {name: value for name, value in means(nearer, points, label, ks=(2,)).items()})
    by_class = retrieval.measures(nearer, points, list(names), ks=(2,), average="classes")
    of_query = retrieval.per_query(nearer, points, label)["r_precision"]
    classes, values = retrieval.per_class(of_query, names)
    of_class = [of_query[names == one].mean() for one in classes]  # NaN in classes of one image.
    np.testing.assert_allclose(values, of_class)
    np.testing.assert_allclose(by_class["r_precision"], np.nanmean(of_class))
    assert by_class["r_precision"] != found["r_precision"]


def test_clusters_follow_identities_or_not():
    points, label = clusters(5, spread=0.001)
    assert retrieval.clusters(points, label) == {"nmi": 1, "ami": 1}
    noise = np.random.default_rng(0).normal(size=points.shape)
    found = retrieval.clusters(noise, label)
    assert found == retrieval.clusters(noise, label) and found["nmi"] > 0.2 and abs(found["ami"]) < 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [1, 1]}, r"embeddings: expected \[n, d\], with one of labels each; found \[3, 1\] and \[2\]"),
        ({"reference": [[0.0]]}, "needs both its embeddings and its labels"),
        ({"reference": [[0.0]], "reference_labels": [1, 1]}, r"the gallery's embeddings: .*found \[1, 1\] and \[2\]"),
        (
            {"reference": [[0.0]], "reference_labels": [1], "own": [0, 0, 1]},
            "own: found 0 to 1, expected positions 0 to 0",
        ),
        (
            {"reference": [[0.0]], "reference_labels": [1], "own": [0, 0, 0]},
            "own: query 2 has the label 2, but the image",
        ),
        ({"ks": (0, 1)}, r"ks=\(0, 1\): each k must be 1 or more"),
        ({"average": "class"}, "average='class': expected 'queries' or 'classes'"),
        ({"labels": [1, 2, 3]}, "no query has an image of its identity in the gallery"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    given = {"embeddings": [[0.0], [0.1], [5.0]], "labels": [1, 1, 2], **arguments}
    with pytest.raises(ValueError, match=message):
        retrieval.measures(nearer, **given)


def test_unknown_scores_are_wrong():
    scores = np.array([[0.0, np.nan, 0.2], [np.nan, 0.0, np.nan]])
    found = retrieval.per_query(lambda a, b: scores, np.zeros((3, 1)), [1, 1, 2])
    np.testing.assert_array_equal(found["mrr"], [0.5, 0.5, np.nan])


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
    found = means(nearer, np.zeros((20, 3)), label)
    np.testing.assert_allclose([found.pop("mrr"), found.pop("map")], 1 / 19)
    assert set(found.values()) == {0.0}


def test_queries_without_their_identity_in_the_gallery_do_not_count():
    points, label = np.array([[0.0], [0.1], [5.0]]), np.array([1, 1, 2])
    assert set(means(nearer, points, label, ks=(1,)).values()) == {1.0}
    with pytest.raises(ValueError, match="no query has an image of its identity in the gallery"):
        means(nearer, points, np.arange(3))
