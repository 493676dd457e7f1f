"""Configuration -> optax chain."""

import jax
import optax

from siamjax.choices import choose


def make(config, epoch_steps: int, steps: int) -> optax.GradientTransformation:
    """The optimizer that `config` (the `optimizer` part of a configuration) names.

    Args:
      config: see configs/default.py.
      epoch_steps: training steps of an epoch, the unit of Koch's schedules.
      steps: training steps in all, the length of the cosine schedule.
    """
    table = {"koch": lambda: _koch(config.koch, epoch_steps), "adamw": lambda: _adamw(config.adamw, steps)}
    return choose("optimizer.name", config.name, table)()


def _koch(config, epoch_steps):
    """Momentum descent with each layer's own learning rate, final momentum and L2 weight.

    Koch, Zemel, Salakhutdinov (2015), section 3.2: the learning rates decay by 1 % an epoch; a layer's momentum rises
    linearly from 0.5 to its final value; L2 adds λ_layer Σ w² to the loss.
    """

    def layer_optimizer(layer):
        decayed = optax.exponential_decay(layer.learning_rate, epoch_steps, config.epoch_decay, staircase=True)
        rise = epoch_steps * config.momentum_epochs
        momentum = optax.linear_schedule(config.first_momentum, layer.momentum, rise)
        return optax.chain(
            optax.add_decayed_weights(2 * layer.l2),
            optax.inject_hyperparams(optax.sgd)(learning_rate=decayed, momentum=momentum),
        )

    def layer_names(params):
        return jax.tree.map_with_path(lambda path, _: _layer(path, config.layers), params)

    return optax.partition({name: layer_optimizer(layer) for name, layer in config.layers.items()}, layer_names)


def _layer(path, layers):
    """The first name along a parameter's path that has an entry in `layers`, else "default"."""
    return next((entry.key for entry in path if entry.key in layers), "default")


def _adamw(config, steps):
    """AdamW with linear warm-up and cosine decay; the gradients of encoder and head are clipped by their norm apart.

    A head that only learns beside a loss on embeddings must not shorten the encoder's steps.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=min(config.warmup_steps, steps // 2),
        decay_steps=steps,
        end_value=config.learning_rate * config.final_share,
    )
    clip = optax.clip_by_global_norm(config.clip_norm)
    return optax.chain(
        optax.partition({"encoder": clip, "head": clip}, _parts),
        optax.adamw(schedule, weight_decay=config.weight_decay),
    )


def _parts(params):
    """Each parameter's part of the model, "encoder" or "head"."""
    return {part: jax.tree.map(lambda _, part=part: part, tree) for part, tree in params.items()}
