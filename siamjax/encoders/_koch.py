"""Koch's convolutional encoder for 105×105 characters."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from siamjax import distances, draws
from siamjax.encoders import _convolution as convolution
from siamjax.encoders._convolution import Method
from siamjax.types import Array


def bias_init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Koch's initial biases, of every layer and of the head: N(0.5, 0.01²)."""
    return 0.5 + nn.initializers.normal(0.01)(key, shape, dtype)


class Koch(nn.Module):
    """Koch's encoder: four valid convolutions with ReLU, pooled by 2 after the first three, and a sigmoid layer.

    Koch, Zemel, Salakhutdinov: Siamese Neural Networks for One-shot Image Recognition (2015), figure 4;
    https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf. Convolution weights start from N(0, 0.01²), the dense layer's
    from N(0, 0.2²), biases from N(0.5, 0.01²). With these the dense layer starts saturated and barely distinguishes
    images; with weights scaled to their fan-in instead, training starts immediately.

    Attributes:
      width: channels of the first layer; 64 is Koch's. The others have 2, 2 and 4 times as many.
      embedding: components of the embedding; 4096 is Koch's.
      unit_length: whether embeddings are scaled to length 1; Koch's are not.
      dtype: of the computation; parameters stay float32.
      convolution: how convolutions are computed, see `siamjax.encoders.convolve`.
      scaled: whether weights start scaled to their fan-in, and biases from 0, in place of Koch's.
    """

    width: int = 64
    embedding: int = 4096
    unit_length: bool = False
    dtype: jnp.dtype = jnp.float32
    convolution: Method = "auto"
    scaled: bool = False

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """images float [n, h, w, c] in 0..1, at least 65 pixels a side -> embeddings float32 [n, embedding] in 0..1."""
        if min(images.shape[1:3]) < 65:
            raise ValueError(
                f"encoder 'koch' needs images of at least 65×65 pixels, found {images.shape[1]}×{images.shape[2]}; "
                "use larger images (data.size) or another encoder"
            )
        x = jnp.asarray(images, self.dtype)
        kernel_init = nn.initializers.he_normal() if self.scaled else nn.initializers.normal(0.01)
        biases = nn.initializers.zeros if self.scaled else bias_init
        for number, (channels, kernel) in enumerate([(1, 10), (2, 7), (2, 4), (4, 4)], start=1):
            x = nn.Conv(
                channels * self.width,
                (kernel, kernel),
                padding="VALID",
                conv_general_dilated=convolution.for_flax(self.convolution),
                dtype=self.dtype,
                kernel_init=draws.by_rows(kernel_init),
                bias_init=biases,
                name=f"conv{number}",
            )(x)
            x = nn.relu(x)
            if number < 4:
                x = convolution.max_pool(x)
        x = nn.Dense(
            self.embedding,
            dtype=self.dtype,
            kernel_init=nn.initializers.lecun_normal() if self.scaled else nn.initializers.normal(0.2),
            bias_init=biases,
            name="dense",
        )(x.reshape(x.shape[0], -1))
        x = nn.sigmoid(x.astype(jnp.float32))
        return distances.unit(x) if self.unit_length else x
