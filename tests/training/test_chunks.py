"""Batches whose images are embedded in chunks: the numbers of the whole batch, for less memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import siamjax
from siamjax import encoders, heads, parallel
from siamjax.training import objectives, state
from siamjax.training.step import update
from siamjax.training.types import Batch

SHARE, SHAPE = 24, (8, 8, 1)


class Plain(nn.Module):
    """An encoder without batch statistics."""

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(8, (3, 3))(images))
        return nn.Dense(8)(nn.relu(nn.Conv(8, (3, 3))(x)).mean(axis=(1, 2)))


PLAIN = encoders.own(Plain())
NORMALISED = encoders.make("conv", 4, 8, axis_name=parallel.AXIS)


def one_step(devices, chunk, loss="ntxent", encoder=PLAIN, mode="identities"):
    """The state after one step of plain gradient descent, and its metrics, on images of 6 identities."""
    rng = np.random.default_rng(0)
    model = state.Model(encoder, heads.Distance())
    objective = objectives.make(loss, model.head, mode=mode)
    optimizer = optax.sgd(1.0)
    start = state.create(model, jax.random.key(1), SHAPE, optimizer, False, objective)
    label = np.arange(SHARE, dtype=np.int32) // 4
    images = rng.uniform(size=(devices, SHARE // devices, *SHAPE)).astype(np.float32)
    noise = jax.random.split(jax.random.key(2), (devices, SHARE // devices))
    step = functools.partial(update, model=model, objective=objective, optimizer=optimizer, chunk=chunk)

    def on_device(start, images, noise):
        return step(start, Batch(images, noise, label, np.zeros_like(label)))

    stepped = parallel.pmap(on_device, devices=jax.devices()[:devices])
    return parallel.first(stepped(parallel.replicate(start, jax.devices()[:devices]), images, noise))


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize(
    ("loss", "mode"), [("ntxent", "identities"), ("batch_hard_triplet", "identities"), ("contrastive", "pairs")]
)
def test_a_batch_in_chunks_has_the_gradient_of_the_whole(loss, mode, devices):
    whole, metrics = one_step(devices, 0, loss, mode=mode)
    chunked, of_chunks = one_step(devices, 4, loss, mode=mode)
    np.testing.assert_allclose(of_chunks["loss"], metrics["loss"], rtol=1e-5)
    np.testing.assert_allclose(of_chunks["gradient_norm"], metrics["gradient_norm"], rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), chunked.params, whole.params)


def test_batch_statistics_in_chunks_move_to_the_mean_over_chunks():
    whole, _ = one_step(1, 0, encoder=NORMALISED)
    chunked, _ = one_step(1, 12, encoder=NORMALISED)
    first = jax.tree.leaves(whole.batch_stats)[0], jax.tree.leaves(chunked.batch_stats)[0]
    # The mean over equal chunks is the mean of all, in the first layer.
    np.testing.assert_allclose(first[1], first[0], rtol=1e-4)


def test_a_batch_in_chunks_needs_less_memory():
    def peak(chunk):
        model = state.Model(PLAIN, heads.Distance())
        objective = objectives.make("ntxent", model.head, mode="identities")
        start = state.create(model, jax.random.key(1), (32, 32, 1), optax.sgd(1.0), False, objective)
        label = jnp.arange(256, dtype=jnp.int32) // 4
        batch = Batch(jnp.zeros((256, 32, 32, 1)), jax.random.split(jax.random.key(0), 256), label, label)
        step = functools.partial(update, model=model, objective=objective, optimizer=optax.sgd(1.0), chunk=chunk)
        one = jax.vmap(lambda batch: step(start, batch), axis_name=parallel.AXIS)
        compiled = jax.jit(one).lower(jax.tree.map(lambda x: x[None], batch)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert peak(16) < peak(0) / 3


def test_fit_takes_chunks_and_says_what_they_change(capsys):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(8), 8)
    x = rng.normal(size=(8, 5))[y] + 0.1 * rng.normal(size=(64, 5))
    plain = (lambda key, x: {"w": jax.random.normal(key, (x.shape[1], 4))}, lambda params, x: x @ params["w"])
    whole = siamjax.fit(x, y, encoder=plain, steps=5, identities=8).embed(x)
    chunked = siamjax.fit(x, y, encoder=plain, steps=5, identities=8, chunk=2).embed(x)
    np.testing.assert_allclose(chunked, whole, rtol=1e-3, atol=1e-4)
    assert "statistics" not in capsys.readouterr().out
    siamjax.fit(x, y, steps=1, identities=8, chunk=2)
    assert "they are those of 2 images," in capsys.readouterr().out
    with pytest.raises(ValueError, match="chunk=3 must divide 4"):
        siamjax.fit(x, y, steps=1, identities=8, chunk=3)
