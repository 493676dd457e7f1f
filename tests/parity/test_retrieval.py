import numpy as np
import pytest
import sklearn.cluster

from siamjax.evaluation import retrieval

torch = pytest.importorskip("torch")
pml_distances = pytest.importorskip("pytorch_metric_learning.distances")
accuracy_calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
inference = pytest.importorskip("pytorch_metric_learning.utils.inference")

NAMES = {
    "precision_at_1": "recall_at_1",
    "r_precision": "r_precision",
    "mean_average_precision_at_r": "map_at_r",
    "mean_average_precision": "map",
    "mean_reciprocal_rank": "mrr",
}


def nearer(a, b):
    return -np.linalg.norm(a[:, None] - b[None], axis=2)


def points():
    rng = np.random.default_rng(3)
    label = rng.integers(0, 15, 120)
    return (rng.normal(size=(15, 4))[label] + rng.normal(size=(120, 4))).astype(np.float32), label


@pytest.mark.parametrize("average", ["queries", "classes"])
@pytest.mark.parametrize("searched", ["among themselves", "in others", "in a larger set"])
def test_measures_equal_the_accuracy_calculators(searched, average):
    x, label = points()
    arguments, own = {
        "among themselves": ((x, label), None),
        "in others": ((x[:40] + 0.1, label[:40], x, label), None),
        "in a larger set": ((x[:40], label[:40], x, label), np.arange(40)),
    }[searched]
    neighbours = inference.CustomKNN(pml_distances.LpDistance(normalize_embeddings=False))
    calculator = accuracy_calculator.AccuracyCalculator(
        include=tuple(NAMES), avg_of_avgs=average == "classes", knn_func=neighbours
    )
    expected = calculator.get_accuracy(*map(torch.tensor, arguments), ref_includes_query=own is not None)
    got = retrieval.measures(nearer, *arguments, own=own, average=average)
    for theirs, ours in NAMES.items():
        np.testing.assert_allclose(got[ours], expected[theirs], rtol=1e-6)


def test_clusters_equal_the_accuracy_calculators():
    def grouped(x, count):
        centres, _ = sklearn.cluster.kmeans_plusplus(x.numpy(), count, n_local_trials=1, random_state=7)
        return torch.tensor(sklearn.cluster.KMeans(count, init=centres, n_init=1).fit_predict(x.numpy()))

    x, label = points()
    calculator = accuracy_calculator.AccuracyCalculator(include=("NMI", "AMI"), kmeans_func=grouped)
    expected = calculator.get_accuracy(torch.tensor(x), torch.tensor(label))
    assert retrieval.clusters(x, label, seed=7) == {"nmi": expected["NMI"], "ami": expected["AMI"]}
