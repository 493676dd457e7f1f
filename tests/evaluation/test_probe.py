import numpy as np
import pytest

from siamjax.evaluation import probe


def points(seed, n=300):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)) * [1, 1, 100, 1]  # scales must not matter
    return x, x[:, 0] - 2 * x[:, 1] + 0.01 * x[:, 2]


def test_linear_targets_are_predicted_and_random_ones_are_not():
    (x, value), (y, other) = points(0), points(1)
    assert probe.measures(x, value, y, other)["linear"] > 0.99
    by_sign = probe.measures(x, value > 0, y, other > 0)
    assert by_sign["linear"] > 0.95 and 0.8 < by_sign["knn"] < by_sign["linear"]
    names = np.array(["low", "high"])
    named = probe.measures(x, names[(value > 0).astype(int)], y, names[(other > 0).astype(int)])
    assert named == by_sign
    noise = np.random.default_rng(2).uniform(size=600) < 0.5
    assert probe.measures(x, noise[:300], y, noise[300:])["linear"] < 0.6


def test_neighbours_predict_a_ring_and_linear_models_do_not():
    (x, _), (y, _) = points(3, 800), points(4)
    inside = [np.hypot(*z[:, :2].T) < 1.2 for z in (x, y)]
    got = probe.measures(x[:, :2], inside[0], y[:, :2], inside[1])
    assert got["knn"] > 0.9 > 0.65 > got["linear"]


def test_arrays_of_other_shapes_are_refused():
    x, value = points(0)
    with pytest.raises(
        ValueError, match=r"test: expected embeddings \[n, d\] and targets \[n\], found \(300, 4\), \(9,\)"
    ):
        probe.measures(x, value, x, value[:9])


def test_a_fold_of_one_image_is_refused():
    groups = np.repeat(np.arange(5), [1, 3, 3, 3, 3])
    x = np.random.default_rng(0).normal(size=(13, 4))
    with pytest.raises(ValueError, match="a fold of 5 has a single image, on which R² is not defined; use fewer"):
        probe.cross_validated(x, x[:, 0], groups, folds=5, seed=0)
