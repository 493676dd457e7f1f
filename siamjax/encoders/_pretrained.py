"""Encoders whose layers have published weights: an architecture of ImageNet, and a linear layer."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from siamjax import distances
from siamjax.encoders._convolution import Method
from siamjax.encoders._inverted import EFFICIENTNET_LITE0, Inverted
from siamjax.encoders._residual import Residual
from siamjax.encoders._vit import VisionTransformer
from siamjax.types import Array

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue, in 0..1
_LEAST = 32  # pixels a side


class Architecture(NamedTuple):
    """An architecture with published weights.

    Attributes:
      make: dtype and others -> module: (normalised images [n, h, w, 3], train) -> features float32 [n, features].
      features: their number.
      size: side in pixels of the images that the published weights were trained on.
      published: the repository of the Hugging Face Hub with these weights.
    """

    make: Callable[..., nn.Module]
    features: int
    size: int
    published: str


ARCHITECTURES = {
    "mobilenet_v2": Architecture(Inverted, 1280, 224, "timm/mobilenetv2_100.ra_in1k"),
    "efficientnet_lite0": Architecture(
        functools.partial(Inverted, stages=EFFICIENTNET_LITE0), 1280, 224, "timm/efficientnet_lite0.ra_in1k"
    ),
    "resnet18": Architecture(Residual, 512, 224, "timm/resnet18.a1_in1k"),
    "resnet50": Architecture(
        functools.partial(Residual, blocks=(3, 4, 6, 3), bottleneck=True), 2048, 224, "timm/resnet50.a1_in1k"
    ),
    "vit_s14": Architecture(VisionTransformer, 384, 224, "timm/vit_small_patch14_dinov2.lvd142m"),
}


class Pretrained(nn.Module):
    """An architecture of ImageNet without its classifier, and a linear layer; `siamjax.pretrained` reads its weights.

    The architecture's layers are its parameters "backbone". Where `embedding` is the number of its features, such as
    1280 for "mobilenet_v2", the features are the embedding, without another layer.

    Attributes:
      architecture: a name in `ARCHITECTURES`.
      embedding: components of the embedding.
      unit_length: whether embeddings are scaled to length 1.
      keep_statistics: whether batch statistics stay as they are, as they should where the weights are published ones:
        those of a batch of a few identities differ, and running ones would follow them.
      frozen: whether the architecture's layers get no gradient, and its batch statistics stay as they are.
      dtype: of the computation; parameters and statistics stay float32.
      convolution: how convolutions are computed, see `siamjax.encoders.convolve`.
      axis_name: device axis for the batch statistics, or None.
    """

    architecture: str
    embedding: int = 256
    unit_length: bool = False
    keep_statistics: bool = False
    frozen: bool = False
    dtype: Any = jnp.float32
    convolution: Method = "auto"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """images float [n, h, w, 3], or grey [n, h, w, 1] or [n, h, w], in 0..1 -> float32 [n, embedding].

        At least 32 pixels a side; of "vit_s14", multiples of 14. ImageNet's mean and deviation are applied here.
        """
        known = ARCHITECTURES[self.architecture]
        x = self._in_colour(images, known.size)
        x = (x - np.full((1, 1, 1, 3), _MEAN, np.float32)) / np.full((1, 1, 1, 3), _DEVIATION, np.float32)
        common = {"convolution": self.convolution, "axis_name": self.axis_name}
        taken = {name: value for name, value in common.items() if known.make is not VisionTransformer}
        backbone: Any = known.make(dtype=self.dtype, name="backbone", **taken)
        x = backbone(x.astype(self.dtype), train and not (self.keep_statistics or self.frozen))
        if self.frozen:
            x = lax.stop_gradient(x)
        if self.embedding != known.features:
            # Orthogonal: distances start as those of the features.
            last = nn.Dense(self.embedding, dtype=self.dtype, kernel_init=nn.initializers.orthogonal(), name="last")
            x = last(x).astype(jnp.float32)
        return distances.unit(x) if self.unit_length else x

    def _in_colour(self, images, size):
        images = images[..., None] if images.ndim == 3 else images
        if images.ndim != 4 or images.shape[3] not in (1, 3) or min(images.shape[1:3]) < _LEAST:
            raise ValueError(
                f"encoder {self.architecture!r} takes images of 1 or 3 channels, of at least {_LEAST}×{_LEAST} pixels "
                f"(its published weights were trained on {size}×{size}), found inputs {list(images.shape)}; use larger "
                "images (data.size), or another encoder"
            )
        return jnp.broadcast_to(jnp.asarray(images, jnp.float32), (*images.shape[:3], 3))
