"""The vision transformer of DINOv2."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from siamjax import draws

_PATCH = 14
_PLACES = 37  # a side of the map for which position embeddings are stored: images of 518 pixels


class VisionTransformer(nn.Module):
    """ViT-S/14: patches of 14×14 pixels, 12 blocks of attention and a hidden layer, and the class token as features.

    Dosovitskiy et al.: An Image is Worth 16x16 Words (2020), https://arxiv.org/abs/2010.11929; Oquab et al.: DINOv2:
    Learning Robust Visual Features without Supervision (2023), https://arxiv.org/abs/2304.07193, with layer scale.
    Position embeddings are interpolated to the image's size, bicubic. Names of layers are those of DINOv2 and timm.

    Attributes:
      width: of a token.
      depth: blocks.
      heads: of the attention.
      dtype: of the computation; softmax and normalisation are computed in float32.
    """

    width: int = 384
    depth: int = 12
    heads: int = 6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x float [n, h, w, 3], sides multiples of 14 -> features float [n, width]."""
        n, h, w, _ = x.shape
        if h % _PATCH or w % _PATCH:
            raise ValueError(
                f"encoder 'vit_s14' cuts images into patches of {_PATCH}×{_PATCH} pixels, found {h}×{w}; use sides "
                f"that are multiples of {_PATCH}, such as data.size={max(1, round(h / _PATCH)) * _PATCH}"
            )
        rows, columns = h // _PATCH, w // _PATCH
        x = x.reshape(n, rows, _PATCH, columns, _PATCH, 3).swapaxes(2, 3).reshape(n, rows * columns, -1)
        initializer = draws.by_rows(nn.initializers.lecun_normal())
        kernel = self.param("patch_embed.proj.kernel", initializer, (_PATCH, _PATCH, 3, self.width))
        bias = self.param("patch_embed.proj.bias", nn.initializers.zeros, (self.width,))
        x = x.astype(self.dtype) @ kernel.reshape(-1, self.width).astype(self.dtype)
        token = self.param("cls_token", nn.initializers.normal(0.02), (1, 1, self.width))
        places = self.param("pos_embed", nn.initializers.normal(0.02), (1, 1 + _PLACES**2, self.width))
        x = x + (bias[None] + _interpolated(places[0, 1:], rows, columns))[None].astype(self.dtype)
        first = jnp.broadcast_to(token + places[:, :1], (n, 1, self.width)).astype(self.dtype)
        x = jnp.concatenate([first, x], axis=1)
        for number in range(self.depth):
            x = self._block(x, f"blocks.{number}.")
        return self._normalised(x, "norm")[:, 0].astype(jnp.float32)

    def _block(self, x, name):
        x = x + self._scaled(self._attention(self._normalised(x, f"{name}norm1"), f"{name}attn."), f"{name}ls1")
        y = self._dense(4 * self.width, f"{name}mlp.fc1")(self._normalised(x, f"{name}norm2"))
        y = self._dense(self.width, f"{name}mlp.fc2")(nn.gelu(y, approximate=False))
        return x + self._scaled(y, f"{name}ls2")

    def _attention(self, x, name):
        n, tokens, _ = x.shape
        x = self._dense(3 * self.width, f"{name}qkv")(x).reshape(n, tokens, 3, self.heads, -1)
        query, key, value = x[:, :, 0], x[:, :, 1], x[:, :, 2]
        logits = jnp.einsum("nqhd,nkhd->nhqk", query, key) * (self.width // self.heads) ** -0.5
        weight = nn.softmax(logits.astype(jnp.float32)).astype(self.dtype)
        x = jnp.einsum("nhqk,nkhd->nqhd", weight, value).reshape(n, tokens, self.width)
        return self._dense(self.width, f"{name}proj")(x)

    def _dense(self, features, name):
        return nn.Dense(features, dtype=self.dtype, kernel_init=nn.initializers.truncated_normal(0.02), name=name)

    def _normalised(self, x, name):
        return nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name=name)(x)

    def _scaled(self, x, name):
        gamma = self.param(f"{name}.gamma", nn.initializers.constant(1e-5), (self.width,))
        return x * gamma[None, None].astype(self.dtype)


def _interpolated(places, rows, columns):
    """Position embeddings [37², d] at rows × columns places: [rows · columns, d]."""
    if (rows, columns) == (_PLACES, _PLACES):
        return places
    square = places.reshape(_PLACES, _PLACES, -1)
    return jax.image.resize(square, (rows, columns, square.shape[2]), "cubic").reshape(rows * columns, -1)
