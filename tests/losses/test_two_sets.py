"""Every batch loss between two sets, and on given pairs: value and gradient of the loops, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses import test_all_pairs, test_batch_triplet, test_softmax_properties
from reference import decoupled, margin, ranking
from reference import mining as mining_oracle
from reference.pair import mean
from reference.softmax import Given

from siamjax import losses, mining
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


def case(loss, oracle, of_terms=True, **options):
    oracle = functools.partial(oracle, **options)
    return functools.partial(loss, **options), mean_of_terms(oracle) if of_terms else oracle


# Those that no other file tests.
NEW = {
    "margin": case(losses.margin, margin.margin, alpha=0.3, beta=1.5, active_only=True),
    "margin_of_all": case(losses.margin, margin.margin, alpha=0.3, beta=1.5, active_only=False),
    "tuplet_margin": case(losses.tuplet_margin, margin.tuplet_margin, m=0.2, s=7.0),
    "intra_pair_variance": case(
        losses.intra_pair_variance, margin.intra_pair_variance, False, pos_eps=0.05, neg_eps=0.02, balance=0.3
    ),
    "fast_ap": case(losses.fast_ap, ranking.fast_ap, bins=7),
    "smooth_ap": case(losses.smooth_ap, ranking.smooth_ap, temperature=0.2),
    "histogram": case(losses.histogram, ranking.histogram, False, bins=9),
    "decoupled_contrastive": case(
        losses.decoupled_contrastive, decoupled.decoupled_contrastive, temperature=0.3, sigma=None
    ),
    "decoupled_contrastive_weighted": case(
        losses.decoupled_contrastive, decoupled.decoupled_contrastive, temperature=0.3, sigma=0.6
    ),
    "nca": case(losses.nca, decoupled.nca, scale=1.3),
    "ge2e": case(losses.ge2e, decoupled.ge2e, w=6.0, b=-2.0, contrast=False),
    "ge2e_contrast": case(losses.ge2e, decoupled.ge2e, w=6.0, b=-2.0, contrast=True),
    "vicreg": case(losses.vicreg, decoupled.vicreg, False, invariance=3.0, variance=2.0, covariance=1.5, epsilon=1e-3),
}
CASES |= NEW


def ways(name):
    """Three or four ways to say what is compared with what: functions of (x, y), and the pairs of the oracle."""
    loss = CASES[name][0]
    n = len(X)
    within = Given(SAME[:, :n] & COUNTS[:, :n], ~SAME[:, :n] & COUNTS[:, :n], 0)
    across = Given(SAME & COUNTS, ~SAME & COUNTS, n)
    same = LABELS[:, None] == OTHER_LABELS
    alone = (
        [(lambda x, y: loss(x, LABELS, where=WHERE), Given(*mining_oracle.masks(LABELS), 0, LABELS))]
        if name in NEW
        else []
    )
    return [
        *alone,
        (lambda x, y: loss(x, LABELS, others=(y, OTHER_LABELS), where=WHERE), Given(same, ~same, n, OTHER_LABELS)),
        (lambda x, y: loss(x, None, pairs=(within.positive, within.negative), where=WHERE), within),
        (lambda x, y: loss(x, None, others=(y, None), pairs=(across.positive, across.negative), where=WHERE), across),
    ]


def test_all_batch_losses_are_here():
    functions = {case[0].func if isinstance(case[0], functools.partial) else case[0] for case in CASES.values()}
    assert functions == {loss for name, loss in BATCH_LOSSES.items()}


@pytest.mark.sweep
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_equal_the_loop(name):
    oracle = CASES[name][1]
    every = ways(name)
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
            np.testing.assert_allclose(np.sum(gradient * direction), (up - down) / 2e-6, rtol=1e-5, atol=1e-7)
    for extreme in (np.zeros((14, 3)), np.full((14, 3), 0.7), 1e4 * points, 1e-6 * points):
        with jax.enable_x64(True):
            values = compiled(jnp.asarray(extreme[:6]), jnp.asarray(extreme[6:]))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(values))


def test_split_over_devices_equals_one_device():
    """Both sets are split; the masks are of the whole batch."""
    x, y = RNG.normal(size=(2, 16, 3)).astype(np.float32)
    labels, other_labels = RNG.integers(0, 4, size=(2, 16))
    same, where = labels[:, None] == other_labels, RNG.random(16) < 0.8

    def loss(shift, x, y, labels, other_labels, where, axis_name=None):
        given = {"where": where, "axis_name": axis_name}
        by_label = losses.ntxent(x + shift, labels, others=(y, other_labels), **given)
        return by_label, losses.batch_all_triplet(x + shift, None, others=(y, None), pairs=(same, ~same), **given)

    def on_a_device(*shares):
        return jax.lax.pmean(jax.jacrev(loss)(jnp.float32(0.7), *shares, axis_name="devices"), "devices")

    arrays = x, y, labels, other_labels, where
    each = jax.pmap(on_a_device, "devices")(*(array.reshape(8, 2, *array.shape[1:]) for array in arrays))
    alone = jax.jit(jax.jacrev(loss))(jnp.float32(0.7), *arrays)
    for got, expected in zip(each, alone, strict=True):
        np.testing.assert_allclose(got, np.full(8, expected), rtol=1e-4)


def test_a_memory_is_compared_with_by_its_lookup():
    """Its empty slots, and an image's own copies, are neither positives nor negatives."""
    items = np.arange(6) + 10
    memory = mining.push(mining.init_memory(9, 3), Y[:4], OTHER_LABELS[:4], [10, 21, 22, 23])
    found = mining.lookup(memory, LABELS, items)
    stored = memory.embedding.at[4:].set(np.nan)  # whatever empty slots hold
    loss = functools.partial(losses.ntxent, X, LABELS)
    value = loss(others=(stored, memory.label), pairs=found)
    same = LABELS[:, None] == OTHER_LABELS[:4]
    other = np.ones((6, 4), bool)
    other[0, 0] = False
    np.testing.assert_allclose(value, loss(others=(Y[:4], None), pairs=(same & other, ~same & other)), rtol=1e-6)


def test_options_that_must_be_above_0_are_refused_with_their_name():
    for loss, option in (
        (losses.smooth_ap, "temperature"),
        (losses.fast_ap, "bins"),
        (losses.histogram, "bins"),
        (losses.decoupled_contrastive, "sigma"),
    ):
        with pytest.raises(ValueError, match=f"{option}=0 must be above 0"):
            loss(X, LABELS, **{option: 0})


def test_what_does_not_fit_is_refused():
    both = np.ones((6, 8), bool), np.zeros((6, 8), bool)
    for given, message in (
        ({"labels": None}, "labels=None: give labels, or pairs="),
        ({"others": Y}, "others: found ndarray, expected"),
        ({"others": (Y, None)}, "others: found no labels"),
        ({"others": (Y, OTHER_LABELS + 2**40)}, "labels of others: found .*beyond JAX's"),
        ({"pairs": both}, r"pairs: found a mask of shape \(6, 8\), expected \(6, 6\)"),
        ({"others": (Y, None), "pairs": (both[0] / 2, both[1])}, "pairs: found float64, but it is a mask"),
    ):
        with pytest.raises(ValueError, match=message):
            losses.circle(X, **{"labels": LABELS, **given})
