"""A linear map past the layers of an encoder, so that its distances start as those of its inputs."""

import jax
import jax.numpy as jnp
from flax import linen as nn

_SIDE = 16  # pixels, at most, of an image that is mapped

# Initial weights of the last layer of an encoder with such a map, whose layers start from 0; and of one without.
LAST, DEFAULT = nn.initializers.zeros, nn.Dense.kernel_init


def linear(inputs: jax.Array, embedding: int) -> jax.Array:
    """A linear map of inputs [n, ...] to [n, embedding], which starts orthogonal; images are first made smaller.

    The layers that are added to it change distances where the labels ask for it. Trained on few identities, they alone
    would forget what the inputs tell of new ones. To be called in a compact method, whose module gets the parameters.
    """
    if inputs.ndim == 4:
        stride = [max(1, -(-side // _SIDE)) for side in inputs.shape[1:3]]
        inputs = nn.avg_pool(inputs, tuple(stride), tuple(stride))
    dense = nn.Dense(embedding, use_bias=False, kernel_init=nn.initializers.orthogonal(), name="linear")
    return dense(inputs.reshape(inputs.shape[0], -1).astype(jnp.float32))
