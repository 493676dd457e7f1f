"""From the embeddings of a whole batch to the loss that is minimised, and what to report beside it.

An objective is (head, params, embeddings [n, d], batch) -> (loss, metrics).
"""

import functools

import jax.numpy as jnp
from jax import lax

from siamjax import distances, losses
from siamjax.choices import choose

_OF_TRIPLETS = ("batch_all_triplet", "batch_hard_triplet", "easy_positive_triplet", "semi_hard_triplet")


def make(config, batch):
    """The objective that `config` and `batch`, the `loss` and `batch` parts of a configuration, describe.

    Raises:
      ValueError: a name is unknown, or the loss cannot be taken on batches of this mode.
    """
    on_batches = set(config) - {"name"}  # The options of each batch loss stand under its name.
    name = choose("loss.name", config.name, {name: name for name in ("cross_entropy", "ranking", *on_batches)})
    of_pairs = batch.mode in ("pairs", "assigned")
    if name == "cross_entropy" and of_pairs:
        return cross_entropy_of_pairs
    if name == "cross_entropy":
        return functools.partial(cross_entropy, across_groups=batch.across_groups)
    if of_pairs:
        raise ValueError(f"loss.name={name!r} looks for its pairs in the batch; set batch.mode='identities'")
    if name == "ranking":
        return functools.partial(ranking, across_groups=batch.across_groups)
    return functools.partial(
        on_embeddings, loss=_loss(config), of_triplets=name in _OF_TRIPLETS, across_groups=batch.across_groups
    )


def cross_entropy_of_pairs(head, params, embeddings, batch):
    """Cross-entropy on the batch's pairs: image i with image i + n/2."""
    first, second = jnp.split(embeddings, 2)
    label, other = jnp.split(batch.label, 2)
    logits = head.apply({"params": params["head"]}, first, second)
    same = label == other
    return losses.binary_cross_entropy(logits, same), _accuracy(logits, same, jnp.ones_like(same))


def cross_entropy(head, params, embeddings, batch, *, across_groups: bool):
    """Balanced cross-entropy on all pairs of two different images of the batch.

    Every image is embedded once and compared with every other one; different pairs may be limited to one group.
    """
    logits = head.apply({"params": params["head"]}, embeddings, embeddings, method="all_pairs")
    same = batch.label[:, None] == batch.label[None, :]
    counts = ~jnp.eye(len(embeddings), dtype=bool)
    if not across_groups:
        counts &= batch.group[:, None] == batch.group[None, :]
    return losses.balanced_binary_cross_entropy(logits, same, where=counts), _accuracy(logits, same, counts)


def ranking(head, params, embeddings, batch, *, across_groups: bool):
    """Each positive's logit against those of all negatives of its anchor, by `losses.info_nce`: as one-shot trials ask.

    The loss does not depend on where logits have their zero; the head learns that from cross-entropy, beside it.
    """

    def apart(a, b):
        return -head.apply({"params": params["head"]}, a, b, method="all_pairs")

    def loss(embeddings, label):
        return losses.info_nce(embeddings, label, scale=1, distance=apart)

    return on_embeddings(head, params, embeddings, batch, loss=loss, of_triplets=False, across_groups=across_groups)


def on_embeddings(head, params, embeddings, batch, *, loss, of_triplets: bool, across_groups: bool):
    """A batch loss on the embeddings, between all groups; beside it, the head learns to tell same from different.

    The head's cross-entropy does not reach the encoder, and is not in the loss that is reported.
    """
    value, metrics = loss(embeddings, batch.label), {}
    if of_triplets:
        value, metrics["active_share"] = value
    reading, accuracy = cross_entropy(head, params, lax.stop_gradient(embeddings), batch, across_groups=across_groups)
    return value + (reading - lax.stop_gradient(reading)), metrics | accuracy


def _loss(config):
    """The function of `siamjax.losses` that `config` names, with its options."""
    options = dict(config[config.name])
    if "distance" in options:
        names = ("squared_euclidean", "euclidean", "l1", "lp", "cosine")
        table = {name: getattr(distances, f"pairwise_{name}") for name in names}
        options["distance"] = choose(f"loss.{config.name}.distance", options["distance"], table)
    if config.name in _OF_TRIPLETS:
        options["has_aux"] = True
    return functools.partial(getattr(losses, config.name), **options)


def _accuracy(logits, same, counts):
    """Share of same pairs, and of different ones, on the right side of zero, averaged."""
    right = (logits > 0) == same
    kinds = [counts & same, counts & ~same]
    return {"pair_accuracy": sum(jnp.sum(right & kind) / jnp.maximum(jnp.sum(kind), 1) for kind in kinds) / 2}
