"""Layers of the pretrained architectures. Names of layers are those in the files of their weights."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from siamjax import draws
from siamjax.encoders import _convolution as convolution
from siamjax.encoders._convolution import Method
from siamjax.encoders._depthwise import depthwise
from siamjax.encoders._normalisation import normalised


class Convolution(nn.Module):
    """A convolution without bias, padded by half the kernel.

    Attributes:
      channels: of the result.
      side: of the kernel; odd.
      stride: of both sides.
      per_channel: whether each channel has a kernel of its own.
      dtype, convolution: as of encoders.
    """

    channels: int
    side: int = 1
    stride: int = 1
    per_channel: bool = False
    dtype: Any = jnp.float32
    convolution: Method = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x float [n, h, w, c] -> float [n, ⌈h / stride⌉, ⌈w / stride⌉, channels]."""
        shape = (self.side, self.side, 1 if self.per_channel else x.shape[3], self.channels)
        kernel = self.param("kernel", draws.by_rows(nn.initializers.he_uniform()), shape)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if self.per_channel:
            return depthwise(x, kernel, self.stride)
        if self.side == 1:
            # On a CPU, a matrix product is faster than a convolution; of two axes, because for more XLA transposes a
            # whole array for the gradient, on one thread.
            x = x[:, :: self.stride, :: self.stride]
            return (x.reshape(-1, x.shape[3]) @ kernel[0, 0]).reshape(*x.shape[:3], self.channels)
        pads = ((self.side // 2, self.side // 2),) * 2
        return convolution.convolve(x, kernel, (self.stride,) * 2, pads, method=self.convolution)


def convolved(owner: Any, x: jax.Array, train: bool, names: tuple[str, str], channels: int, **shape: Any) -> jax.Array:
    """A `Convolution` of this `shape` with batch normalisation, both called by `names`, in `owner`'s compact method."""
    own = {"dtype": owner.dtype, "convolution": owner.convolution}
    x = Convolution(channels, **shape, **own, name=names[0])(x)
    return normalised(owner, x, train, names[1])


@jax.custom_jvp
def relu6(x: jax.Array) -> jax.Array:
    """x between 0 and 6, with a slope of 1 inside and of 0 at both ends and beyond, as PyTorch's."""
    return jnp.clip(x, 0, 6)


@relu6.defjvp
def _relu6_slope(primals, tangents):
    # The slope of `jnp.clip` halves at ties, by four arrays of the size of x that a CPU stores and divides.
    (x,), (dx,) = primals, tangents
    return relu6(x), jnp.where((x > 0) & (x < 6), dx, 0)
