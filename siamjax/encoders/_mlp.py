"""A multilayer perceptron, for vectors."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from siamjax import distances
from siamjax.encoders import _past as past
from siamjax.encoders._normalisation import normalised
from siamjax.types import Array


class MLP(nn.Module):
    """Dense layers with batch normalisation and ReLU, a linear layer, and a linear map of the input added to it.

    The inputs are normalised too, so that features of any scale can be mixed.

    Attributes:
      width: units of the hidden layers.
      embedding: components of the embedding.
      unit_length: whether embeddings are scaled to length 1.
      layers: number of hidden layers.
      past: whether a linear map of the input is added to the layers' output, which then starts from 0.
      dtype: of the computation; parameters and statistics stay float32.
      axis_name: device axis for the batch statistics, or None.
    """

    width: int = 256
    embedding: int = 256
    unit_length: bool = False
    layers: int = 2
    past: bool = True
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: Array, train: bool = False) -> jax.Array:
        """inputs float [n, ...] -> embeddings float32 [n, embedding]."""
        inputs = normalised(self, jnp.asarray(inputs, self.dtype).reshape(inputs.shape[0], -1), train)
        x = inputs
        for _ in range(self.layers):
            x = nn.relu(normalised(self, nn.Dense(self.width, use_bias=False, dtype=self.dtype)(x), train))
        last = past.LAST if self.past else past.DEFAULT
        x = nn.Dense(self.embedding, dtype=self.dtype, kernel_init=last)(x).astype(jnp.float32)
        if self.past:
            x += past.linear(inputs, self.embedding)
        return distances.unit(x) if self.unit_length else x
