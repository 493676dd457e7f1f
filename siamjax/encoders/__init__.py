"""Encoders: images float [n, h, w, c] in 0..1 -> embeddings float32 [n, d]; linen modules used as pure init and apply.

One encoder, with one set of weights, embeds both images of a pair (all three of a triplet): the siamese network is
`apply` called on all of them at once.
"""

import functools

import jax.numpy as jnp

from siamjax import parallel
from siamjax.choices import choose
from siamjax.encoders.conv import Conv
from siamjax.encoders.faces import Faces
from siamjax.encoders.koch import Koch
from siamjax.encoders.resnet import ResNet12

__all__ = ["Conv", "Faces", "Koch", "ResNet12", "make"]

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def make(
    name: str,
    width: int,
    embedding: int,
    dtype: str,
    unit_length: bool = False,
    convolution: str = "auto",
    axis_name: str | None = None,
):
    """The encoder called `name` in the configuration.

    Args:
      name: "koch", "koch_scaled" (other first weights), "conv4", "conv5", "conv6", "pyramid", "local",
        "resnet12" or "faces".
      width: channels of the first layer.
      embedding: components of the embedding.
      dtype: "float32" or "bfloat16", of the computation. On a CPU both are float32, which is faster there: XLA has fast
        kernels for it alone.
      unit_length: whether embeddings are brought to length 1.
      convolution: how convolutions are computed: "auto", "direct" or "frequency".
      axis_name: device axis over which batch statistics are taken, or None.
    """
    table = {
        "koch": Koch,
        "koch_scaled": functools.partial(Koch, scaled=True),
        "faces": Faces,
        "conv4": functools.partial(Conv, multiples=(1, 1, 2, 2), axis_name=axis_name),
        "conv5": functools.partial(Conv, multiples=(1, 1, 2, 2, 2), axis_name=axis_name),
        "conv6": functools.partial(Conv, multiples=(1, 1, 2, 2, 2, 2), axis_name=axis_name),
        "pyramid": functools.partial(Conv, multiples=(1, 3, 6, 6, 8), pooled=(1, 2, 4), axis_name=axis_name),
        "local": functools.partial(Conv, multiples=(1, 3, 6, 6), pooled=(1, 2), local=True, axis_name=axis_name),
        "resnet12": functools.partial(ResNet12, axis_name=axis_name),
    }
    make_it = choose("encoder.name", name, table)
    dtype = choose("encoder.dtype", dtype, _DTYPES)
    if parallel.on_cpu():
        dtype = jnp.float32
    return make_it(width=width, embedding=embedding, unit_length=unit_length, dtype=dtype, convolution=convolution)
