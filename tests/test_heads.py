import jax
import jax.numpy as jnp
import numpy as np

from siamjax import heads

RNG = np.random.default_rng(5)
A, B = RNG.normal(size=(4, 6)).astype(np.float32), RNG.normal(size=(3, 6)).astype(np.float32)


def test_weighted_l1_equals_the_loop_for_pairs_and_for_all_against_all():
    head = heads.make("weighted_l1")
    params = head.init(jax.random.key(0), A, A)
    weight, bias = np.asarray(params["params"]["weight"]), float(params["params"]["bias"])
    logits = head.apply(params, A, B, method="all_pairs")
    assert logits.shape == (4, 3)
    for i in range(4):
        for j in range(3):
            expected = bias + sum(weight[k] * abs(float(A[i, k]) - float(B[j, k])) for k in range(6))
            np.testing.assert_allclose(logits[i, j], expected, rtol=1e-5)
    np.testing.assert_allclose(head.apply(params, A[:3], B), jnp.diagonal(logits[:3]), rtol=1e-5)
    np.testing.assert_allclose(head.apply(params, B, A, method="all_pairs"), logits.T, rtol=1e-6)


def test_gradient_is_finite_where_embeddings_coincide():
    head = heads.make("weighted_l1")
    params = head.init(jax.random.key(0), A, A)
    gradient = jax.grad(lambda x: head.apply(params, x, x, method="all_pairs").sum())(jnp.asarray(A))
    assert np.all(np.isfinite(gradient))


def test_weights_start_as_kochs():
    head = heads.make("weighted_l1")
    wide = jnp.zeros((2, 4096))
    params = head.init(jax.random.key(1), wide, wide)["params"]
    assert abs(float(params["weight"].std()) - 0.2) < 0.01 and abs(float(params["weight"].mean())) < 0.02
    assert abs(float(params["bias"]) - 0.5) < 0.05
