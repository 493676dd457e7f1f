"""Every batch loss between two sets, and on given pairs: value and gradient of the loops, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses import test_all_pairs, test_batch_triplet, test_softmax_properties
from reference.pair import mean
from reference.softmax import Given

from siamjax.training.objectives import BATCH_LOSSES

RNG = np.random.default_rng(4)
# Sets of different size, class counts and scale; class 9 is in one only.
X, Y = RNG.normal(size=(6, 3)) * [1.0, 0.4, 1.3], RNG.normal(size=(8, 3)) * [0.7, 1.1, 0.5] + 0.2
LABELS, OTHER_LABELS = np.array([7, -3, 7, 2, 9, -3]), np.array([-3, 7, 7, 2, -3, 5, 7, 2])
WHERE = np.array([1, 1, 1, 1, 0, 1], bool)
# Several labels each: same are those that share one, ignored those of an unknown item (column 5), nothing is symmetric.
SAME = RNG.random((6, 8)) < 0.35
COUNTS = RNG.random((6, 8)) < 0.8
COUNTS[:, 5] = False


def mean_of_terms(terms):
    return lambda *batch: mean(terms(*batch))


CASES = {name: pair for name, pair in test_all_pairs.LOSSES.items() if name != "circle"}
CASES |= {name: (loss, mean_of_terms(terms)) for name, (loss, terms) in test_softmax_properties.LOSSES.items()}
CASES |= {
    name: (functools.partial(loss, **options), lambda *batch, oracle=oracle: oracle(*batch)[0])
    for name, (loss, options, oracle) in test_batch_triplet.LOSSES.items()
}
CASES["circle"] = test_all_pairs.LOSSES["circle"]


def ways(loss):
    """Three ways to say what is compared with what: functions of (x, y), and the pairs of the oracle."""
    n = len(X)
    within = Given(SAME[:, :n] & COUNTS[:, :n], ~SAME[:, :n] & COUNTS[:, :n], 0)
    across = Given(SAME & COUNTS, ~SAME & COUNTS, n)
    same = LABELS[:, None] == OTHER_LABELS
    return (
        (lambda x, y: loss(x, LABELS, others=(y, OTHER_LABELS), where=WHERE), Given(same, ~same, n)),
        (lambda x, y: loss(x, None, pairs=(within.positive, within.negative), where=WHERE), within),
        (lambda x, y: loss(x, None, others=(y, None), pairs=(across.positive, across.negative), where=WHERE), across),
    )


def test_all_batch_losses_are_here():
    functions = {case[0].func if isinstance(case[0], functools.partial) else case[0] for case in CASES.values()}
    assert functions == {loss for name, loss in BATCH_LOSSES.items()}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_equal_the_loop(name):
    loss, oracle = CASES[name]
    every = ways(loss)
    directions = [np.random.default_rng(seed).normal(size=(14, 3)) for seed in range(2)]
    # Compiled in haste, for there are many.
    compiled = jax.jit(
        lambda x, y: [jax.value_and_grad(way, argnums=(0, 1))(x, y) for way, _ in every],
        compiler_options={"xla_backend_optimization_level": 0},
    )
    with jax.enable_x64(True):
        results = compiled(jnp.asarray(X), jnp.asarray(Y))
    points = np.concatenate([X, Y])
    for (value, gradients), (_, given) in zip(results, every, strict=True):
        expected = oracle(points, given, WHERE)
        assert value.dtype == np.float64 and (expected != 0 or name == "semi_hard_only")  # few have such a negative
        np.testing.assert_allclose(value, expected, rtol=1e-9)
        gradient = np.concatenate(gradients)
        assert given.offset or not np.any(gradient[6:])
        np.testing.assert_array_equal(gradient[4], 0)
        oracle_at = functools.partial(oracle, weights_at=points) if name == "circle" else oracle
        for direction in directions:
            up, down = (oracle_at(points + step * direction, given, WHERE) for step in (1e-6, -1e-6))
            np.testing.assert_allclose(np.sum(gradient * direction), (up - down) / 2e-6, rtol=1e-5, atol=1e-8)
