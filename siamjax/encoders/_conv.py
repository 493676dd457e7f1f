"""Small convolutional encoders with batch normalisation, for images of 20 to 64 pixels."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from siamjax import distances, draws
from siamjax.encoders import _convolution as convolution
from siamjax.encoders import _past as past
from siamjax.encoders._convolution import Method
from siamjax.encoders._normalisation import normalised
from siamjax.types import Array


def normalised_convolution(
    encoder: nn.Module, x: jax.Array, channels: int, side: int, train: bool, stride: int = 1
) -> jax.Array:
    """A convolution with a square kernel of `side` and batch normalisation, as `encoder`'s attributes say.

    To be called in the encoder's compact method, to which the layers belong.
    """
    x = nn.Conv(
        channels,
        (side, side),
        (stride, stride),
        use_bias=False,
        dtype=encoder.dtype,
        conv_general_dilated=convolution.for_flax(encoder.convolution),
        kernel_init=draws.by_rows(nn.initializers.lecun_normal()),
    )(x)
    return normalised(encoder, x, train)


class Conv(nn.Module):
    """3×3 convolutions with batch normalisation and ReLU, and a linear layer.

    Some of the layers are pooled by 2. A single layer before the first pool and the widest ones at the end, as in
    "pyramid", learn more in the same time: on a CPU, the cost of a layer grows with its pixels. Batch statistics are
    taken over all devices when `axis_name` names them, and running ones are used unless `train`.

    Attributes:
      width: channels of the first layer.
      embedding: components of the embedding.
      unit_length: whether embeddings are scaled to length 1.
      multiples: channels of each convolution, in units of `width`.
      pooled: which of them are pooled, counted from 1.
      first: side of the first convolution's kernel, and its stride: (5, 2) sees the detail of an image of twice the
        side at almost no cost.
      past: whether a linear map of the image is added to the layers' output, which starts from 0.
      local: whether the same linear layer is applied at each place of the last map: the embedding is then a map of
        descriptors, for the head "aligned".
      dtype: of the computation; parameters and statistics stay float32.
      convolution: how convolutions are computed, see `siamjax.encoders.convolve`.
      axis_name: device axis for the batch statistics, or None.
    """

    width: int = 32
    embedding: int = 256
    unit_length: bool = False
    multiples: Sequence[int] = (1, 1, 2, 2, 2)
    pooled: Sequence[int] = (2, 3, 4)
    first: tuple[int, int] = (3, 1)
    past: bool = False
    local: bool = False
    dtype: jnp.dtype = jnp.float32
    convolution: Method = "auto"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """images float [n, h, w, c] or [n, h, w] in 0..1, at least 8 pixels a side -> float32 [n, embedding]."""
        images = images[..., None] if images.ndim == 3 else images
        least = self.first[1] * 2 ** len(self.pooled)
        if min(images.shape[1:3]) < least:
            raise ValueError(
                f"the encoder reduces images {least} times and needs at least {least}×{least} pixels, "
                f"found {images.shape[1]}×{images.shape[2]}; use larger images (data.size)"
            )
        x = jnp.asarray(images, self.dtype)
        for number, multiple in enumerate(self.multiples, start=1):
            side, stride = self.first if number == 1 else (3, 1)
            x = nn.relu(normalised_convolution(self, x, multiple * self.width, side, train, stride))
            if number in self.pooled:
                x = convolution.max_pool(x)
        if self.local:
            x = self._descriptors(x)
        else:
            last = past.LAST if self.past else past.DEFAULT
            x = nn.Dense(self.embedding, dtype=self.dtype, kernel_init=last)(x.reshape(x.shape[0], -1))
            x = x.astype(jnp.float32)
        if self.past:
            x += past.linear(normalised(self, jnp.asarray(images), train), self.embedding)
        return distances.unit(x) if self.unit_length else x

    def _descriptors(self, x):
        """[n, h, w, c] -> [n, embedding]: a descriptor of each place; their lengths are weights that sum to 1."""
        places = x.shape[1] * x.shape[2]
        if self.embedding % places:
            raise ValueError(
                f"embedding={self.embedding} must be a multiple of {places}, the places of a map of "
                f"{x.shape[1]}×{x.shape[2]} descriptors"
            )
        x = x.reshape(x.shape[0], places, -1)
        weight = nn.softmax(nn.Dense(1, dtype=self.dtype)(x).astype(jnp.float32), axis=1)
        x = nn.Dense(self.embedding // places, dtype=self.dtype)(x).astype(jnp.float32)
        return (weight * distances.unit(x)).reshape(x.shape[0], -1)
