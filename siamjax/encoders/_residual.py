"""The residual networks of ImageNet: ResNet-18 and ResNet-50."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from siamjax.encoders._convolution import Method
from siamjax.encoders._layers import convolved


class Residual(nn.Module):
    """A 7×7 convolution, pooled by 2, and four stages of residual blocks, each but the first at half the size.

    He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (2015), https://arxiv.org/abs/1512.03385, table 1;
    in bottlenecks, the 3×3 convolution has the stride, as in torchvision and timm, whose names the layers have.

    Attributes:
      blocks: of each stage.
      bottleneck: whether a block is 1×1, 3×3, 1×1 (ResNet-50), rather than two 3×3 (ResNet-18).
      dtype, convolution, axis_name: as of encoders.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    dtype: Any = jnp.float32
    convolution: Method = "auto"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x float [n, h, w, 3] -> features float [n, 512], or [n, 2048] with bottlenecks: means over the last map."""
        x = nn.relu(convolved(self, x, train, ("conv1", "bn1"), 64, side=7, stride=2))
        x = _pooled(x)
        for stage, blocks in enumerate(self.blocks):
            for number in range(blocks):
                stride = 2 if stage and number == 0 else 1
                x = self._block(x, 64 * 2**stage, stride, f"layer{stage + 1}.{number}.", train)
        return x.mean(axis=(1, 2), dtype=jnp.float32)

    def _block(self, x, channels, stride, name, train):
        layers = [(channels, 3, stride), (channels, 3, 1)]
        if self.bottleneck:
            layers = [(channels, 1, 1), (channels, 3, stride), (4 * channels, 1, 1)]
        given = x
        for number, (width, side, step) in enumerate(layers, start=1):
            names = f"{name}conv{number}", f"{name}bn{number}"
            x = convolved(self, x, train, names, width, side=side, stride=step)
            x = nn.relu(x) if number < len(layers) else x
        if given.shape != x.shape:
            names = f"{name}downsample.0", f"{name}downsample.1"
            given = convolved(self, given, train, names, x.shape[3], stride=stride)
        return nn.relu(given + x)


def _pooled(x):
    """The largest of each 3×3 square, every second one, [n, h, w, c] -> [n, ⌈h / 2⌉, ⌈w / 2⌉, c]; x is not negative."""
    pads: Any = ((1, 1), (1, 1))
    return nn.max_pool(x, (3, 3), (2, 2), pads)
