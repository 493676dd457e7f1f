"""Learning from a trained network: its similarities of a batch's images are targets, besides the labels."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from siamjax import losses, parallel
from siamjax.training.state import Model
from siamjax.training.types import Mode, Objective, Params


def taught(
    objective: Objective,
    head: nn.Module,
    teacher: Model,
    variables: Params,
    *,
    share: float,
    mode: Mode,
    images: tuple[int, ...],
    expected: tuple[int, ...],
) -> Objective:
    """`objective`, of which a share is replaced by `losses.similarity_distillation` from a teacher.

    Both see the same images, which are resized for the teacher where it takes others.

    Args:
      objective, head: of the network that learns.
      teacher: a trained model; its encoder and head may be of any kind.
      variables: its weights, {"encoder", "head"}.
      share: of the loss that is the teacher's, above 0, at most 1.
      mode: how batches are made.
      images: shape of an input, (h, w, c).
      expected: shape of the inputs that the teacher takes.

    Raises:
      ValueError: batches are not of identities, or the teacher cannot see the images.
    """
    if mode != "identities":
        raise ValueError(f"teacher: it compares all inputs of a batch of identities, not of mode={mode!r}")
    resizable = len(expected) == len(images) == 3 and images[2] == expected[2]
    if images != expected and not resizable:
        raise ValueError(
            f"teacher: it takes inputs {list(expected)}, found {list(images)}: images of another size are resized for "
            "it, but it needs as many channels"
        )

    def score(inputs):
        if images != expected:
            inputs = jax.image.resize(inputs, (len(inputs), *expected), "linear", antialias=True)
        embeddings = teacher.encoder.apply(variables["encoder"], inputs, train=False)
        return _all_pairs(teacher.head, variables["head"], parallel.gather(embeddings))

    def value(params, embeddings, batch):
        loss, metrics = objective.value(params, embeddings, batch)
        others = ~jnp.eye(len(embeddings), dtype=bool)
        logits = _all_pairs(head, params["head"], embeddings)
        lesson = losses.similarity_distillation(logits, score(batch.images), where=others)
        return (1 - share) * loss + share * lesson, metrics

    return objective._replace(value=value)


def _all_pairs(head, params, embeddings) -> Any:
    return head.apply({"params": params}, embeddings, embeddings, method="all_pairs")
