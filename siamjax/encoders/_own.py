"""Encoders of one's own: Linen modules, NNX modules and pairs (init, apply), all called like the encoders here."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from siamjax import parallel

Variables = Mapping[str, Any]  # "params", "batch_stats", and in training "noise": {"keys": PRNG keys [n]}
# Arguments that tell a module whether it is trained, and what they are then.
_MODES = {"train": True, "training": True, "is_training": True, "deterministic": False}


class Encoder(Protocol):
    """What an encoder does; a Linen module called as module(inputs, train=...) does so by itself."""

    def init_with_output(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """(PRNG key, inputs [n, ...]) -> embeddings [n, d], and {"params", "batch_stats"}."""
        ...

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """(variables, inputs, train=False) -> embeddings; in training (embeddings, {"batch_stats"})."""
        ...


def own(encoder: Any) -> Encoder:
    """An encoder of one's own, to be used as one of this package.

    It is called with `train`, `training`, `is_training` or `deterministic` if it takes one of them. Batch statistics
    and all other collections are kept, as means over the devices; dropout and other random layers get their own key at
    every step and device, so that their numbers depend on how many devices there are.

    Args:
      encoder: a Linen module, inputs [n, ...] -> embeddings [n, d]; an NNX module, whose weights are the first ones of
        training; or a pair of functions, init(key, inputs) -> params and apply(params, inputs) -> embeddings.

    Raises:
      ValueError: it is none of these.
    """
    if isinstance(encoder, nn.Module):
        return _Linen(encoder)
    if isinstance(encoder, tuple) and len(encoder) == 2 and all(map(callable, encoder)):
        return _Functions(*encoder)
    from flax import nnx

    if isinstance(encoder, nnx.Module):
        return _nnx(encoder)
    raise ValueError(
        f"encoder: found {encoder!r}; expected a name, a linen or nnx module, or a pair of functions (init, apply)"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Linen:
    module: nn.Module

    def init_with_output(self, key, inputs):
        keys: Any = dict(zip(("params", "dropout"), jax.random.split(key), strict=True))
        embeddings, variables = self.module.init_with_output(keys, inputs, **_mode(self.module, train=False))
        others = {name: tree for name, tree in variables.items() if name != "params"}
        return embeddings, {"params": variables.get("params", {}), "batch_stats": others}

    def apply(self, variables, inputs, *, train=False, mutable=()):
        others = variables.get("batch_stats", {})
        collections, mode = {"params": variables["params"], **others}, _mode(self.module, train)
        if not train:
            return self.module.apply(collections, inputs, **mode)
        key = variables["noise"]["keys"][0]
        embeddings, updated = self.module.apply(
            collections, inputs, **mode, rngs={"params": key, "dropout": key}, mutable=list(others)
        )
        return embeddings, {"batch_stats": _mean(updated)}


@dataclasses.dataclass(frozen=True, eq=False)
class _Functions:
    init: Callable
    function: Callable

    def init_with_output(self, key, inputs):
        params = self.init(key, inputs)
        return self.function(params, inputs, **_mode(self.function, train=False)), {"params": params}

    def apply(self, variables, inputs, *, train=False, mutable=()):
        embeddings = self.function(variables["params"], inputs, **_mode(self.function, train))
        return (embeddings, {}) if train else embeddings


@dataclasses.dataclass(frozen=True, eq=False)
class _Nnx:
    modes: dict[bool, Any]  # whether it is trained -> graph definition
    random: Any  # the states of its random layers
    params: Any
    others: Any

    def init_with_output(self, key, inputs):
        variables = {"params": _pure(self.params), "batch_stats": _pure(self.others)}
        return self.apply(variables, inputs), variables

    def apply(self, variables, inputs, *, train=False, mutable=()):
        from flax import nnx

        random = self.random
        if train:
            random = _with_key(random, variables["noise"]["keys"][0])
        params = _filled(self.params, variables["params"])
        others = _filled(self.others, variables.get("batch_stats", {}))
        module = nnx.merge(self.modes[train], params, random, others)
        embeddings = module(inputs, **_mode(module, train))
        if not train:
            return embeddings
        updated = nnx.split(module, nnx.Param, nnx.RngState, ...)[3]
        return embeddings, {"batch_stats": _mean(_pure(updated))}


def _nnx(module):
    from flax import nnx

    copy, modes = nnx.clone(module), {}
    copy.train()
    modes[True] = nnx.graphdef(copy)
    copy.eval()
    modes[False], params, random, others = nnx.split(copy, nnx.Param, nnx.RngState, ...)
    return _Nnx(modes, random, params, others)


def _pure(state):
    """An NNX state as nested dicts of arrays, with strings as keys."""
    from flax import nnx

    def named(tree):
        return {str(key): named(value) for key, value in tree.items()} if isinstance(tree, dict) else tree

    return named(nnx.to_pure_dict(state))


def _filled(state, tree):
    """The NNX `state` with the arrays of `tree`, which `_pure` made."""
    from flax import nnx

    state = jax.tree.map(lambda leaf: leaf, state)  # A copy.
    nnx.replace_by_pure_dict(state, nnx.restore_int_paths(tree))
    return state


def _with_key(random, key):
    leaves, structure = jax.tree.flatten(random)
    for number, leaf in enumerate(leaves):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaves[number] = jax.random.fold_in(key, number)
    return jax.tree.unflatten(structure, leaves)


def _mode(called, train) -> Any:
    """The argument that tells `called` whether it is trained, if it takes one."""
    name = next((name for name in inspect.signature(called).parameters if name in _MODES), None)
    return {} if name is None else {name: _MODES[name] == train}


def _mean(tree):
    """The mean over devices of the floats in `tree`, such as running statistics, which each device has of its share."""
    return jax.tree.map(
        lambda x: lax.pmean(x, parallel.AXIS) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x, tree
    )
