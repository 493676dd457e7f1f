import jax
import jax.numpy as jnp
import numpy as np
from reference import ranked_list as oracle

from siamjax.losses import ranked_list

LABELS = np.array([7, -3, 7, 7, 11, -3, 7, 500])
EMBEDDINGS = np.random.default_rng(0).normal(size=(8, 3))
RANKS = {"alpha": 2.1, "margin": 0.7, "positive_temperature": 1.5, "negative_temperature": 3.0, "imbalance": 0.3}


def test_weights_are_constant_in_the_gradient():
    def frozen(embeddings):
        terms = oracle.ranked_list(embeddings, LABELS, np.ones(8, bool), weights_at=EMBEDDINGS, **RANKS)
        return sum(terms) / len(terms)

    with jax.enable_x64(True):
        run = jax.jit(jax.value_and_grad(lambda x: ranked_list(x, LABELS, **RANKS)))
        value, gradient = run(jnp.asarray(EMBEDDINGS))
    np.testing.assert_allclose(value, frozen(EMBEDDINGS), rtol=1e-10)
    for index in np.ndindex(EMBEDDINGS.shape):
        step = np.zeros_like(EMBEDDINGS)
        step[index] = 1e-6
        slope = (frozen(EMBEDDINGS + step) - frozen(EMBEDDINGS - step)) / 2e-6
        np.testing.assert_allclose(gradient[index], slope, rtol=1e-6, atol=1e-8)
