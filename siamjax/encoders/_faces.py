"""The small face network of the tutorials: two stages of large strides, dropout, a sigmoid layer."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from siamjax import distances, draws
from siamjax.encoders import _convolution as convolution
from siamjax.encoders._convolution import Method
from siamjax.types import Array


class Faces(nn.Module):
    """Convolutions 32@4×4 with stride 2 twice, 64@4×4 twice, 128@2×2, each pair pooled; dropout ½; dense, sigmoid.

    For faces of 112×112 pixels, as in the widely copied tutorials on face verification with contrastive and triplet
    loss.

    Attributes:
      width: channels of the first layer, 32 in the tutorials; the others have the same, twice and four times as many.
      embedding: components of the embedding, 128 in the tutorials.
      unit_length: whether embeddings are scaled to length 1.
      dtype: of the computation; parameters stay float32.
      convolution: how convolutions are computed, see `siamjax.encoders.convolve`.
    """

    width: int = 32
    embedding: int = 128
    unit_length: bool = False
    dtype: jnp.dtype = jnp.float32
    convolution: Method = "auto"

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """images float [n, h, w, c] in 0..1, at least 32 pixels a side -> embeddings float32 [n, embedding] in 0..1.

        In training, dropout draws from each image's own key, the variable `keys` of the collection `noise`.
        """
        if min(images.shape[1:3]) < 32:
            raise ValueError(
                f"encoder 'faces' needs images of at least 32×32 pixels, found {images.shape[1]}×{images.shape[2]}; "
                "use larger images (data.size) or another encoder"
            )
        x = jnp.asarray(images, self.dtype)
        layers = ((1, 4, 2), (1, 4, 2), None, (2, 4, 1), (2, 4, 1), None, (4, 2, 1), None)
        for layer in layers:
            if layer is None:
                x = convolution.max_pool(x)
                continue
            multiple, side, stride = layer
            x = nn.Conv(
                multiple * self.width,
                (side, side),
                (stride, stride),
                conv_general_dilated=convolution.for_flax(self.convolution),
                dtype=self.dtype,
                kernel_init=draws.by_rows(nn.initializers.he_normal()),
            )(x)
            x = nn.relu(x)
        x = x.reshape(x.shape[0], -1)
        if train:
            keys = self.get_variable("noise", "keys")
            kept = jax.vmap(lambda key: draws.numbers(jax.random.bernoulli, key, x.shape[1:]))(keys)
            x = jnp.where(kept, 2 * x, 0)
        x = nn.Dense(self.embedding, dtype=self.dtype)(x)
        x = nn.sigmoid(x.astype(jnp.float32))
        return distances.unit(x) if self.unit_length else x
