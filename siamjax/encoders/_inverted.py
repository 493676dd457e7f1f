"""Networks of inverted residual blocks: MobileNetV2 and EfficientNet-Lite0."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from siamjax.encoders._convolution import Method
from siamjax.encoders._layers import convolved, relu6

# Stages: channels inside a block as a multiple of those that enter it, channels of its result, blocks, stride of the
# first one, side of the kernel.
MOBILENET_V2 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 32, 3, 2, 3),
    (6, 64, 4, 2, 3),
    (6, 96, 3, 1, 3),
    (6, 160, 3, 2, 3),
    (6, 320, 1, 1, 3),
)
EFFICIENTNET_LITE0 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


class Inverted(nn.Module):
    """Blocks that widen, convolve each channel by itself, and narrow again, with the input added; ReLU6.

    Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks (2018),
    https://arxiv.org/abs/1801.04381, table 2. EfficientNet-Lite0 is EfficientNet-B0 (Tan, Le, 2019,
    https://arxiv.org/abs/1905.11946) with ReLU6 and without squeeze-and-excitation,
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. Names of layers are timm's.

    Attributes:
      stages: `MOBILENET_V2` or `EFFICIENTNET_LITE0`.
      dtype, convolution, axis_name: as of encoders.
    """

    stages: tuple[tuple[int, int, int, int, int], ...] = MOBILENET_V2
    dtype: Any = jnp.float32
    convolution: Method = "auto"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x float [n, h, w, 3] -> features float [n, 1280]: means over the places of the last map."""
        x = relu6(convolved(self, x, train, ("conv_stem", "bn1"), 32, side=3, stride=2))
        for stage, (widening, channels, blocks, stride, side) in enumerate(self.stages):
            for number in range(blocks):
                block = functools.partial(self._block, name=f"blocks.{stage}.{number}.", train=train, side=side)
                x = block(x, widening, channels, stride=stride if number == 0 else 1)
        x = relu6(convolved(self, x, train, ("conv_head", "bn2"), 1280))
        return x.mean(axis=(1, 2), dtype=jnp.float32)

    def _block(self, x, widening, channels, *, name, train, side, stride):
        given, inside, steps = x, widening * x.shape[3], iter((1, 2, 3))

        def layer(x, kind, channels, **shape):
            return convolved(self, x, train, (name + kind, f"{name}bn{next(steps)}"), channels, **shape)

        if widening > 1:
            x = relu6(layer(x, "conv_pw", inside))
        x = relu6(layer(x, "conv_dw", inside, side=side, stride=stride, per_channel=True))
        x = layer(x, "conv_pwl" if widening > 1 else "conv_pw", channels)
        return given + x if given.shape == x.shape else x
