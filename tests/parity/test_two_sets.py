"""Value and gradients of losses between two sets, on given pairs, and of those that no other file compares, in float64,
against pytorch-metric-learning's."""

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

RNG = np.random.default_rng(7)
X, Y = RNG.normal(size=(9, 5)) * np.linspace(0.4, 1.5, 5), RNG.normal(size=(12, 5)) + 0.2
# One class of a single item, and one that only the other set has.
LABELS, OTHERS = np.array([0, 3, 0, 0, 1, 3, 0, 2, 1]), np.array([3, 0, 0, 1, 3, 0, 2, 5, 1, 1, 3, 0])
DRAWN = RNG.random((9, 12))
MASKS = DRAWN < 0.3, DRAWN > 0.6  # every anchor has both
LP, MEAN = functools.partial(pml_distances.LpDistance, normalize_embeddings=False), reducers.MeanReducer()


def unit(x):
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def assert_equal_to(theirs, ours, *points, tolerance=1e-9):
    there = [torch.tensor(x, requires_grad=True) for x in points]
    expected = theirs(*there)
    expected.backward()
    with jax.enable_x64(True):
        both = jax.jit(jax.value_and_grad(lambda points: ours(*points)))
        value, gradients = both([jnp.asarray(x) for x in points])
    assert expected.item() != 0
    np.testing.assert_allclose(value, expected.item(), rtol=tolerance)
    for got, wanted in zip(gradients, there, strict=True):
        wanted = wanted.grad.numpy()
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())


tuplet_margin = functools.partial(losses.tuplet_margin, m=np.radians(10), s=8.0)
# (theirs, ours of embeddings and what says which pairs count)
BOTH = {
    "contrastive": (
        lambda: pml.ContrastiveLoss(pos_margin=0.3, neg_margin=4.0, distance=LP()),
        lambda x, labels, **given: (
            2 * losses.batch_linear_contrastive(x, labels, pos_margin=0.3, neg_margin=4.0, active_only=True, **given)
        ),
    ),
    "triplet": (
        lambda: pml.TripletMarginLoss(margin=0.3, distance=LP(power=2), reducer=MEAN),
        functools.partial(
            losses.batch_all_triplet, margin=0.3, distance=distances.pairwise_squared_euclidean
        ),
    ),
    "ntxent": (lambda: pml.NTXentLoss(temperature=0.2), functools.partial(losses.ntxent, temperature=0.2)),
    "supervised_contrastive": (lambda: pml.SupConLoss(), losses.supervised_contrastive),
    "multi_similarity": (lambda: pml.MultiSimilarityLoss(), losses.multi_similarity),
    "circle": (lambda: pml.CircleLoss(gamma=8), functools.partial(losses.circle, gamma=8.0)),
    "generalized_lifted_structure": (
        lambda: pml.GeneralizedLiftedStructureLoss(distance=LP()), losses.generalized_lifted_structure
    ),
    "margin": (
        lambda: pml.MarginLoss(margin=0.3, beta=2.125, distance=LP()),
        functools.partial(losses.margin, alpha=0.3, beta=2.125),
    ),
    "tuplet_margin": (
        lambda: pml.TupletMarginLoss(margin=10, scale=8), tuplet_margin
    ),
    "intra_pair_variance": (
        lambda: pml.IntraPairVarianceLoss(reducer=MEAN),
        lambda x, labels, **given: 2 * losses.intra_pair_variance(x, labels, **given),
    ),
}  # fmt: skip
each = pytest.mark.parametrize("name", BOTH)


@each
def test_two_sets(name):
    theirs, ours = BOTH[name]
    assert_equal_to(
        lambda x, y: theirs()(x, torch.tensor(LABELS), None, y, torch.tensor(OTHERS)),
        lambda x, y: ours(x, LABELS, others=(y, OTHERS)),
        X,
        Y,
    )


@each
def test_given_pairs(name):
    theirs, ours = BOTH[name]
    positive, negative = ([torch.tensor(x) for x in np.nonzero(mask)] for mask in MASKS)
    triplets = [torch.tensor(x) for x in np.nonzero(MASKS[0][:, :, None] & MASKS[1][:, None, :])]
    given = triplets if name in ("triplet", "margin") else (*positive, *negative)
    assert_equal_to(
        lambda x, y: theirs()(x, None, given, y), lambda x, y: ours(x, None, others=(y, None), pairs=MASKS), X, Y
    )


def test_nca():
    labels, others = torch.tensor(LABELS), torch.tensor(OTHERS)
    theirs = pml.NCALoss(softmax_scale=0.7, distance=LP(power=2))
    ours = functools.partial(losses.nca, scale=0.7)
    assert_equal_to(lambda x: theirs(x, labels), lambda x: ours(x, LABELS), X)
    assert_equal_to(
        lambda x, y: theirs(x, labels, None, y, others), lambda x, y: ours(x, LABELS, others=(y, OTHERS)), X, Y
    )


def test_angular_of_two_sets():
    normal = torch.nn.functional.normalize
    theirs = pml.AngularLoss(alpha=40)
    assert_equal_to(
        lambda x, y: theirs(normal(x), torch.tensor(LABELS), None, normal(y), torch.tensor(OTHERS)),
        lambda x, y: losses.angular(unit(x), LABELS, alpha=40, others=(unit(y), OTHERS)),
        X,
        Y,
    )


def test_fast_ap():
    theirs = pml.FastAPLoss(num_bins=8)
    assert_equal_to(lambda x: theirs(x, torch.tensor(LABELS)), lambda x: losses.fast_ap(x, LABELS, bins=8), X)


def test_histogram():
    theirs = pml.HistogramLoss(n_bins=16)
    assert_equal_to(lambda x: theirs(x, torch.tensor(LABELS)), lambda x: losses.histogram(x, LABELS, bins=16), X)


def test_smooth_ap_counts_the_anchor_among_its_positives_there():
    labels, theirs = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2]), pml.SmoothAPLoss(temperature=0.1)
    assert_equal_to(
        # Theirs fills in values of float32.
        lambda x: theirs(x, torch.tensor(labels)),
        lambda x: losses.smooth_ap(x, labels, temperature=0.1, others=(x, labels)),
        X,
        tolerance=1e-6,
    )


def test_vicreg():
    theirs, each = pml.VICRegLoss(invariance_lambda=3, variance_mu=5, covariance_v=2), np.arange(9)
    assert_equal_to(
        lambda x, y: theirs(x, ref_emb=y),
        lambda x, y: losses.vicreg(x, each, invariance=3.0, variance=5.0, covariance=2.0, others=(y, each)),
        X / 2,
        Y[:9] / 2,
    )
