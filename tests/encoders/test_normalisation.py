"""Batch normalisation: results, statistics and gradients are those of Flax's layer, whose gradient JAX derives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from siamjax.encoders._normalisation import BatchNorm


def parts(layer, variables, x, dy):
    """Result, statistics after it, and gradients by parameters and x, of training."""

    def apply(params, x):
        y, updated = layer.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(y * dy), (y, updated)

    grads, rest = jax.grad(apply, (0, 1), has_aux=True)(variables["params"], x)
    return *rest, *grads


def made(shape):
    rng = np.random.default_rng(0)
    channels = shape[-1]
    params = {"scale": rng.normal(size=channels), "bias": rng.normal(size=channels)}
    stats = {"mean": rng.normal(size=channels), "var": rng.uniform(0.5, 2, channels)}
    x = rng.normal(size=shape) * rng.uniform(0.1, 10, channels)
    return jax.tree.map(jnp.asarray, ({"params": params, "batch_stats": stats}, x, rng.normal(size=shape)))


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (7, 2)])
def test_training_equals_flax(shape):
    with jax.enable_x64(True):
        variables, x, dy = made(shape)
        settings = dict(use_running_average=False, momentum=0.9, dtype=jnp.float64)
        theirs = parts(nn.BatchNorm(**settings), variables, x, dy)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-9),
            parts(BatchNorm(**settings), variables, x, dy),
            theirs,
        )


@pytest.mark.parametrize("train", [False, True])
def test_half_precision_is_computed_in_single(train):
    variables, x, _ = jax.tree.map(lambda x: x.astype(jnp.float32), made((6, 5, 4, 3)))
    x = x.astype(jnp.bfloat16)
    settings = dict(use_running_average=not train, momentum=0.9)
    half, single = (
        BatchNorm(**settings, dtype=dtype).apply(variables, x.astype(dtype), mutable=["batch_stats"])
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    assert half[0].dtype == jnp.bfloat16
    np.testing.assert_array_equal(half[0], single[0].astype(jnp.bfloat16))
    jax.tree.map(np.testing.assert_array_equal, half[1], single[1])
    y, _ = nn.BatchNorm(**settings).apply(variables, x.astype(jnp.float32), mutable=["batch_stats"])
    np.testing.assert_allclose(single[0], y, rtol=1e-5, atol=1e-5)


def test_equal_values_have_finite_gradients_and_nan_stays():
    variables, x, dy = jax.tree.map(lambda x: x.astype(jnp.float32), made((6, 3)))
    layer = BatchNorm(use_running_average=False)
    y, _, grads, dx = parts(layer, variables, jnp.ones_like(x), dy)
    np.testing.assert_allclose(y, jnp.broadcast_to(variables["params"]["bias"], y.shape), atol=1e-6)
    assert all(np.isfinite(part).all() for part in jax.tree.leaves((grads, dx)))
    y, _, _, dx = parts(layer, variables, x.at[0, 1].set(jnp.nan), dy)
    for part in (y, dx):
        assert np.isnan(part[:, 1]).all() and np.isfinite(part[:, (0, 2)]).all()


def test_devices_share_the_statistics_and_the_gradient_of_the_whole_batch():
    variables, x, dy = jax.tree.map(lambda x: x.astype(jnp.float32), made((8, 5, 3)))
    alone = parts(BatchNorm(use_running_average=False), variables, x, dy)
    layer = BatchNorm(use_running_average=False, axis_name="devices")
    each = jax.pmap(functools.partial(parts, layer), "devices", in_axes=(None, 0, 0), devices=jax.devices()[:4])
    y, stats, grads, dx = each(variables, x.reshape(4, 2, 5, 3), dy.reshape(4, 2, 5, 3))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    close(y.reshape(x.shape), alone[0])
    jax.tree.map(lambda many, one: close(many, np.stack([one] * 4)), stats, alone[1])
    # Each device has its part of the sum.
    jax.tree.map(lambda many, one: close(many.sum(axis=0), one), grads, alone[2])
    close(dx.reshape(x.shape), alone[3])
