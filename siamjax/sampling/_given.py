"""Batches of given pairs."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from siamjax.sampling._draw import Drawn
from siamjax.types import Array


@struct.dataclass
class PairIndex:
    """The items of given pairs: of the same pairs int32 [s, 2], of the different ones int32 [d, 2]."""

    same: Array
    different: Array


def make_pair_index(pairs: np.ndarray, same: np.ndarray) -> PairIndex:
    """Of given pairs: items int32 [n, 2], and `same` bool [n].

    Raises:
      ValueError: all pairs are of one kind.
    """
    if same.all() or not same.any():
        raise ValueError(f"all {len(same)} pairs are {'same' if same.all() else 'different'} pairs; both are needed")
    return PairIndex(pairs[same], pairs[~same])


def given_pairs(key: jax.Array, index: PairIndex, *, count: int) -> Drawn:
    """Draws from given pairs, half of them same pairs.

    Args:
      key: PRNG key.
      index: of the pairs.
      count: number of pairs.

    Returns:
      Drawn, 2 × count images; image i pairs with image i + count. Labels say only which pairs are same pairs.
    """
    of_same, of_different = jax.random.split(key)
    rows = jnp.concatenate(
        [
            jax.random.choice(of_same, index.same, (count // 2,)),
            jax.random.choice(of_different, index.different, (count - count // 2,)),
        ]
    )
    number = jnp.arange(count)
    second = jnp.where(number < count // 2, number, number + count)
    return Drawn(
        item=rows.T.reshape(-1), label=jnp.concatenate([number, second]), group=jnp.zeros(2 * count, jnp.int32)
    )
