"""Two encoders, one for each side of a pair."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from siamjax import parallel
from siamjax.encoders._own import Encoder, Variables

_SIDES = ("first", "second")


@dataclasses.dataclass(frozen=True)
class Towers:
    """An encoder for the first inputs of pairs, and the same one with other weights for the second inputs.

    For sides that look different, such as sketch and photo. Both start from the same weights, as a shared encoder does.

    Zagoruyko, Komodakis: Learning to Compare Image Patches via Convolutional Neural Networks (2015), "pseudo-siamese";
    https://arxiv.org/abs/1504.03641.

    Attributes:
      encoder: of each side.
    """

    encoder: Encoder

    def init_with_output(self, key: jax.Array, inputs: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        """(PRNG key, inputs [n, ...]) -> embeddings [n, d], and {"params": {"first", "second"}, "batch_stats"}."""
        embeddings, variables = self.encoder.init_with_output(key, inputs)
        return embeddings, {name: dict.fromkeys(_SIDES, tree) for name, tree in variables.items()}

    def apply(
        self, variables: Variables, inputs: jax.Array, *, train: bool = False, mutable: Any = ()
    ) -> tuple[jax.Array, dict[str, Any]]:
        """A training batch [n / devices, ...] -> its embeddings; the first half of the whole batch is the first side.

        A device's share may be of one side only. So that every device computes as much, and has batch statistics of
        both sides, inputs move between the devices, and their embeddings move back.

        Raises:
          ValueError: it is not trained: an input alone does not say which side it is; see `of`.
        """
        if not train:
            raise ValueError(
                "this network has two encoders, one for each side of a pair: use that of a side, network.tower(0) or "
                "network.tower(1), whose save() writes it as a network of its own"
            )
        shares = _shares_of_sides((inputs, variables["noise"]["keys"]))
        embeddings, stats = [], {}
        for number, (side, (images, keys)) in enumerate(zip(_SIDES, shares, strict=True)):
            own = {**self.of(variables, number), "noise": {"keys": keys}}
            embedded, updated = self.encoder.apply(own, images, train=True, mutable=mutable)
            embeddings.append(parallel.gather(embedded))
            stats[side] = updated.get("batch_stats", {})
        updated = {"batch_stats": stats} if variables["batch_stats"] else {}
        return parallel.own_share(jnp.concatenate(embeddings)), updated

    def of(self, variables: Variables, side: int) -> dict[str, Any]:
        """The "params" and "batch_stats" of `encoder` for a side, 0 or 1."""
        stats = variables.get("batch_stats", {})
        return {"params": variables["params"][_SIDES[side]], "batch_stats": stats.get(_SIDES[side], {})}


def _shares_of_sides(tree):
    """This device's share of a batch, [n / devices, ...] -> its share of either half, [n / 2 / devices, ...] each."""
    whole = jax.tree.map(parallel.gather, tree)
    halves = jax.tree.map(lambda x: x.reshape(2, len(x) // 2, *x.shape[1:]), whole)
    return [parallel.own_share(jax.tree.map(lambda x, side=side: x[side], halves)) for side in (0, 1)]
