"""Training on assigned pairs: planned with the current network, repeatedly, and resumed where a plan begins."""

import functools

import jax
import numpy as np
import pytest

from configs import default
from siamjax import optimizer, parallel
from siamjax.data import Dataset
from siamjax.network import Network
from siamjax.run import parts, recipe
from siamjax.training import state
from siamjax.training.step import stepper, update


def long_tail():
    """Thirty identities with one pattern each and one to four noisy images."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(30), [1] * 12 + [2] * 8 + [3] * 6 + [4] * 4).astype(np.int32)
    images = rng.integers(0, 256, (30, 12, 12, 1))[label] + rng.normal(0, 25, (len(label), 12, 12, 1))
    nobody = np.zeros(len(label), np.int32)
    return Dataset(images.clip(0, 255).astype(np.uint8), label, nobody, nobody, ("all",))


@pytest.fixture(scope="module")
def config():
    config = default.get_config()
    config.data.name, config.augment.name = "omniglot", "none"
    config.batch.update(mode="assigned", pairs=16)
    config.batch.assigned.update(epochs=2, block=20)
    config.encoder.update(name="conv4", width=4, embedding=8)
    config.head.name = "four_feature"
    return config


@pytest.fixture(scope="module")
def training_parts(config):
    train = long_tail()
    config.train.validate_every = every = 2 * -(-2 * len(train) // 16)
    model = parts.make_model(config)
    objective = recipe.make_objective(config, model, train)
    transform = optimizer.make("adamw", config.optimizer.adamw, epoch_steps=100, steps=200)
    start = state.create(model, jax.random.key(0), train.images.shape[1:], transform)
    make_batches, images = recipe.make_batches(config, train, functools.partial(Network, model))
    assert images == 32
    step = functools.partial(update, model=model, objective=objective, optimizer=transform)

    def taker(key, first):
        return stepper(step, make_batches(key, first, 1000), key)

    return taker, start, every


def steps(take, current, first, count):
    losses = []
    for number in range(first, first + count):
        current, metrics = take(current, number, 1)
        losses.append(float(parallel.first(metrics)["loss"]))
    return current, losses


@pytest.mark.thorough
def test_a_run_that_resumes_where_a_plan_begins_takes_the_same_steps(training_parts):
    taker, start, every = training_parts
    key = jax.random.key(5)
    between, _ = steps(taker(key, 0), parallel.replicate(start), 0, every)
    saved = parallel.first(between)
    after, losses = steps(taker(key, 0), parallel.replicate(start), 0, 2 * every)
    resumed, again = steps(taker(key, every), parallel.replicate(saved), every, every)
    assert losses[every:] == again
    jax.tree.map(np.testing.assert_array_equal, parallel.first(after), parallel.first(resumed))


@pytest.mark.thorough
def test_training_on_assigned_pairs_learns_to_verify(training_parts):
    taker, start, every = training_parts
    _, losses = steps(taker(jax.random.key(5), 0), parallel.replicate(start), 0, 12 * every)
    assert np.mean(losses[-every:]) < 0.6 * np.mean(losses[:4])


def test_validation_must_coincide_with_the_start_of_a_plan(config, training_parts):
    _, _, every = training_parts
    config = config.copy_and_resolve_references()
    config.train.validate_every = every + 1
    with pytest.raises(ValueError, match=rf"train.validate_every={every + 1} must be a multiple of {every}, the steps"):
        recipe.make_batches(config, long_tail())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.turns", 4, "needs data.turns=1 and an even batch.pairs; found 4"),
        ("data.stream", True, "in memory: it cannot be used with"),
    ],
)
def test_settings_that_do_not_fit_are_refused(config, training_parts, key, value, message):
    config = config.copy_and_resolve_references()
    part, name = key.split(".")
    config[part].update({name: value})
    with pytest.raises(ValueError, match=message):
        recipe.make_batches(config, long_tail())


def test_images_that_are_drawn_in_the_step_are_refused(config):
    config = config.copy_and_resolve_references()
    config.data.name = "glyphs"
    with pytest.raises(ValueError, match="cannot be used with data.name='glyphs'"):
        recipe.make_batches(config, None)
