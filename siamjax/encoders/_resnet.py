"""The residual encoder of few-shot learning."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from siamjax import distances
from siamjax.encoders import _convolution as convolution
from siamjax.encoders._conv import normalised_convolution
from siamjax.encoders._convolution import Method
from siamjax.types import Array


class ResNet12(nn.Module):
    """Four residual blocks of three 3×3 convolutions with batch normalisation, each pooled by 2, and a linear layer.

    Oreshkin, Rodriguez, Lacoste: TADAM: Task dependent adaptive metric for improved few-shot learning (2018),
    https://arxiv.org/abs/1805.10123, appendix; the blocks have 1, 2, 4 and 8 times `width` channels (64 in the paper).
    The linear layer reads the mean over the remaining places.

    Attributes:
      width: channels of the first block.
      embedding: components of the embedding.
      unit_length: whether embeddings are scaled to length 1.
      dtype: of the computation; parameters and statistics stay float32.
      convolution: how convolutions are computed, see `siamjax.encoders.convolve`.
      axis_name: device axis for the batch statistics, or None.
    """

    width: int = 64
    embedding: int = 256
    unit_length: bool = False
    dtype: jnp.dtype = jnp.float32
    convolution: Method = "auto"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """images float [n, h, w, c] in 0..1, at least 16 pixels a side -> embeddings float32 [n, embedding]."""
        if min(images.shape[1:3]) < 16:
            raise ValueError(
                f"encoder 'resnet12' pools four times and needs images of at least 16×16 pixels, found "
                f"{images.shape[1]}×{images.shape[2]}; use larger images (data.size) or another encoder"
            )
        layer = functools.partial(normalised_convolution, self, train=train)
        x = jnp.asarray(images, self.dtype)
        for block in range(4):
            channels = 2**block * self.width
            shortcut = layer(x, channels, 1)
            x = nn.relu(layer(x, channels, 3))
            x = nn.relu(layer(x, channels, 3))
            x = convolution.max_pool(nn.relu(layer(x, channels, 3) + shortcut))
        x = nn.Dense(self.embedding, dtype=self.dtype)(x.mean(axis=(1, 2)))
        x = x.astype(jnp.float32)
        return distances.unit(x) if self.unit_length else x
