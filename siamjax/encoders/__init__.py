"""Encoders: images float [n, h, w, c] in 0..1 -> embeddings float32 [n, d]; linen modules used as pure init and apply.

One encoder, with one set of weights, embeds both images of a pair (all three of a triplet): the siamese network is
`apply` called on all of them at once. `Towers` has two sets, for pairs whose sides look different.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from siamjax import parallel
from siamjax.choices import choose
from siamjax.encoders._conv import Conv
from siamjax.encoders._convolution import Method, convolve, max_pool, within_loop
from siamjax.encoders._faces import Faces
from siamjax.encoders._koch import Koch
from siamjax.encoders._koch import bias_init as koch_bias_init
from siamjax.encoders._mlp import MLP
from siamjax.encoders._own import Encoder, own
from siamjax.encoders._pretrained import ARCHITECTURES, Architecture, Pretrained
from siamjax.encoders._resnet import ResNet12
from siamjax.encoders._towers import Towers

__all__ = [
    "ARCHITECTURES",
    "ENCODERS",
    "MLP",
    "Architecture",
    "Conv",
    "Encoder",
    "Faces",
    "Koch",
    "Pretrained",
    "ResNet12",
    "Towers",
    "convolve",
    "koch_bias_init",
    "make",
    "max_pool",
    "own",
    "within_loop",
]

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# Encoders that a configuration can name; add your own here.
ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "conv": Conv,
    "conv4": functools.partial(Conv, multiples=(1, 1, 2, 2)),
    "conv5": functools.partial(Conv, multiples=(1, 1, 2, 2, 2)),
    "conv6": functools.partial(Conv, multiples=(1, 1, 2, 2, 2, 2)),
    "faces": Faces,
    "koch": Koch,
    "koch_scaled": functools.partial(Koch, scaled=True),
    "mlp": MLP,
    "local": functools.partial(Conv, multiples=(1, 3, 6, 6), pooled=(1, 2), local=True),
    "local56": functools.partial(Conv, multiples=(1, 1, 3, 6, 6), pooled=(2, 3), first=(5, 2), local=True),
    "pyramid": functools.partial(Conv, multiples=(1, 3, 6, 6, 8), pooled=(1, 2, 4)),
    "resnet12": ResNet12,
    **{name: functools.partial(Pretrained, name) for name in ARCHITECTURES},
}


def make(
    name: str,
    width: int,
    embedding: int,
    dtype: Literal["float32", "bfloat16"] = "float32",
    unit_length: bool = False,
    convolution: Method = "auto",
    keep_statistics: bool = False,
    frozen: bool = False,
    axis_name: str | None = None,
    options: dict[str, Any] | None = None,
) -> nn.Module:
    """The encoder called `name` in `ENCODERS`.

    In training, encoders can be differentiated in reverse mode (`jax.grad`), any number of times, but not in forward
    mode.

    Args:
      name: "koch_scaled" is "koch" with other initial weights; "conv4" to "conv6", "pyramid" and "local" are "conv"
        with other layers.
      width: channels of the first layer; architectures with published weights have their own.
      embedding: components of the embedding.
      dtype: "float32" or "bfloat16", of the computation. On a CPU both are float32, which is faster there: XLA has fast
        kernels only for float32.
      unit_length: whether embeddings are scaled to length 1.
      convolution: how convolutions are computed: "auto", "direct" or "frequency".
      keep_statistics: of architectures with published weights, whether batch statistics stay as they are.
      frozen: of architectures with published weights, whether their layers stay as they are.
      axis_name: device axis over which batch statistics are taken, or None.
      options: other attributes of the encoder.

    Raises:
      ValueError: a name is unknown, or `frozen` is of no use to the encoder.
    """
    make_it = choose("name", name, ENCODERS)
    given = dict(options or {})
    if frozen and name not in ARCHITECTURES:
        raise ValueError(
            f"frozen=True is for encoders with published weights ({', '.join(ARCHITECTURES)}), not {name!r}: train "
            "all of it, or choose one of these"
        )
    common = {
        "axis_name": axis_name,
        "convolution": convolution,
        "width": width,
        "keep_statistics": keep_statistics,
        "frozen": frozen,
    }
    taken = inspect.signature(make_it).parameters
    given |= {key: value for key, value in common.items() if key in taken}
    computed = choose("dtype", dtype, _DTYPES)
    given["dtype"] = jnp.float32 if parallel.on_cpu() else computed
    return make_it(embedding=embedding, unit_length=unit_length, **given)
