"""The training step: a pure function of state, data and key, run on every device at once."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from siamjax import parallel
from siamjax.augment import turn as turned
from siamjax.augment import vary
from siamjax.sampling import Batch, Index
from siamjax.training.state import Model, State, average_of


@chex.dataclass(frozen=True)
class TrainingData:
    """What lies on every device: index tables, and uint8 images [n, h, w, c] (None where images are drawn).

    Where images are read as the steps go along, a step's `Batch` in place of the tables, and the device's share of its
    images.
    """

    index: Index | Batch
    images: Any = None


def step_keys(key, number):
    """The keys of step `number` of a run: to sample the batch, to fetch its images, to distort them."""
    return jax.random.split(jax.random.fold_in(key, number), 3)


def train_step(
    state: State,
    data: TrainingData,
    key,
    *,
    model: Model,
    sample,
    fetch,
    augment,
    objective,
    optimizer: optax.GradientTransformation,
    average: float = 0.0,
    known: int | None = None,
):
    """One step on one batch; the numbers do not depend on how many devices share the work.

    Args:
      state: before the step.
      data: the training data.
      key: the run's PRNG key; the step folds in its own number.
      model: encoder and head.
      sample: (key, index) -> the whole `Batch`.
      fetch: (key, data.images, item [m]) -> uint8 images [m, h, w, c].
      augment: (keys [m], images float [m, h, w, c]) -> images.
      objective: (params, embeddings [n, d], batch) -> (loss, metrics), on the whole batch.
      optimizer: optax transformation.
      average: by how much the running mean of the weights keeps to its old value, 0..1; 0 for none.
      known: from this label on, identities are variants of others, see `augment.vary`; None for no variants.

    Returns:
      The state after the step, and metrics as float scalars.
    """
    sample_key, fetch_key, augment_key = step_keys(key, state.step)
    batch = sample(sample_key, data.index)
    keys = jax.random.split(augment_key, len(batch.item))
    item, turn, label, keys = parallel.own_share((batch.item, batch.turn, batch.label, keys))
    images = fetch(fetch_key, data.images, item)
    noise = jax.vmap(jax.random.fold_in, (0, None))(keys, 101)
    images = (images if turn is None else turned(images, turn)).astype(jnp.float32) / 255
    if known is not None:
        others = vary(jax.vmap(jax.random.fold_in, (None, 0))(augment_key, label), images)
        images = jnp.where((label >= known)[:, None, None, None], others, images)
    images = augment(keys, images)

    def loss_of(params):
        # Each image brings its own noise, so that the number of devices changes nothing.
        variables = {"params": params["encoder"], "batch_stats": state.batch_stats, "noise": {"keys": noise}}
        embeddings, updated = model.encoder.apply(variables, images, train=True, mutable=["batch_stats"])
        loss, metrics = objective(params, parallel.gather(embeddings), batch)
        return loss, (metrics, updated.get("batch_stats", state.batch_stats))

    (loss, (metrics, batch_stats)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    # Each device differentiated the whole batch's loss through its own share: the mean over devices is the gradient.
    grads = parallel.mean(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    metrics = {"loss": loss, **metrics, "gradient_norm": optax.tree.norm(grads)}
    params = optax.apply_updates(state.params, updates)
    following = State(step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state)
    return following.replace(average=average_of(state, following, average)), metrics
