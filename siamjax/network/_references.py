"""One image compared with several references of one identity."""

import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from siamjax.decision import Decision
from siamjax.files import shown
from siamjax.network._types import Answer

_MOST = 100  # references, all of which are compared with one another

Paths = Sequence[str | os.PathLike[str]]


class _Scorer(Protocol):
    def score_pairs(self, embeddings: np.ndarray, pairs: np.ndarray) -> np.ndarray: ...


class _Network(_Scorer, Protocol):
    towers: int

    @property
    def decision(self) -> Decision: ...

    def read(self, paths: Paths) -> np.ndarray: ...

    def embed_pairs(self, images: np.ndarray, pairs: np.ndarray) -> np.ndarray: ...


def score_references(
    scorer: _Scorer, embeddings: np.ndarray, references: npt.ArrayLike, query: npt.ArrayLike, decision: Decision
) -> np.ndarray:
    """Scores each query against k references of one identity, corrected for how alike these are.

    The images of some identities vary little, those of others more than a good imitation would: no threshold on the
    score of a pair fits both. With mean score m of the query with the references, mean score a of the references with
    one another, and the mean score u of two images of one identity (`decision.usual`), the score is

        m + (1 − 1/k) · (u − max(a, decision.even)).

    So one reference scores as in `score_pairs`. The factor makes little of the few pairs of few references; the maximum
    keeps references that are not of one identity from making everyone similar. An image that is several times among
    the references of a query counts as often in m, and with itself as u in a.

    Args:
      scorer: a network, whose `score_pairs` should not depend on the order in a pair.
      embeddings: float [n, d].
      references: int [t, k], image numbers 0..n-1, k at least 1.
      query: int [t], image numbers.
      decision: of the network.

    Returns:
      Float32 [t], to be compared with the decision's threshold.

    Raises:
      ValueError: the shapes differ from these, a number is out of range, the embeddings are of two towers, or the
        decision, of an older version, has no `usual`.
    """
    references, query, usual = np.asarray(references), np.asarray(query), decision.usual
    if references.ndim != 2 or not references.shape[1] or query.shape != references.shape[:1]:
        raise ValueError(
            f"references {list(references.shape)} and query {list(query.shape)}: expected [t, k] and [t], k at least 1"
        )
    count = references.shape[1]
    if count > 1 and (embeddings.ndim == 3 or usual is None):
        why = (
            "a network with two towers does not compare images of one side with one another"
            if embeddings.ndim == 3
            else "this decision was fitted by an older version, which did not store how alike images of one identity "
            "are; evaluate the run again (siamjax evaluate RUN)"
        )
        raise ValueError(f"{count} references: {why}, or give one reference")
    sets, of_query = np.unique(references, axis=0, return_inverse=True)  # Many queries have the same references.
    one, other = np.triu_indices(count, 1)
    with_query = np.stack([references.ravel(), np.repeat(query, count)], axis=1)
    of_sets = np.stack([sets[:, one].ravel(), sets[:, other].ravel()], axis=1)
    pairs = np.concatenate([with_query, of_sets])
    # Protocols repeat pairs: each is scored once.
    codes = pairs[:, 0].astype(np.int64) * 2**32 + pairs[:, 1]
    _, kept, of_pair = np.unique(codes, return_index=True, return_inverse=True)
    scores = scorer.score_pairs(embeddings, pairs[kept])[of_pair]
    mean = scores[: len(with_query)].reshape(len(query), count).mean(axis=1)
    if count == 1 or usual is None:
        return mean
    itself = sets[:, one] == sets[:, other]
    alike = np.where(itself, usual, scores[len(with_query) :].reshape(len(sets), len(one))).mean(axis=1)
    correction = (1 - 1 / count) * (usual - np.maximum(alike, decision.even))
    return (mean + correction[of_query.ravel()]).astype(np.float32)


def verified(network: _Network, first: str | os.PathLike[str] | Paths, second: str | os.PathLike[str]) -> Answer:
    """See `Network.verify`."""
    decision = network.decision
    references = [first] if isinstance(first, str | os.PathLike) else list(first)
    if len(references) != 1:
        _check(references, second)
    count = len(references)
    images = network.read([*references, second])
    pairs = np.stack([np.arange(count), np.full(count, count)], axis=1).astype(np.int32)
    embeddings = network.embed_pairs(images, pairs)
    (score,) = score_references(network, embeddings, np.arange(count)[None], [count], decision).tolist()
    if network.towers == 2:
        embeddings = embeddings[[0, 1], [0, 1]]
    return Answer(
        same=bool(decision.same(score)),
        score=score,
        threshold=decision.threshold,
        distance=float(np.linalg.norm(embeddings[:count] - embeddings[count], axis=1).mean()),
        probability=float(decision.probability(score)),
        familiar=bool(decision.knows(images).all()),
    )


def _check(references, second):
    """Refuses references that would make `second` similar to anything."""
    if not 1 <= len(references) <= _MOST:
        raise ValueError(f"{len(references)} references: expected 1 to {_MOST} images of one identity")
    real = [os.path.realpath(path) for path in references]
    if os.path.realpath(second) in real:
        raise ValueError(f"{shown(second)} is among the references that it is compared with; leave it out there")
    if twice := [path for number, path in enumerate(real) if path in real[:number]]:
        raise ValueError(f"{shown(twice[0])} is twice among the references; name each image once")
