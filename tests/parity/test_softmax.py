"""Value and gradient of the softmax-like losses, in float64, against pytorch-metric-learning's and optax's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from siamjax.losses import (
    angular,
    generalized_lifted_structure,
    info_nce,
    lifted_structure,
    multi_similarity,
    n_pair_mc,
    ntxent,
    ranked_list,
    supervised_contrastive,
)

# One class of a single item: it has no positive.
LABELS = np.array([0, 3, 0, 0, 1, 3, 0, 2, 3, 1, 1])
EMBEDDINGS = np.random.default_rng(5).normal(size=(11, 6)) * np.linspace(0.4, 1.5, 6)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_ntxent_equals_optax(temperature):
    with jax.enable_x64(True):
        x = jnp.asarray(EMBEDDINGS)
        expected = jax.jit(jax.value_and_grad(optax.losses.ntxent))(x, jnp.asarray(LABELS), temperature)
        ours = jax.jit(jax.value_and_grad(functools.partial(ntxent, temperature=temperature)))(x, jnp.asarray(LABELS))
    for got, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="module")
def pml():
    return pytest.importorskip("pytorch_metric_learning.losses")


@pytest.fixture
def assert_equal_to(torch):
    """Both are functions of the embeddings, one of a torch tensor, one of a JAX array, to a scalar."""

    def check(theirs, ours, points=EMBEDDINGS, labels=LABELS):
        there = torch.tensor(points, requires_grad=True)
        expected = theirs(there, torch.tensor(labels))
        expected.backward()
        with jax.enable_x64(True):
            value, gradient = jax.jit(jax.value_and_grad(ours))(jnp.asarray(points))
        np.testing.assert_allclose(value, expected.item(), rtol=1e-10)
        scale = np.abs(there.grad.numpy()).max()
        np.testing.assert_allclose(gradient, there.grad.numpy(), rtol=1e-10, atol=1e-10 * scale)

    return check


def normalised(embeddings):
    return embeddings / jnp.linalg.norm(embeddings, axis=1, keepdims=True)


def test_ntxent(pml, assert_equal_to):
    assert_equal_to(pml.NTXentLoss(temperature=0.2), lambda x: ntxent(x, LABELS, temperature=0.2))
    assert_equal_to(pml.NTXentLoss(temperature=0.2), lambda x: info_nce(x, LABELS, scale=5.0))


def test_supervised_contrastive(pml, assert_equal_to):
    assert_equal_to(pml.SupConLoss(), lambda x: supervised_contrastive(x, LABELS))


def test_n_pair_of_the_first_pair_of_each_class(pml, assert_equal_to):
    anchor, positive = np.array([0, 4, 1]), np.array([2, 9, 5])
    dot = pytest.importorskip("pytorch_metric_learning.distances").DotProductSimilarity(normalize_embeddings=False)
    assert_equal_to(pml.NPairsLoss(distance=dot), lambda x: n_pair_mc(x[anchor], x[positive]))
    assert_equal_to(pml.NPairsLoss(), lambda x: n_pair_mc(normalised(x)[anchor], normalised(x)[positive]))


def test_multi_similarity(pml, assert_equal_to):
    loss = pml.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)
    assert_equal_to(loss, lambda x: multi_similarity(x, LABELS))


def test_multi_similarity_with_its_mining(pml, assert_equal_to):
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    loss, miner = pml.MultiSimilarityLoss(alpha=2, beta=9, base=0.4), miners.MultiSimilarityMiner(epsilon=0.1)
    assert_equal_to(
        lambda x, labels: loss(x, labels, miner(x, labels)),
        lambda x: multi_similarity(x, LABELS, alpha=2.0, beta=9.0, base=0.4, epsilon=0.1),
    )


def test_lifted_structure(pml, assert_equal_to):
    loss = functools.partial(lifted_structure, margin=0.7)
    assert_equal_to(pml.LiftedStructureLoss(neg_margin=0.7), lambda x: loss(normalised(x), LABELS))


def test_generalized_lifted_structure(pml, assert_equal_to):
    # Theirs also counts anchors without a positive, as if the sum over positives were 1; ours leaves them out.
    labels = np.where(LABELS == 2, 1, LABELS)
    assert_equal_to(
        pml.GeneralizedLiftedStructureLoss(neg_margin=0.7),
        lambda x: generalized_lifted_structure(normalised(x), labels, margin=0.7),
        labels=labels,
    )


def test_ranked_list(pml, assert_equal_to):
    # Theirs adds 1e-5 to every weight, which is lost where violations are broad and temperatures high; and its gradient
    # flows through the weights.
    with pytest.warns(UserWarning, match="Temperature|temperature|too high"):
        theirs = pml.RankedListLoss(alpha=1.9, margin=1.2, Tp=40, Tn=60, imbalance=0.3)
    ours = functools.partial(
        ranked_list,
        alpha=1.9,
        margin=1.2,
        positive_temperature=40.0,
        negative_temperature=60.0,
        imbalance=0.3,
        constant_weights=False,
    )
    assert_equal_to(theirs, lambda x: ours(normalised(x), LABELS))


@pytest.mark.parametrize("alpha", [40, 55])
def test_angular(torch, pml, assert_equal_to, alpha):
    loss, unit = pml.AngularLoss(alpha=alpha), torch.nn.functional.normalize
    assert_equal_to(lambda x, labels: loss(unit(x), labels), lambda x: angular(normalised(x), LABELS, alpha=alpha))

    def with_negatives_as_they_are(x):
        """What theirs is of embeddings of any length."""
        t2, u = np.tan(np.radians(alpha)) ** 2, normalised(x)
        same = LABELS[:, None] == LABELS[None, :]
        a, p = np.nonzero(same & ~np.eye(len(LABELS), dtype=bool))
        terms = 4 * t2 * (u[a] + u[p]) @ x.T - 2 * (1 + t2) * jnp.sum(u[a] * u[p], axis=1, keepdims=True)
        return jnp.mean(jax.nn.softplus(jax.nn.logsumexp(terms, axis=1, where=~same[a])))

    assert_equal_to(loss, with_negatives_as_they_are)
