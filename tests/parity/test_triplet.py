"""Value and gradient of the triplet losses, in float64, against PyTorch's and pytorch-metric-learning's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamjax import distances, losses

torch = pytest.importorskip("torch")
pml = pytest.importorskip("pytorch_metric_learning.losses")
pml_distances = pytest.importorskip("pytorch_metric_learning.distances")
miners = pytest.importorskip("pytorch_metric_learning.miners")
reducers = pytest.importorskip("pytorch_metric_learning.reducers")
regularizers = pytest.importorskip("pytorch_metric_learning.regularizers")

torch.set_num_threads(1)

RNG = np.random.default_rng(6)
LABELS = np.array([0, 3, 0, 0, 1, 3, 0, 2, 3, 1, 1, 0])
EMBEDDINGS = RNG.normal(size=(12, 5)) * np.linspace(0.4, 1.5, 5)
POWERS = [(1, distances.pairwise_euclidean), (2, distances.pairwise_squared_euclidean)]
each_power = pytest.mark.parametrize("power,distance", POWERS, ids=["plain", "squared"])


SNR = pml_distances.SNRDistance(normalize_embeddings=False)


def lp(power):
    return pml_distances.LpDistance(normalize_embeddings=False, power=power)


def assert_equal_to(theirs, ours, points=EMBEDDINGS, tolerance=1e-10):
    """Both are functions of `points`, one of a torch tensor, one of a JAX array, to a scalar."""
    there = torch.tensor(points, requires_grad=True)
    expected = theirs(there)
    expected.backward()
    with jax.enable_x64(True):
        value, gradient = jax.jit(jax.value_and_grad(ours))(jnp.asarray(points))
    assert expected.item() > 0
    np.testing.assert_allclose(value, expected.item(), rtol=tolerance)
    scale = np.abs(there.grad.numpy()).max()
    np.testing.assert_allclose(gradient, there.grad.numpy(), rtol=tolerance, atol=tolerance * scale)


def on_labels(loss, miner=None):
    labels = torch.tensor(LABELS)
    return lambda x: loss(x, labels, miner(x, labels)) if miner else loss(x, labels)


@each_power
@pytest.mark.parametrize("reducer,active_only", [(None, True), (reducers.MeanReducer(), False)], ids=["active", "mean"])
def test_batch_all(power, distance, reducer, active_only):
    ours = functools.partial(losses.batch_all_triplet, margin=0.3, distance=distance, active_only=active_only)
    assert_equal_to(
        on_labels(pml.TripletMarginLoss(margin=0.3, distance=lp(power), reducer=reducer)), lambda x: ours(x, LABELS)
    )


@each_power
def test_batch_all_soft(power, distance):
    ours = functools.partial(losses.batch_all_triplet, margin=0.3, soft=True, distance=distance)
    theirs = pml.TripletMarginLoss(margin=0.3, smooth_loss=True, distance=lp(power))
    assert_equal_to(on_labels(theirs), lambda x: ours(x, LABELS))


@each_power
def test_batch_hard(power, distance):
    ours = functools.partial(losses.batch_hard_triplet, margin=0.3, distance=distance)
    theirs = pml.TripletMarginLoss(margin=0.3, distance=lp(power), reducer=reducers.MeanReducer())
    assert_equal_to(on_labels(theirs, miners.BatchHardMiner(distance=lp(power))), lambda x: ours(x, LABELS))


@each_power
@pytest.mark.parametrize("semi_hard", [False, True], ids=["hard", "semi_hard"])
def test_easy_positive(power, distance, semi_hard):
    ours = functools.partial(losses.easy_positive_triplet, margin=0.9, distance=distance, semi_hard=semi_hard)
    theirs = pml.TripletMarginLoss(margin=0.9, distance=lp(power), reducer=reducers.MeanReducer())
    miner = miners.BatchEasyHardMiner("easy", "semihard" if semi_hard else "hard", distance=lp(power))
    assert_equal_to(on_labels(theirs, miner), lambda x: ours(x, LABELS))


def test_signal_to_noise_contrastive():
    """With the regularizer of the paper; each side of the contrastive loss is averaged over its non-zeros."""
    theirs = pml.SignalToNoiseRatioContrastiveLoss(
        neg_margin=1.5, distance=SNR, embedding_regularizer=regularizers.ZeroMeanRegularizer(), embedding_reg_weight=0.3
    )

    def ours(x):
        pairs = losses.batch_linear_contrastive(
            x, LABELS, pos_margin=0.0, neg_margin=1.5, distance=losses.pairwise_snr_distance, active_only=True
        )
        return 2 * pairs + 0.3 * losses.zero_mean_regularizer(x)

    assert_equal_to(on_labels(theirs), ours)


def test_signal_to_noise_triplet():
    theirs = pml.TripletMarginLoss(margin=0.3, distance=SNR, reducer=reducers.MeanReducer())
    ours = functools.partial(losses.batch_all_triplet, margin=0.3, distance=losses.pairwise_snr_distance)
    assert_equal_to(on_labels(theirs), lambda x: ours(x, LABELS))


@pytest.mark.parametrize("swap", [False, True], ids=["", "swap"])
def test_given_triplets(swap):
    points = RNG.normal(size=(3, 9, 4))
    # PyTorch adds a small number to the differences, so as to have a gradient where they vanish.
    theirs = torch.nn.TripletMarginLoss(margin=0.8, eps=0, swap=swap)
    assert_equal_to(lambda x: theirs(*x), lambda x: losses.triplet_margin(*x, margin=0.8, swap=swap), points)
