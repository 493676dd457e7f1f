"""The training step: a pure function of state and batch, run on every device at once."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jax import lax

from siamjax import encoders, parallel
from siamjax.training.state import Model, State, average_of
from siamjax.training.types import Batch, Batches, Metrics, Objective
from siamjax.types import Device


def update(
    state: State,
    batch: Batch,
    *,
    model: Model,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    average: float = 0.0,
    chunk: int = 0,
) -> tuple[State, Metrics]:
    """One step on one batch; the numbers do not depend on how many devices share the work.

    Args:
      state: before the step.
      batch: this device's share of the images, and the identities of the whole batch.
      model: encoder and head.
      objective: the loss of the whole batch.
      optimizer: optax transformation.
      average: decay of the running mean of the weights, 0..1; 0 for none.
      chunk: images that each device embeds at a time, a divisor of its share; 0 for all. The loss is that of the whole
        batch, and so is its gradient, to rounding; activations are held for one chunk only, and computed a second time.
        Batch statistics, if the encoder has any, are those of a chunk; random layers of an encoder of one's own draw
        independently in each.

    Returns:
      The state after the step, and metrics as float scalars.
    """

    def embed(params, images, noise):
        variables = {"params": params, "batch_stats": state.batch_stats, "noise": {"keys": noise}}
        return model.encoder.apply(variables, images, train=True, mutable=["batch_stats"])

    def loss_of(params):
        embeddings, updated = _in_chunks(embed, chunk, params["encoder"], batch.images, batch.noise)
        loss, metrics = objective.value(params, parallel.gather(embeddings), batch)
        return loss, (metrics, updated.get("batch_stats", state.batch_stats))

    (loss, (metrics, batch_stats)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    # Each device differentiated the whole batch's loss through its own share: the mean over devices is the gradient.
    grads = parallel.mean(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    metrics = {"loss": loss, **metrics, "gradient_norm": optax.tree.norm(grads)}
    params = optax.apply_updates(state.params, updates)
    following = State(step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state)
    return dataclasses.replace(following, average=average_of(state, following, average)), metrics


def _in_chunks(embed, chunk, params, images, noise):
    """`embed(params, images, noise)` of all images, in chunks whose activations are not kept.

    Gao, Zhang, Han, Callan: Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup (RepL4NLP, 2021),
    https://arxiv.org/abs/2101.06983 (GradCache).
    """
    if not 0 < chunk < len(images):
        return embed(params, images, noise)
    parts = jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), (images, noise))
    embed_again = jax.checkpoint(lambda part: embed(params, *part), prevent_cse=False)
    with encoders.within_loop():
        embeddings, updated = lax.map(embed_again, parts)
    return embeddings.reshape(len(images), -1), jax.tree.map(_of_chunks, updated)


def _of_chunks(x):
    """Running statistics move towards the mean of those of the chunks [chunks, ...]; frozen ones stay to the bit.

    (The mean of three equal numbers is not always that number.) What is not a float, such as a count, moves once.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x[-1]
    return jnp.where(jnp.all(x == x[:1], axis=0), x[0], x.mean(0))


def stepper(
    update: Callable[[State, Batch], tuple[State, Metrics]],
    batches: Batches,
    key: jax.Array,
    devices: Sequence[Device] | None = None,
) -> Callable[..., tuple[State, Metrics]]:
    """A function (replicated state, number, count) -> (state, metrics) that takes the `count` steps from `number` on.

    Metrics are those of the last step, replicated. The state is donated.

    Args:
      update: the step on one batch.
      batches: how batches are made.
      key: the run's PRNG key.
      devices: None for all local ones.
    """
    key = parallel.replicate(key, devices)

    def one(state, inputs, key):
        return update(state, batches.make_batch(inputs, key, state.step))

    def several(state, inputs, key, *, count):
        state, metrics = lax.scan(lambda state, _: one(state, inputs, key), state, length=count)
        return state, jax.tree.map(lambda values: values[-1], metrics)

    @functools.cache
    def program(count):
        step = one if count == 1 else functools.partial(several, count=count)
        return parallel.pmap(step, donate=(0,), devices=devices)

    def take(state, number, count: int = 1):
        if batches.constant:
            return program(count)(state, batches.inputs(state, number), key)
        metrics: Metrics = {}
        for each in range(number, number + count):
            state, metrics = program(1)(state, batches.inputs(state, each), key)
        return state, metrics

    return take
