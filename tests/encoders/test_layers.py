"""Layers with gradients of their own, compared with Flax's and PyTorch's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from siamjax import encoders
from siamjax.encoders._layers import relu6
from siamjax.encoders._normalisation import BatchNorm

CHANNELS = 5


def normalise(kind, x, weights, axis_name=None, dtype=jnp.float32):
    """y, and the running statistics after it."""
    scale, bias = weights
    module = kind(use_running_average=False, momentum=0.7, dtype=dtype, axis_name=axis_name)
    start = {"mean": jnp.full(CHANNELS, 0.5), "var": jnp.full(CHANNELS, 2.0)}
    y, after = module.apply(
        {"params": {"scale": scale, "bias": bias}, "batch_stats": start}, x, mutable=["batch_stats"]
    )
    return y, after["batch_stats"]


def given(shape=(6, 4, 3, CHANNELS), mean=1.0, dtype=np.float32):
    rng = np.random.default_rng(0)
    weights = rng.normal(1, 0.5, CHANNELS).astype(np.float32), rng.normal(size=CHANNELS).astype(np.float32)
    return rng.normal(mean, 1, shape).astype(dtype), weights, rng.normal(size=shape).astype(np.float32)


def close(ours, flaxs, tolerance=1e-5):
    for got, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(flaxs), strict=True):
        assert got.shape == expected.shape and got.dtype == expected.dtype
        scale = np.abs(np.asarray(expected, np.float32)).max()
        np.testing.assert_allclose(
            *(np.asarray(a, np.float32) for a in (got, expected)), atol=tolerance * scale, rtol=0
        )


@pytest.mark.parametrize("shape", [(6, 4, 3, CHANNELS), (40, CHANNELS), (1, 3, 3, CHANNELS)])
def test_batch_normalisation_is_flaxs_in_value_statistics_and_two_gradients(shape):
    x, weights, slopes = given(shape)

    def loss(kind, x, weights):
        y, after = normalise(kind, x, weights)
        return jnp.sum(jnp.sin(y) * slopes), (y, after)

    def both(kind):
        first = jax.value_and_grad(functools.partial(loss, kind), (0, 1), has_aux=True)
        second = jax.grad(
            lambda x, weights: sum(jnp.sum(jnp.cos(g)) for g in jax.tree.leaves(first(x, weights)[1])), (0, 1)
        )
        return jax.jit(lambda: (first(x, weights), second(x, weights)))()

    close(both(BatchNorm), both(nn.BatchNorm))


@pytest.mark.parametrize("mean", [0, 30])
def test_gradients_of_batch_normalisation_are_as_exact_as_flaxs(mean):
    """Channels far from 0, where sums of products lose digits, against float64."""
    x, weights, slopes = given((64, 7, 7, CHANNELS), mean)

    def gradients(kind, dtype):
        def loss(x, weights):
            return jnp.sum(normalise(kind, x, weights, dtype=dtype)[0] * slopes)

        given = jax.tree.map(lambda a: jnp.asarray(a, dtype), (x, weights))
        return [np.asarray(gradient) for gradient in jax.tree.leaves(jax.jit(jax.grad(loss, (0, 1)))(*given))]

    with jax.enable_x64(True):
        exact = gradients(nn.BatchNorm, jnp.float64)
    both = gradients(BatchNorm, jnp.float32), gradients(nn.BatchNorm, jnp.float32)
    for our, flax, right in zip(*both, exact, strict=True):
        assert right.dtype == np.float64
        assert np.abs(our - right).max() <= 3 * np.abs(flax - right).max() + 1e-6 * np.abs(right).max()


def test_float64_images_keep_their_precision_with_float32_weights():
    x, weights, slopes = given(dtype=np.float64)

    def gradients(kind):
        loss = lambda x, weights: jnp.sum(normalise(kind, x, weights, dtype=jnp.float64)[0] * slopes)  # noqa: E731
        dx, dweights = jax.jit(jax.grad(loss, (0, 1)))(x, weights)
        return np.asarray(dx), dweights

    with jax.enable_x64(True):
        (ours, our_weights), (flaxs, flax_weights) = gradients(BatchNorm), gradients(nn.BatchNorm)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, flaxs, rtol=1e-9, atol=1e-12)
    close(our_weights, flax_weights)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_batch_normalisation_of_half_precision_is_computed_in_float32(dtype):
    x, weights, slopes = given(dtype=dtype)

    def gradients(kind):
        def loss(x, weights):
            y, after = normalise(kind, x, weights, dtype=dtype)
            return jnp.sum(y.astype(jnp.float32) * slopes), (y, after)

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(x, weights)

    close(gradients(BatchNorm), gradients(nn.BatchNorm), 2e-3 if dtype == np.float16 else 2e-2)


@pytest.mark.parametrize("check_vma", [False, True])
def test_batch_normalisation_over_devices_is_that_of_the_whole_batch(check_vma):
    x, weights, slopes = given((8, 4, 3, CHANNELS))
    mesh = jax.make_mesh((4,), ("devices",), devices=jax.devices()[:4], axis_types=(jax.sharding.AxisType.Auto,))
    parts = P("devices")

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(parts, P(), parts), out_specs=(P(), P(), parts, P()), check_vma=check_vma
    )
    def in_parts(x, weights, slopes):
        def loss(x, weights):
            y, after = normalise(BatchNorm, x, weights, "devices")
            return jnp.sum(jnp.sin(y) * slopes), after

        (value, after), (dx, dweights) = jax.value_and_grad(loss, (0, 1), has_aux=True)(x, weights)
        if not check_vma:  # Otherwise JAX adds up the gradients of what all devices share.
            dweights = jax.lax.psum(dweights, "devices")
        return jax.lax.psum(value, "devices"), after, dx, dweights

    def loss(x, weights):
        y, after = normalise(nn.BatchNorm, x, weights)
        return jnp.sum(jnp.sin(y) * slopes), after

    (value, after), (dx, dweights) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(x, weights)
    close(jax.jit(in_parts)(x, weights, slopes), (value, after, dx, dweights))


@pytest.mark.parametrize("name", ["mobilenet_v2", "conv4"])
def test_encoders_learn_in_shard_map(name):
    """Their weights are shared, and their images are not: gradients of weights are summed over devices."""
    encoder = encoders.make(name, width=4, embedding=8)
    x = np.random.default_rng(0).uniform(size=(4, 32, 32, 3)).astype(np.float32)
    variables = jax.jit(functools.partial(encoder.init, train=False))(jax.random.key(0), x)
    mesh = jax.make_mesh((2,), ("devices",), devices=jax.devices()[:2], axis_types=(jax.sharding.AxisType.Auto,))

    def gradient(x):
        loss = lambda params: jnp.sum(encoder.apply(variables | {"params": params}, x, train=False) ** 2)  # noqa: E731
        return jax.grad(loss)(variables["params"])

    in_parts = jax.shard_map(gradient, mesh=mesh, in_specs=P("devices"), out_specs=P())
    close(jax.jit(in_parts)(x), jax.jit(gradient)(x), 1e-4)


def test_batch_normalisation_starts_and_is_evaluated_as_flaxs():
    x, weights, _ = given()
    with jax.enable_x64(True):
        modules = [kind(use_running_average=False, dtype=jnp.float32) for kind in (BatchNorm, nn.BatchNorm)]
        close(*(module.init(jax.random.key(0), x) for module in modules))
    fixed = [kind(use_running_average=True, dtype=jnp.float32, epsilon=1e-5) for kind in (BatchNorm, nn.BatchNorm)]
    statistics = {"mean": jnp.linspace(-1, 1, CHANNELS), "var": jnp.linspace(0.1, 3, CHANNELS)}
    variables = {"params": dict(zip(("scale", "bias"), weights, strict=True)), "batch_stats": statistics}
    close(*(module.apply(variables, x) for module in fixed), 1e-6)


def test_nan_stays_in_its_channel():
    x, weights, _ = given()
    x[0, 0, 0, 2] = np.nan
    y = normalise(BatchNorm, x, weights)[0]
    np.testing.assert_array_equal(np.isnan(y).all((0, 1, 2)), np.arange(CHANNELS) == 2)
    assert np.isfinite(np.delete(y, 2, axis=3)).all()


def test_relu6_has_pytorchs_slope():
    """0 at both ends: `jnp.clip` has a half there."""
    x = jnp.array([-1.0, 0.0, 0.25, 3.0, 6.0, 7.0, np.inf, np.nan])
    np.testing.assert_array_equal(relu6(x), [0, 0, 0.25, 3, 6, 6, 6, np.nan])
    np.testing.assert_array_equal(jax.vmap(jax.grad(relu6))(x), [0, 0, 1, 1, 0, 0, 0, 0])
