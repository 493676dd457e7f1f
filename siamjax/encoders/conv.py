"""Small convolutional encoders with batch normalisation, for images of 20 to 64 pixels."""

import jax.numpy as jnp
from flax import linen as nn

from siamjax import distances
from siamjax.encoders import convolution


class Conv(nn.Module):
    """3×3 convolutions with batch normalisation and ReLU, and a linear layer.

    The first two layers have `width` channels and the others twice as many; pools by 2 follow the second, third and
    fourth. Batch statistics are taken over all devices when `axis_name` names them, and running ones are used unless
    `train`.

    Attributes:
      width: channels of the first two layers.
      embedding: components of the embedding.
      unit_length: whether embeddings are brought to length 1.
      layers: number of convolutions, at least 4.
      dtype: of the computation; parameters and statistics stay float32.
      convolution: how convolutions are computed, see `siamjax.encoders.convolution`.
      axis_name: device axis for the batch statistics, or None.
    """

    width: int = 32
    embedding: int = 256
    unit_length: bool = False
    layers: int = 5
    dtype: jnp.dtype = jnp.float32
    convolution: str = "auto"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, train: bool = False):
        """images float [n, h, w, c] in 0..1, at least 8 pixels a side -> embeddings float32 [n, embedding]."""
        if min(images.shape[1:3]) < 8:
            raise ValueError(
                f"the encoder pools three times and needs images of at least 8×8 pixels, found {images.shape[1]}×"
                f"{images.shape[2]}; raise data.size"
            )
        conv = convolution.for_flax(self.convolution)
        x = images.astype(self.dtype)
        for layer in range(self.layers):
            channels = self.width if layer < 2 else 2 * self.width
            x = nn.Conv(channels, (3, 3), use_bias=False, dtype=self.dtype, conv_general_dilated=conv)(x)
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                dtype=self.dtype,
                axis_name=self.axis_name if train else None,
            )(x)
            x = nn.relu(x)
            if layer in (1, 2, 3):
                x = convolution.max_pool(x)
        x = nn.Dense(self.embedding, dtype=self.dtype)(x.reshape(len(x), -1))
        x = x.astype(jnp.float32)
        return distances.unit(x) if self.unit_length else x
