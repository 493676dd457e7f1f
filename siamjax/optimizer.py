"""The optimizers of a configuration, as optax transformations."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import optax

from siamjax.choices import choose


def koch(
    epoch_steps: int,
    *,
    epoch_decay: float = 0.99,
    first_momentum: float = 0.5,
    momentum_epochs: int = 50,
    layers: Mapping[str, Mapping[str, float]],
) -> optax.GradientTransformation:
    """Momentum descent with each layer's own learning rate, final momentum and L2 weight.

    Koch, Zemel, Salakhutdinov (2015), section 3.2: the learning rates decay by 1 % per epoch; a layer's momentum rises
    linearly from 0.5 to its final value; L2 adds λ_layer Σ w² to the loss.

    Args:
      epoch_steps: training steps of an epoch.
      epoch_decay: factor of the learning rates per epoch.
      first_momentum: initial momentum.
      momentum_epochs: epochs over which momentum rises to each layer's final value.
      layers: layer -> "learning_rate", "momentum" (at the end of its rise) and "l2"; "default" for all others.
    """

    def layer_optimizer(layer):
        decayed = optax.exponential_decay(layer["learning_rate"], epoch_steps, epoch_decay, staircase=True)
        rise = epoch_steps * momentum_epochs
        momentum = optax.linear_schedule(first_momentum, layer["momentum"], rise)
        return optax.chain(
            optax.add_decayed_weights(2 * layer["l2"]),
            optax.inject_hyperparams(optax.sgd)(learning_rate=decayed, momentum=momentum),
        )

    def layer_names(params):
        return jax.tree.map_with_path(lambda path, _: _layer(path, layers), params)

    return optax.partition({name: layer_optimizer(layer) for name, layer in layers.items()}, layer_names)


def _layer(path, layers):
    """The first name along a parameter's path that has an entry in `layers`, else "default"."""
    return next((entry.key for entry in path if entry.key in layers), "default")


def adamw(
    steps: int,
    *,
    learning_rate: float = 2e-3,
    final_share: float = 0.01,
    warmup_steps: int = 20,
    weight_decay: float = 1e-4,
    clip_norm: float = 1.0,
    pretrained_share: float = 0.3,
    parts: tuple[str, ...] = ("encoder", "head"),
) -> optax.GradientTransformation:
    """AdamW with linear warm-up and cosine decay; the gradients of each part are clipped by their own norm.

    So the gradient of a head that is trained on the side does not shorten the encoder's steps.

    Args:
      steps: training steps in all, the length of the schedule.
      learning_rate: peak learning rate.
      final_share: final learning rate, as a share of the peak.
      warmup_steps: steps of linear warm-up; at most half of `steps`.
      weight_decay: decoupled, in units of the learning rate.
      clip_norm: the largest norm of a part's gradient.
      pretrained_share: learning rate of the encoder's layers that can start from published weights, in units of that of
        all others, 0..1; see `siamjax.encoders.Pretrained`. `siamjax.fit` and runs have 1 for random weights.
      parts: first keys of the parameters.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=learning_rate,
        warmup_steps=min(warmup_steps, steps // 2),
        decay_steps=steps,
        end_value=learning_rate * final_share,
    )
    clip = optax.clip_by_global_norm(clip_norm)
    clipped = optax.partition(dict.fromkeys(parts, clip), _parts)
    slower = [] if pretrained_share == 1 else [_slower(pretrained_share)]
    return optax.chain(clipped, optax.adamw(schedule, weight_decay=weight_decay), *slower)


def _slower(share):
    """Shortens the steps of published layers."""

    def shortened(updates, params):
        return jax.tree.map_with_path(lambda path, step: step * (share if _is_published(path) else 1), updates)

    return optax.stateless(shortened)


def keep_published(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """`optimizer` for all parameters but those of layers with published weights, which it keeps without a state."""

    def kinds(params):
        return jax.tree.map_with_path(lambda path, _: "kept" if _is_published(path) else "trained", params)

    return optax.partition({"trained": optimizer, "kept": optax.set_to_zero()}, kinds)


def _is_published(path):
    """Whether a parameter belongs to the architecture of a `siamjax.encoders.Pretrained`, by its path."""
    return any(getattr(entry, "key", None) == "backbone" for entry in path)


def _parts(params):
    """Each parameter's part of the model, "encoder" or "head"."""
    return {part: jax.tree.map(lambda _, part=part: part, tree) for part, tree in params.items()}


def make(
    name: Literal["adamw", "koch"],
    options: Mapping[str, Any],
    *,
    epoch_steps: int,
    steps: int,
    parts: tuple[str, ...] = ("encoder", "head"),
) -> optax.GradientTransformation:
    """The optimizer called `name`, with its `options`.

    Raises:
      ValueError: the name is unknown.
    """
    table: dict[str, Callable] = {
        "koch": functools.partial(koch, epoch_steps),
        "adamw": functools.partial(adamw, steps, parts=parts),
    }
    return choose("name", name, table)(**options)
