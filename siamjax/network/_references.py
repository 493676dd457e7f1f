"""One image compared with several references of one identity."""

import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from siamjax.decision import Decision
from siamjax.network._types import Answer

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
    scorer: _Scorer, embeddings: np.ndarray, references: np.ndarray, query: np.ndarray, usual: float = 0.0
) -> np.ndarray:
    """Scores each query against k references, in view of how alike these are: people differ in how much they vary.

    The mean of the query's k scores, plus `usual`, minus the mean of all k² scores of the references with one another,
    where that of one with itself, which says nothing, counts as `usual`. So if the references are as alike as same
    pairs usually are, it is the mean score; and one reference scores as in `score_pairs`.

    Args:
      scorer: a network; its `score_pairs` must not depend on the order in a pair.
      embeddings: float [n, d].
      references: int [t, k], image numbers 0..n-1.
      query: int [t], image numbers.
      usual: the score of a same pair on average, see `Decision.usual`. It is added to all scores alike, so that they
        can be compared with those of pairs.

    Returns:
      Float32 [t].

    Raises:
      ValueError: a number is out of range.
    """
    count = references.shape[1]
    pairs = np.stack([references.ravel(), np.repeat(query, count)], axis=1)
    scores = scorer.score_pairs(embeddings, pairs).reshape(-1, count).mean(axis=1)
    one, other = np.triu_indices(count, 1)
    sets, of_query = np.unique(references, axis=0, return_inverse=True)  # Most are those of many queries.
    pairs = np.stack([sets[:, one].ravel(), sets[:, other].ravel()], axis=1)
    alike = scorer.score_pairs(embeddings, pairs).reshape(len(sets), -1)
    return (scores - 2 / count**2 * (alike - usual).sum(axis=1)[of_query.ravel()]).astype(np.float32)


def verified(network: _Network, first: str | os.PathLike[str] | Paths, second: str | os.PathLike[str]) -> Answer:
    """See `Network.verify`."""
    decision = network.decision
    references = [first] if isinstance(first, str | bytes | os.PathLike) else list(first)
    if not references:
        raise ValueError("no reference: expected one image or more to compare with")
    count = len(references)
    images = network.read([*references, second])
    pairs = np.stack([np.arange(count), np.full(count, count)], axis=1).astype(np.int32)
    embeddings = network.embed_pairs(images, pairs)
    if count == 1:
        score = float(network.score_pairs(embeddings, pairs)[0])
    elif network.towers == 2:
        raise ValueError(
            f"{count} references: a network with two towers does not compare images of one side with one another; "
            "give one reference"
        )
    elif decision.usual is None:
        raise ValueError(
            f"{count} references: this network was evaluated before several could be used; evaluate its run again "
            "(siamjax evaluate RUN), or give one reference"
        )
    else:
        numbers = np.arange(count, dtype=np.int32)[None]
        score = float(score_references(network, embeddings, numbers, np.array([count], np.int32), decision.usual)[0])
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
