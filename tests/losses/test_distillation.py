import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamjax import losses

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(2, 5, 7)) * 3
WHERE = RNG.random((5, 7)) < 0.6
WHERE[3] = False  # an anchor with nothing to compare


def oracle(student, teacher, temperature, where):
    """Per anchor, in float64, term by term."""
    values = np.zeros(len(student))
    for i, row in enumerate(where):
        own, their = (np.exp(x[i][row] / temperature) for x in (student, teacher))
        for p, q in zip(their / their.sum(), own / own.sum(), strict=True):
            values[i] += temperature**2 * p * np.log(p / q)
    return values


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_it_is_the_divergence_of_the_rankings(temperature):
    expected = oracle(STUDENT, TEACHER, temperature, WHERE)
    found = losses.similarity_distillation(STUDENT, TEACHER, temperature=temperature, where=WHERE, reduce_fn=None)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    mean = losses.similarity_distillation(STUDENT, TEACHER, temperature=temperature, where=WHERE)
    np.testing.assert_allclose(mean, expected[WHERE.any(axis=1)].mean(), rtol=1e-5)


def test_scores_that_rank_alike_cost_nothing_and_descent_reaches_them():
    assert losses.similarity_distillation(TEACHER + 4.0, TEACHER) == pytest.approx(0, abs=1e-6)
    slope = jax.jit(jax.grad(lambda x: losses.similarity_distillation(x, TEACHER)))
    x = jnp.asarray(STUDENT)
    for _ in range(2000):
        x -= 2.0 * slope(x)
    np.testing.assert_allclose(jax.nn.softmax(x), jax.nn.softmax(TEACHER), atol=1e-2)


def test_nothing_flows_into_the_teacher_nor_from_what_does_not_count():
    spoilt = np.where(WHERE, STUDENT, np.nan), np.where(WHERE, TEACHER, np.inf)
    value, (own, of_teacher) = jax.value_and_grad(
        lambda *x: losses.similarity_distillation(*x, where=WHERE), argnums=(0, 1)
    )(*map(jnp.asarray, spoilt))
    np.testing.assert_allclose(value, losses.similarity_distillation(STUDENT, TEACHER, where=WHERE), rtol=1e-6)
    np.testing.assert_array_equal(of_teacher, 0)
    assert np.all(np.isfinite(own)) and np.all(own[~WHERE] == 0) and np.any(own != 0)
    assert losses.similarity_distillation(STUDENT, TEACHER, where=np.zeros_like(WHERE)) == 0
