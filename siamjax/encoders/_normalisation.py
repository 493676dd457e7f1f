"""Batch normalisation whose gradient needs fewer arrays of the size of its input."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from siamjax import rows


class BatchNorm(nn.Module):
    """Flax's batch normalisation of the last axis, over all others; in training, with a gradient of its own.

    XLA's own gradient stores two more arrays of the size of x on a CPU, and takes a third pass of sums. In training, it
    can be differentiated in reverse mode, any number of times, but not in forward mode. The class is named like
    Flax's because layers are named after their classes, and checkpoints hold these names.

    Attributes:
      use_running_average: normalise by the running statistics, and leave them as they are.
      momentum: share of the running statistics that a step keeps.
      epsilon: added to variances.
      dtype: of the result.
      axis_name: of the devices whose statistics are averaged, or None.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x float [..., c] -> [..., c], of `dtype`."""
        channels = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        shape = (1,) * (x.ndim - 1) + channels
        weights = (
            self.param("scale", nn.initializers.ones, channels, jnp.float32),
            self.param("bias", nn.initializers.zeros, channels, jnp.float32),
        )
        scale, bias = (weight.reshape(shape).astype(_wide(x).dtype) for weight in weights)
        if self.use_running_average:
            statistics = mean.value.reshape(shape), var.value.reshape(shape)
            return _scaled(_wide(x), statistics, scale, bias, self.epsilon)[0].astype(self.dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        results: tuple[jax.Array, ...] = _normalised(x, *rows.vary_like(x, (scale, bias)), self.epsilon, axis_name)
        y, *of_batch = results
        if not self.is_initializing():
            for old, new in zip((mean, var), of_batch, strict=True):
                old.value = self.momentum * old.value + (1 - self.momentum) * lax.stop_gradient(new).reshape(channels)
        return y.astype(self.dtype)


def normalised(encoder: Any, x: jax.Array, train: bool, name: str | None = None) -> jax.Array:
    """Batch normalisation, as `encoder`'s attributes say; to be called in its compact method."""
    axis_name = encoder.axis_name if train else None
    return BatchNorm(use_running_average=not train, dtype=encoder.dtype, axis_name=axis_name, name=name)(x)


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
    y, inverse = _scaled(wide, (mean, var), scale, bias, epsilon)
    return (y, mean, var), (x, scale, mean, inverse)


def _backward(epsilon, axis_name, kept, slopes):
    x, scale, mean, inverse = kept
    wide, dy = _wide(x), slopes[0]
    # Not Σ dy (x − mean), for which XLA would store x − mean.
    dbias, dscale = _sum(dy), _sum(dy * wide)
    dscale = (dscale - mean * dbias) * inverse
    of_bias, of_scale = _mean(jnp.stack([dbias, dscale]) / _count(x), axis_name)
    dx = scale * inverse * (dy - of_bias - (wide - mean) * (inverse * of_scale))
    return dx.astype(x.dtype), dscale, dbias


_normalised.defvjp(_forward, _backward)


def _scaled(x, statistics, scale, bias, epsilon):
    """The normalised x, and 1 / its standard deviation."""
    mean, var = statistics
    inverse = lax.rsqrt(var + epsilon)
    return (x - mean) * (inverse * scale) + bias, inverse


def _wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _sum(x):
    return jnp.sum(x, axis=tuple(range(x.ndim - 1)), keepdims=True)


def _count(x):
    return x.size // x.shape[-1]


def _mean(x, axis_name):
    return x if axis_name is None else lax.pmean(x, axis_name)
