"""Objectives: the loss of a whole batch, from its embeddings, and the metrics reported with it."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from siamjax import distances, losses
from siamjax.choices import choose
from siamjax.options import DISTANCES, options
from siamjax.training.types import Batch, Metrics, Mode, Objective, Params
from siamjax.types import BatchLoss

_PUBLIC = {name: getattr(losses, name) for name in losses.__all__}


def _taking(*arguments):
    """The losses whose arguments without a default are these."""

    def needed(function):
        parameters = inspect.signature(function).parameters.values()
        return tuple(each.name for each in parameters if each.default is each.empty)

    return {name: function for name, function in _PUBLIC.items() if needed(function) == arguments}


# Losses that a configuration can name; add your own here, or pass it to `make`.
BATCH_LOSSES: dict[str, Callable] = _taking("embeddings", "labels")
PROXY_LOSSES: dict[str, Callable] = (
    _taking("embeddings", "labels", "proxies")
    | _taking("embeddings", "labels", "weights")
    | _taking("embeddings", "labels", "centers")
)
_OF_DISTANCES: dict[str, Callable] = _taking("distances", "same")
PAIR_LOSSES: dict[str, Callable] = _OF_DISTANCES | _taking("a", "b", "same")
HEAD_LOSSES = ("cross_entropy", "ranking")  # of the head's logits: they train encoder and head together

# The default distance of a pair loss, if not Euclidean: that of its paper.
_OF_PAIRS = {"exponential_contrastive": "l1"}


def loss_options() -> dict[str, dict[str, Any]]:
    """The options of every loss that can be named, with their defaults: those of the functions."""
    of_pairs = {name: {"distance": _OF_PAIRS.get(name, "euclidean")} for name in _OF_DISTANCES}
    found = {name: options(loss) for name, loss in (BATCH_LOSSES | PROXY_LOSSES | PAIR_LOSSES).items()}
    found = {name: own | of_pairs.get(name, {}) for name, own in found.items()}
    found["soft_triple"] |= {"per_class": 10}  # centres of a class
    found["sub_center_arcface"] |= {"per_class": 3}
    return found


def make(
    loss: str | BatchLoss,
    head: nn.Module,
    *,
    mode: Mode = "identities",
    options: Mapping[str, Any] | None = None,
    across_groups: bool = True,
    identities: int | None = None,
) -> Objective:
    """The objective of a loss.

    Args:
      loss: a name, or a function (embeddings [n, d], labels [n]) -> scalar. "cross_entropy" and "ranking" are computed
        from the head's logits; any other loss trains the encoder alone, and the head is trained on the side.
      head: compares embeddings.
      mode: how batches are made: "identities", "pairs" or "assigned".
      options: of the loss; None for its defaults.
      across_groups: whether the head's different pairs may be of two groups.
      identities: number of training identities, where they are fixed: a proxy loss has one proxy for each.

    Raises:
      ValueError: the name is unknown, or the loss does not fit batches of this mode.
    """
    if callable(loss):
        if mode != "identities":
            raise ValueError(f"mode={mode!r}: a function of embeddings and labels needs batches of identities")
        return _objective(functools.partial(on_embeddings, head, loss=loss, across_groups=across_groups))
    known = (*HEAD_LOSSES, *BATCH_LOSSES, *PROXY_LOSSES, *PAIR_LOSSES)
    choose("name", loss, dict.fromkeys(known))
    of_pairs, given = mode in ("pairs", "assigned"), loss_options().get(loss, {}) | dict(options or {})
    if loss == "cross_entropy" and of_pairs:
        return _objective(functools.partial(on_pairs, head))
    if loss == "cross_entropy":
        return _objective(functools.partial(cross_entropy, head, across_groups=across_groups))
    if loss in PAIR_LOSSES:
        return _of_pairs(loss, head, given, of_pairs)
    if of_pairs:
        raise ValueError(f"name={loss!r} is a batch loss: set batch.mode='identities'")
    if loss == "ranking":
        return _objective(functools.partial(ranking, head, across_groups=across_groups))
    return _on_embeddings(loss, head, given, across_groups, identities)


def _objective(value, init=lambda key, dimension: {}):
    return Objective(init=init, value=value)


def _of_pairs(name, head, given, of_pairs):
    if not of_pairs:
        raise ValueError(f"name={name!r} is a loss of given pairs: set batch.mode='pairs', or name 'batch_{name}'")
    if name not in _OF_DISTANCES:
        return _objective(functools.partial(on_pairs, head, loss=functools.partial(PAIR_LOSSES[name], **given)))
    distance, _ = _distances(name, given.pop("distance"))

    def loss(first, second, same):
        return _OF_DISTANCES[name](distance(first, second), same, **given)

    return _objective(functools.partial(on_pairs, head, loss=loss))


def _distances(loss, name):
    if name == "dot":
        raise ValueError(f"{loss}.distance='dot' is a similarity, and would train the opposite: choose 'cosine'")
    return choose(f"{loss}.distance", name, DISTANCES)


def _on_embeddings(name, head, given, across_groups, identities):
    if "distance" in given:
        _, given["distance"] = _distances(name, given["distance"])
    function = (BATCH_LOSSES | PROXY_LOSSES)[name]
    of_triplets = "has_aux" in inspect.signature(function).parameters
    if of_triplets:
        given["has_aux"] = True
    value = functools.partial(on_embeddings, head, across_groups=across_groups, has_aux=of_triplets)
    if name in BATCH_LOSSES:
        return _objective(functools.partial(value, loss=functools.partial(function, **given)))
    if identities is None:
        raise ValueError(f"name={name!r} learns a point for each identity: it needs identities that are the same "
                         "at every step, not glyphs, and data.turns=1")  # fmt: skip
    shape = (identities, given.pop("per_class")) if "per_class" in given else (identities,)

    def init(key, dimension):
        return {"proxies": distances.unit(jax.random.normal(key, (*shape, dimension)))}

    loss = functools.partial(function, **given)
    return _objective(functools.partial(value, loss=loss, of_proxies=True), init)


def on_pairs(
    head: nn.Module,
    params: Params,
    embeddings: jax.Array,
    batch: Batch,
    *,
    loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] | None = None,
) -> tuple[jax.Array, Metrics]:
    """A loss on the batch's pairs, image i with image i + n/2, and the head's cross-entropy on them.

    Without a `loss` (first [n/2, d], second [n/2, d], same [n/2]), the cross-entropy trains both; with one, it does not
    reach the encoder, nor the reported loss.
    """
    first, second = jnp.split(embeddings, 2)
    label, other = jnp.split(batch.label, 2)
    same = label == other
    read = (lax.stop_gradient(first), lax.stop_gradient(second)) if loss else (first, second)
    logits = _logits(head, params, *read)
    reading = losses.binary_cross_entropy(logits, same)
    value = loss(first, second, same) + (reading - lax.stop_gradient(reading)) if loss else reading
    return value, _accuracy(logits, same, jnp.ones_like(same))


def cross_entropy(
    head: nn.Module, params: Params, embeddings: jax.Array, batch: Batch, *, across_groups: bool
) -> tuple[jax.Array, Metrics]:
    """Balanced cross-entropy on all pairs of two different images of the batch.

    Every image is embedded once and compared with every other one; different pairs may be limited to one group.
    """
    logits = _logits(head, params, embeddings, embeddings, "all_pairs")
    same = batch.label[:, None] == batch.label[None, :]
    counts = ~jnp.eye(len(embeddings), dtype=bool)
    if not across_groups:
        counts &= batch.group[:, None] == batch.group[None, :]
    return losses.balanced_binary_cross_entropy(logits, same, where=counts), _accuracy(logits, same, counts)


def ranking(
    head: nn.Module, params: Params, embeddings: jax.Array, batch: Batch, *, across_groups: bool
) -> tuple[jax.Array, Metrics]:
    """Each positive's logit against those of all negatives of its anchor, by `losses.info_nce`: as in one-shot trials.

    The loss does not change when all logits shift; the head learns their zero from cross-entropy.
    """

    def apart(a, b):
        return -_logits(head, params, a, b, "all_pairs")

    def loss(embeddings, label):
        return losses.info_nce(embeddings, label, scale=1, distance=apart)

    return on_embeddings(head, params, embeddings, batch, loss=loss, across_groups=across_groups)


def on_embeddings(
    head: nn.Module,
    params: Params,
    embeddings: jax.Array,
    batch: Batch,
    *,
    loss: BatchLoss,
    across_groups: bool,
    has_aux: bool = False,
    of_proxies: bool = False,
) -> tuple[jax.Array, Metrics]:
    """A batch loss on the embeddings, over all groups; in parallel, the head learns to tell same from different.

    The head's cross-entropy does not reach the encoder, and is not in the reported loss.
    """
    proxies = (params["loss"]["proxies"],) if of_proxies else ()
    value, metrics = loss(embeddings, batch.label, *proxies), {}
    if has_aux:
        value, metrics["active_share"] = value
    reading, accuracy = cross_entropy(head, params, lax.stop_gradient(embeddings), batch, across_groups=across_groups)
    return value + (reading - lax.stop_gradient(reading)), metrics | accuracy


def _logits(head, params, a, b, method="__call__") -> Any:
    return head.apply({"params": params["head"]}, a, b, method=method)


def _accuracy(logits, same, counts) -> Metrics:
    """Share of same pairs, and of different ones, on the right side of zero, averaged."""
    right = (logits > 0) == same
    of_same, of_different = (
        jnp.sum(right & kind) / jnp.maximum(jnp.sum(kind), 1) for kind in (counts & same, counts & ~same)
    )
    return {"pair_accuracy": (of_same + of_different) / 2}
