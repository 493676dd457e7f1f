import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamjax import losses

LOGITS = np.array([2.5, -0.3, 0.0, -7.0, 1.1, 40.0, -120.0])
SAME = np.array([1, 0, 1, 0, 0, 1, 1])
WHERE = np.array([1, 1, 0, 1, 1, 0, 1], bool)


def oracle(logits, same, where):
    values = []
    for logit, is_same, counts in zip(logits, same, where, strict=True):
        if counts:
            margin = logit if is_same else -logit
            values.append(math.log1p(math.exp(-margin)) if margin > -30 else -margin)
    return sum(values) / len(values)


@pytest.mark.parametrize("dtype,tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_binary_cross_entropy_equals_the_loop(dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        logits = jnp.asarray(LOGITS, dtype)
        got = losses.binary_cross_entropy(logits, jnp.asarray(SAME), where=jnp.asarray(WHERE))
        assert got.dtype == dtype
        np.testing.assert_allclose(got, oracle(LOGITS, SAME, WHERE), rtol=tolerance)


def test_balanced_cross_entropy_weighs_both_kinds_alike():
    positive, negative = SAME.astype(bool) & WHERE, ~SAME.astype(bool) & WHERE
    expected = (oracle(LOGITS, SAME, positive) + oracle(LOGITS, SAME, negative)) / 2
    got = losses.balanced_binary_cross_entropy(
        jnp.asarray(LOGITS, jnp.float32), jnp.asarray(SAME), where=jnp.asarray(WHERE)
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [losses.binary_cross_entropy, losses.balanced_binary_cross_entropy])
@pytest.mark.parametrize("same", [np.zeros(7), np.ones(7), SAME])
def test_nothing_selected_gives_zero_and_no_gradient(loss, same):
    logits = jnp.asarray(LOGITS, jnp.float32)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: loss(x, jnp.asarray(same), where=jnp.zeros(7, bool))))(
        logits
    )
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(7))
    value, gradient = jax.value_and_grad(lambda x: loss(x, jnp.asarray(same)))(logits)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))


def test_per_item_values_and_sum():
    logits, same, where = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(SAME), jnp.asarray(WHERE)
    values = losses.binary_cross_entropy(logits, same, where=where, reduce_fn=None)
    assert values.shape == (7,) and values[2] == 0 and values[5] == 0
    total = losses.binary_cross_entropy(logits, same, where=where, reduce_fn=jnp.sum)
    np.testing.assert_allclose(total, values.sum(), rtol=1e-6)
