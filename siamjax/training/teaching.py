"""Learning from a trained network: its similarities of a batch's images are targets, besides the labels."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from siamjax import losses, parallel
from siamjax.training.state import Model
from siamjax.training.types import Objective, Params
from siamjax.types import Array


def taught(
    objective: Objective, head: nn.Module, teacher: Model, variables: Params, shape: tuple[int, ...], share: float
) -> Objective:
    """`objective`, of which a share is replaced by `losses.similarity_distillation` from a teacher.

    Teacher and student see the same images, which are resized for the teacher where it takes others.

    Args:
      objective: of batches of identities.
      head: the student's.
      teacher: a trained model; its encoder, head and images may be of any kind.
      variables: its weights, {"encoder", "head"}.
      shape: of the images that it takes, (h, w, c).
      share: of the loss that is the teacher's, 0..1.
    """

    def score(images):
        embeddings = teacher.encoder.apply(variables["encoder"], resized(images, shape), train=False)
        return _all_pairs(teacher.head, variables["head"], parallel.gather(embeddings))

    def value(params, embeddings, batch):
        loss, metrics = objective.value(params, embeddings, batch)
        others = ~jnp.eye(len(embeddings), dtype=bool)
        logits = _all_pairs(head, params["head"], embeddings)
        lesson = losses.similarity_distillation(logits, score(batch.images), where=others)
        return (1 - share) * loss + share * lesson, metrics

    return objective._replace(value=value)


def resized(images: Array, shape: tuple[int, ...]) -> jax.Array:
    """Images [n, h, w, c] in the size of `shape`, (h, w, c): smaller ones are means over their area."""
    return jax.image.resize(images, (len(images), *shape), "linear", antialias=True)


def _all_pairs(head, params, embeddings):
    return head.apply({"params": params}, embeddings, embeddings, method="all_pairs")
