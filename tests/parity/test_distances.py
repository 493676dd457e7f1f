"""Value and gradient of all-pairs distances, in float64, against pytorch-metric-learning's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamjax import distances

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("pytorch_metric_learning.distances")

RNG = np.random.default_rng(5)
A, B, WEIGHTS = RNG.normal(size=(7, 6)), RNG.normal(size=(5, 6)) + 0.3, RNG.normal(size=(7, 5))
PAIRS = {
    "squared_euclidean": (lambda: theirs.LpDistance(normalize_embeddings=False, power=2), {}),
    "euclidean": (lambda: theirs.LpDistance(normalize_embeddings=False), {}),
    "l1": (lambda: theirs.LpDistance(normalize_embeddings=False, p=1), {}),
    "lp": (lambda: theirs.LpDistance(normalize_embeddings=False, p=3), {"p": 3}),
    "cosine": (theirs.CosineSimilarity, {}),
    "dot": (lambda: theirs.DotProductSimilarity(normalize_embeddings=False), {}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_distance(name):
    make, options = PAIRS[name]
    a, b = (torch.tensor(x, requires_grad=True) for x in (A, B))
    expected = 1 - make()(a, b) if name == "cosine" else make()(a, b)
    (expected * torch.tensor(WEIGHTS)).sum().backward()
    ours = functools.partial(getattr(distances, f"pairwise_{name}"), **options)
    with jax.enable_x64(True):
        value, back = jax.vjp(ours, jnp.asarray(A), jnp.asarray(B))
        gradients = back(jnp.asarray(WEIGHTS))
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-10)
    for got, there in zip(gradients, (a.grad, b.grad), strict=True):
        np.testing.assert_allclose(got, there.numpy(), rtol=1e-9, atol=1e-11)
