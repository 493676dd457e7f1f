"""What training changes from step to step, and the model that it belongs to."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct


class Model(NamedTuple):
    """One encoder for all inputs and the head that compares its embeddings; both without their weights."""

    encoder: nn.Module
    head: nn.Module


@struct.dataclass
class State:
    """`step` int32 []; `params` {"encoder", "head"}; `batch_stats` running statistics; `opt_state` of the optimizer."""

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def create(model: Model, key, image_shape: tuple[int, int, int], optimizer: optax.GradientTransformation) -> State:
    """The state before the first step, for images [h, w, c] = `image_shape`."""
    encoder_key, head_key = jax.random.split(key)
    images = jnp.zeros((2, *image_shape))
    embeddings, encoder = model.encoder.init_with_output(encoder_key, images)
    head = model.head.init(head_key, embeddings, embeddings)
    params = {"encoder": encoder["params"], "head": head.get("params", {})}
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=encoder.get("batch_stats", {}),
        opt_state=optimizer.init(params),
    )
