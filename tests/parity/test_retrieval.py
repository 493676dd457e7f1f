import numpy as np
import pytest

from siamjax.evaluation import retrieval

torch = pytest.importorskip("torch")
pml_distances = pytest.importorskip("pytorch_metric_learning.distances")
accuracy_calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
inference = pytest.importorskip("pytorch_metric_learning.utils.inference")

NAMES = {"precision_at_1": "recall_at_1", "r_precision": "r_precision", "mean_average_precision_at_r": "map_at_r"}


@pytest.mark.parametrize("own", [True, False])
def test_measures_equal_the_accuracy_calculators(own):
    rng = np.random.default_rng(3)
    label = rng.integers(0, 15, 120)
    points = (rng.normal(size=(15, 4))[label] + rng.normal(size=(120, 4))).astype(np.float32)
    queries, query_label = (points, label) if own else (points[:40] + 0.1, label[:40])
    neighbours = inference.CustomKNN(pml_distances.LpDistance(normalize_embeddings=False))
    calculator = accuracy_calculator.AccuracyCalculator(include=tuple(NAMES), k="max_bin_count", knn_func=neighbours)
    arguments = (queries, query_label) if own else (queries, query_label, points, label)
    expected = calculator.get_accuracy(*map(torch.tensor, arguments))

    def nearer(a, b):
        return -np.linalg.norm(a[:, None] - b[None], axis=2)

    got = {name: np.nanmean(values) for name, values in retrieval.per_query(nearer, *arguments).items()}
    for theirs, ours in NAMES.items():
        np.testing.assert_allclose(got[ours], expected[theirs], rtol=1e-6)
