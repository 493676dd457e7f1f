"""The state that training steps update, and the model that it belongs to."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from siamjax.encoders import Encoder
from siamjax.training.types import Objective, Params


class Model(NamedTuple):
    """One encoder for all inputs, or `Towers`, and the head that compares embeddings; both without weights."""

    encoder: Encoder
    head: nn.Module


@struct.dataclass
class State:
    """The state of training.

    Attributes:
      step: int32 [], the number of steps taken.
      params: {"encoder", "head"}, and "loss" if the loss has parameters.
      batch_stats: running statistics of the encoder.
      opt_state: state of the optimizer.
      average: exponential moving average (EMA) of (params, batch_stats), or None.
    """

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any = None

    def judged(self) -> tuple[Any, Any]:
        """The (params, batch_stats) to evaluate: their EMA if there is one."""
        return self.average or (self.params, self.batch_stats)

    def evaluated(self) -> "State":
        """What evaluation needs: the weights to evaluate of encoder and head, and the step."""
        params, batch_stats = self.judged()
        params = {part: tree for part, tree in params.items() if part != "loss"}
        return self.replace(params=params, batch_stats=batch_stats, opt_state=(), average=None)  # type: ignore

    def resumed(self, best: "State") -> "State":
        """This initial state with the weights and the step of `best`, an `evaluated` state.

        Schedules of the optimizer are at that step; its moments, and the parameters of the loss, are initial.
        """

        def schedules(path, _):
            return getattr(path[-1], "tuple_name", "") != "ScaleByAdamState"

        state = dataclasses.replace(self, step=best.step)
        with contextlib.suppress(KeyError):  # An optimizer without schedules.
            counted = optax.tree.set(self.opt_state, schedules, count=jnp.asarray(best.step))
            state = dataclasses.replace(state, opt_state=counted)
        return from_weights(state, best.params, best.batch_stats)


@functools.partial(jax.jit, static_argnums=(0, 2, 3, 4, 5))
def create(
    model: Model,
    key: jax.Array,
    shape: tuple[int, ...],
    optimizer: optax.GradientTransformation,
    averaged: bool = False,
    objective: Objective | None = None,
    published: Mapping[str, Any] | None = None,
) -> State:
    """Initialises the state of training.

    Args:
      model: encoder and head.
      key: for the initial weights.
      shape: of an input, such as (h, w, c).
      optimizer: optax transformation.
      averaged: whether to keep an EMA of the weights.
      objective: its own parameters are trained too, if it has any.
      published: {"params", "batch_stats"} of the architecture of a `siamjax.encoders.Pretrained`, in place of random
        ones, which are then not drawn: for so many layers, that takes longer to compile than all else here.
    """
    encoder_key, head_key = jax.random.split(key)
    inputs = jnp.zeros((2, *shape))
    embeddings, encoder = model.encoder.init_with_output(encoder_key, inputs)
    if published:
        encoder = {part: _with_published(encoder.get(part, {}), of_part) for part, of_part in published.items()}
    head = model.head.init(head_key, embeddings, embeddings)
    params = {"encoder": encoder["params"], "head": head.get("params", {})}
    own = objective.init(jax.random.fold_in(head_key, 0), embeddings.shape[1]) if objective else {}
    if own:
        params["loss"] = own
    batch_stats = encoder.get("batch_stats", {})
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        average=(params, batch_stats) if averaged else None,
    )


def _with_published(tree, of_part):
    """The variables of an encoder, or of both of `Towers`, with those of its architecture replaced."""
    if "backbone" in tree:
        return {**tree, "backbone": of_part}
    return {side: _with_published(of_side, of_part) for side, of_side in tree.items()}


def from_weights(start: State, params: Params, batch_stats: Any) -> State:
    """`start` with the weights of a trained network; the loss keeps its own parameters."""
    params = {**start.params, **params}
    average = start.average and (params, batch_stats)
    return dataclasses.replace(start, params=params, batch_stats=batch_stats, average=average)


def average_of(before: State, after: State, keep: float) -> Any:
    """Updates the EMA after a step; None if there is none.

    Averaging the weights over steps has the effect of a lower learning rate; Polyak, Juditsky: Acceleration of
    Stochastic Approximation by Averaging (1992), https://doi.org/10.1137/0330046.

    Args:
      before: the state before the step.
      after: the state after it.
      keep: EMA decay, 0..1; lower in the first steps, where it is (1 + step) / (10 + step).
    """
    if before.average is None:
        return None
    decay = jnp.minimum(keep, (1 + before.step) / (10 + before.step))
    new = (after.params, after.batch_stats)

    def averaged(old, new):  # Of frozen weights, to the bit what they are.
        return jnp.where(old == new, old, decay * old + (1 - decay) * new)

    return jax.tree.map(averaged, before.average, new)
