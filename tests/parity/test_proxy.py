"""Value and gradients of the proxy losses, in float64, against pytorch-metric-learning's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamjax import distances, losses

torch = pytest.importorskip("torch")
pml = pytest.importorskip("pytorch_metric_learning.losses")
pml_distances = pytest.importorskip("pytorch_metric_learning.distances")

torch.set_num_threads(1)

RNG = np.random.default_rng(6)
CLASSES, CENTERS, DIMENSION = 5, 3, 6
LABELS = np.array([0, 3, 0, 0, 1, 3, 0, 4, 3, 1, 1])
EMBEDDINGS = RNG.normal(size=(11, DIMENSION)) * np.linspace(0.4, 1.5, DIMENSION)
PROXIES = RNG.normal(size=(CLASSES, DIMENSION)) * np.linspace(0.5, 2, CLASSES)[:, None]
EMBEDDINGS[7] = -PROXIES[4] + 0.1 * EMBEDDINGS[7]  # beyond ArcFace's π − m


def assert_equal_to(theirs, ours, parameter="W", points=PROXIES, tolerance=1e-10):
    """`theirs` is a module that keeps the points in `parameter`, transposed but for proxies; `ours` is a function."""
    flat = points.reshape(-1, DIMENSION)
    kept = torch.nn.Parameter(torch.tensor(flat if parameter == "proxies" else flat.T.copy()))
    setattr(theirs, parameter, kept)
    there = torch.tensor(EMBEDDINGS, requires_grad=True)
    expected = theirs(there, torch.tensor(LABELS))
    expected.backward()
    of_points = kept.grad.numpy() if parameter == "proxies" else kept.grad.numpy().T
    with jax.enable_x64(True):

        def loss(embeddings, points):
            return ours(embeddings, jnp.asarray(LABELS), points)

        value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(
            jnp.asarray(EMBEDDINGS), jnp.asarray(points)
        )
    np.testing.assert_allclose(value, expected.item(), rtol=tolerance)
    for got, wanted in zip(gradients, (there.grad.numpy(), of_points.reshape(points.shape)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("scale", [1.0, 9.0])
def test_proxy_nca_of_unit_length(scale):
    def distance(x, p):
        return 2 * distances.pairwise_cosine(x, p)

    ours = functools.partial(losses.proxy_nca, scale=scale, include_positive=True, distance=distance)
    assert_equal_to(pml.ProxyNCALoss(CLASSES, DIMENSION, softmax_scale=scale), ours, "proxies")


def test_proxy_nca_as_it_is():
    theirs = pml_distances.LpDistance(normalize_embeddings=False, power=2)
    ours = functools.partial(losses.proxy_nca, include_positive=True)
    assert_equal_to(pml.ProxyNCALoss(CLASSES, DIMENSION, distance=theirs), ours, "proxies")


@pytest.mark.parametrize("delta,alpha", [(0.1, 32.0), (0.3, 5.0)])
def test_proxy_anchor(delta, alpha):
    ours = functools.partial(losses.proxy_anchor, delta=delta, alpha=alpha)
    assert_equal_to(pml.ProxyAnchorLoss(CLASSES, DIMENSION, margin=delta, alpha=alpha), ours, "proxies")


@pytest.mark.parametrize("degrees,s", [(28.6, 64.0), (60.0, 8.0)])
def test_arcface(degrees, s):
    ours = functools.partial(losses.arcface, m=np.radians(degrees), s=s)
    assert_equal_to(pml.ArcFaceLoss(CLASSES, DIMENSION, margin=degrees, scale=s), ours)


@pytest.mark.parametrize("m,s", [(0.35, 64.0), (0.1, 8.0)])
def test_cosface(m, s):
    ours = functools.partial(losses.cosface, m=m, s=s)
    assert_equal_to(pml.CosFaceLoss(CLASSES, DIMENSION, margin=m, scale=s), ours)


def test_cosface_without_margin_is_the_normalised_softmax():
    for distance in (None, pml_distances.CosineSimilarity()):
        theirs = pml.NormalizedSoftmaxLoss(CLASSES, DIMENSION, temperature=0.05, distance=distance)
        assert_equal_to(theirs, functools.partial(losses.cosface, m=0.0, s=20.0))


@pytest.mark.parametrize("lam,delta,gamma", [(20.0, 0.01, 0.1), (5.0, 0.2, 0.5)])
def test_soft_triple(lam, delta, gamma):
    ours = functools.partial(losses.soft_triple, lam=lam, delta=delta, gamma=gamma)
    theirs = pml.SoftTripleLoss(CLASSES, DIMENSION, centers_per_class=CENTERS, la=lam, margin=delta, gamma=gamma)
    assert_equal_to(theirs, ours, "fc", RNG.normal(size=(CLASSES, CENTERS, DIMENSION)))


@pytest.mark.parametrize("degrees,s", [(28.6, 64.0), (60.0, 8.0)])
def test_sub_center_arcface(degrees, s):
    ours = functools.partial(losses.sub_center_arcface, m=np.radians(degrees), s=s)
    theirs = pml.SubCenterArcFaceLoss(
        num_classes=CLASSES, embedding_size=DIMENSION, margin=degrees, scale=s, sub_centers=CENTERS
    )
    assert_equal_to(theirs, ours, points=RNG.normal(size=(CLASSES, CENTERS, DIMENSION)))


@pytest.mark.parametrize("m,s", [(4, 1.0), (3, 2.0)])
def test_sphereface(m, s):
    ours = functools.partial(losses.sphereface, m=m, s=s)
    assert_equal_to(pml.SphereFaceLoss(CLASSES, DIMENSION, margin=m, scale=s), ours)
