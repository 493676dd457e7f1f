"""Batch normalisation whose gradient needs fewer arrays of the size of its input."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


class BatchNorm(nn.BatchNorm):
    """Flax's batch normalisation of the last axis, over all others; in training, with a gradient of its own.

    Differentiated operation by operation, XLA stores two more arrays of the size of x on a CPU, and sums a third time.
    In training, it can be differentiated in reverse mode, any number of times, but not in forward mode.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x float [..., c] -> [..., c], of `dtype`."""
        if self.use_running_average:
            return jnp.asarray(super().__call__(x))
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        scale, bias = self.param("scale", self.scale_init, shape), self.param("bias", self.bias_init, shape)
        axis_name = None if self.is_initializing() else self.axis_name
        scale, bias = (weight.reshape((1,) * (x.ndim - 1) + shape) for weight in (scale, bias))
        results: tuple[jax.Array, ...] = _normalised(x, scale, bias, self.epsilon, axis_name)
        y, *of_batch = results
        if not self.is_initializing():
            for old, new in zip((mean, var), of_batch, strict=True):
                old.value = self.momentum * old.value + (1 - self.momentum) * lax.stop_gradient(new).reshape(shape)
        return y.astype(self.dtype or x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalised(x, scale, bias, epsilon, axis_name):
    """The normalised x, in at least float32, and mean and variance; scale, bias and these are [1, ..., c].

    The gradient is that of the first only.
    """
    return _forward(x, scale, bias, epsilon, axis_name)[0]


def _forward(x, scale, bias, epsilon, axis_name):
    wide = _wide(x)
    mean, square = _mean(jnp.stack([_sum(wide), _sum(jnp.square(wide))]) / _count(x), axis_name)
    var = jnp.maximum(square - jnp.square(mean), 0)
    inverse = lax.rsqrt(var + epsilon)
    y = (wide - mean) * (inverse * scale) + bias
    return (y, mean, var), (x, scale, mean, inverse)


def _backward(epsilon, axis_name, kept, slopes):
    x, scale, mean, inverse = kept
    wide, dy = _wide(x), slopes[0]
    # Not Σ dy (x − mean), for which XLA would store x − mean.
    dbias, dscale = _sum(dy), _sum(dy * wide)
    dscale = (dscale - mean * dbias) * inverse
    of_bias, of_scale = _mean(jnp.stack([dbias, dscale]) / _count(x), axis_name)
    dx = scale * inverse * (dy - of_bias - (wide - mean) * (inverse * of_scale))
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(scale.dtype)


_normalised.defvjp(_forward, _backward)


def _wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _sum(x):
    return jnp.sum(x, axis=tuple(range(x.ndim - 1)), keepdims=True)


def _count(x):
    return x.size // x.shape[-1]


def _mean(x, axis_name):
    return x if axis_name is None else lax.pmean(x, axis_name)
