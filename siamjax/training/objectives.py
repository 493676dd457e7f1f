"""From the embeddings of a whole batch to the loss that is minimised, and what to report beside it."""

import jax.numpy as jnp

from siamjax import losses


def sampled_pairs(head, params, embeddings, batch):
    """Cross-entropy on the batch's pairs: image i with image i + n/2."""
    first, second = jnp.split(embeddings, 2)
    label, other = jnp.split(batch.label, 2)
    logits = head.apply({"params": params["head"]}, first, second)
    same = label == other
    return losses.binary_cross_entropy(logits, same), _accuracy(logits, same, jnp.ones_like(same))


def all_pairs(head, params, embeddings, batch, *, across_groups: bool):
    """Balanced cross-entropy on all pairs of two different images of the batch.

    Every image is embedded once and compared with every other one; different pairs may be limited to one group.
    """
    logits = head.apply({"params": params["head"]}, embeddings, embeddings, method="all_pairs")
    same = batch.label[:, None] == batch.label[None, :]
    counts = ~jnp.eye(len(embeddings), dtype=bool)
    if not across_groups:
        counts &= batch.group[:, None] == batch.group[None, :]
    return losses.balanced_binary_cross_entropy(logits, same, where=counts), _accuracy(logits, same, counts)


def _accuracy(logits, same, counts):
    """Share of same pairs, and of different ones, on the right side of zero, averaged."""
    right = (logits > 0) == same
    kinds = [counts & same, counts & ~same]
    return {"pair_accuracy": sum(jnp.sum(right & kind) / jnp.maximum(jnp.sum(kind), 1) for kind in kinds) / 2}
