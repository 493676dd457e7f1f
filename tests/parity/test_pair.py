"""Value and gradient of the pair losses, in float64, against PyTorch's and pytorch-metric-learning's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamjax import distances, losses

torch = pytest.importorskip("torch")
pml = pytest.importorskip("pytorch_metric_learning.losses")
pml_distances = pytest.importorskip("pytorch_metric_learning.distances")
reducers = pytest.importorskip("pytorch_metric_learning.reducers")

torch.set_num_threads(1)

RNG = np.random.default_rng(5)
LABELS = np.array([0, 3, 0, 0, 1, 3, 0, 2, 3, 1, 1])
EMBEDDINGS = RNG.normal(size=(11, 6)) * np.linspace(0.4, 1.5, 6)


def normalised(embeddings):
    return embeddings / jnp.linalg.norm(embeddings, axis=1, keepdims=True)


def assert_equal_to(theirs, ours, points=EMBEDDINGS, tolerance=1e-10):
    """Both are functions of `points`, one of a torch tensor, one of a JAX array, to a scalar."""
    there = torch.tensor(points, requires_grad=True)
    expected = theirs(there)
    expected.backward()
    with jax.enable_x64(True):
        value, gradient = jax.jit(jax.value_and_grad(ours))(jnp.asarray(points))
    np.testing.assert_allclose(value, expected.item(), rtol=tolerance)
    scale = np.abs(there.grad.numpy()).max()
    np.testing.assert_allclose(gradient, there.grad.numpy(), rtol=tolerance, atol=tolerance * scale)


def on_labels(loss):
    return lambda embeddings: loss(embeddings, torch.tensor(LABELS))


@pytest.mark.parametrize("margins", [{}, {"pos_margin": 0.3, "neg_margin": 1.2}])
@pytest.mark.parametrize("reducer,active_only", [(None, True), (reducers.MeanReducer(), False)], ids=["active", "mean"])
def test_contrastive(margins, reducer, active_only):
    assert_equal_to(
        on_labels(pml.ContrastiveLoss(reducer=reducer, **margins)),
        lambda x: 2 * losses.batch_linear_contrastive(normalised(x), LABELS, active_only=active_only, **margins),
    )


@pytest.mark.parametrize(
    "power,distance", [(1, distances.pairwise_euclidean), (2, distances.pairwise_squared_euclidean)]
)
def test_contrastive_of_plain_distances(power, distance):
    theirs = pml_distances.LpDistance(normalize_embeddings=False, power=power)
    margins = {"pos_margin": 1.0, "neg_margin": 4.0}
    loss = functools.partial(losses.batch_linear_contrastive, distance=distance, active_only=True)
    assert_equal_to(
        on_labels(pml.ContrastiveLoss(distance=theirs, **margins)), lambda x: 2 * loss(x, LABELS, **margins)
    )


def test_contrastive_of_cosines_is_the_cosine_embedding_loss():
    loss = pml.ContrastiveLoss(
        pos_margin=1, neg_margin=0.2, distance=pml_distances.CosineSimilarity(), reducer=reducers.MeanReducer()
    )
    assert_equal_to(on_labels(loss), lambda x: 2 * losses.batch_cosine_embedding(x, LABELS, margin=0.2))


def test_signal_to_noise_ratio_contrastive_is_the_linear_one_of_another_distance():
    margins = {"pos_margin": 0.01, "neg_margin": 1.5}
    loss = functools.partial(
        losses.batch_linear_contrastive, distance=losses.pairwise_snr_distance, active_only=True, **margins
    )
    theirs = on_labels(pml.SignalToNoiseRatioContrastiveLoss(**margins))
    assert_equal_to(theirs, lambda x: 2 * loss(normalised(x), LABELS))


# Theirs replaces log(1 + exp(x)) by x beyond 20, an error of 1e-10 of the value; the smaller scale stays below.
@pytest.mark.parametrize("m,gamma,tolerance", [(0.4, 80.0, 1e-9), (0.25, 2.0, 1e-10)])
def test_circle(m, gamma, tolerance):
    assert_equal_to(
        on_labels(pml.CircleLoss(m=m, gamma=gamma)),
        lambda x: losses.circle(x, LABELS, m=m, gamma=gamma),
        tolerance=tolerance,
    )


def test_cosine_embedding_of_given_pairs():
    same = np.array([1, 0, 0, 1, 0])
    assert_equal_to(
        lambda x: torch.nn.CosineEmbeddingLoss(margin=0.1)(x[:5], x[5:10], torch.tensor(2 * same - 1)),
        lambda x: losses.cosine_embedding(x[:5], x[5:10], same, margin=0.1),
    )


def test_binary_cross_entropy():
    same = (RNG.random(11) < 0.4).astype(float)
    assert_equal_to(
        lambda x: torch.nn.BCEWithLogitsLoss()(x, torch.tensor(same)),
        lambda x: losses.binary_cross_entropy(x, same),
        points=9 * EMBEDDINGS[:, 0],
    )
