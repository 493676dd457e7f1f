"""What a gallery of vectors has in place of a network: their metric, and a threshold if one is given."""

import hashlib
import os
import pathlib
from typing import get_args

import numpy as np
import numpy.typing as npt

from siamjax.decision import Decision
from siamjax.gallery._types import Metric

_LONG = 1e18  # its square, and that of its inverse, are in the range of float32


class Vectors:
    """Scores vectors by a metric; a `Scorer`.

    Attributes:
      metric: "cosine", scores are the cosine of the angle, −1..1; or "l2", scores are minus the Euclidean distance.
      decision: its threshold is NaN if none is given; and it has no probabilities, all are NaN.
      fingerprint: of the metric and the folder, so that two galleries in one database do not mix.
      place: "", as there is no network.
    """

    place = ""

    def __init__(self, folder: pathlib.Path, metric: Metric, threshold: float | None = None):
        """Checks the arguments.

        Args:
          folder: of the gallery.
          metric: see the class.
          threshold: vectors are of the same identity if their score is above it; None for no decisions.

        Raises:
          ValueError: the metric is not known, or the threshold not finite.
        """
        if metric not in get_args(Metric):
            raise ValueError(f"metric={metric!r}: expected 'cosine' or 'l2'")
        self.metric: Metric = metric
        self.decision = Decision(np.nan, np.nan, np.nan).moved(threshold)
        self.fingerprint = hashlib.sha256(f"vectors {metric} {os.path.abspath(folder)}".encode()).hexdigest()

    def probability(self, scores: npt.ArrayLike) -> np.ndarray:
        """NaN for each of scores float [n]: they are not calibrated."""
        return self.decision.probability(scores)

    def matches(self, fingerprint: str) -> bool:
        """True: the metric alone tells whether vectors can be compared, wherever a gallery has been moved."""
        return True

    def checked(self, vectors: npt.ArrayLike, dimension: int | None) -> np.ndarray:
        """Vectors as float32 [n, d].

        Args:
          vectors: numbers [n, d].
          dimension: d of the vectors in the gallery; None if it has none.

        Raises:
          ValueError: the shape or the type is another; a vector is not finite, or has no direction to compare.
        """
        vectors = np.asarray(vectors)
        if vectors.ndim != 2 or not vectors.shape[1] or not np.can_cast(vectors.dtype, np.float32, "same_kind"):
            raise ValueError(
                f"vectors: found {vectors.dtype} {list(vectors.shape)}, expected numbers [n, d]; a single vector is [v]"
            )
        if dimension not in (None, vectors.shape[1]):
            raise ValueError(
                f"vectors: found {vectors.shape[1]} components, expected {dimension}, as the enrolled ones have"
            )
        with np.errstate(over="ignore"):
            vectors = vectors.astype(np.float32)
            length = np.linalg.norm(vectors, axis=1)
        if (wrong := np.flatnonzero(~(length < _LONG))).size:
            raise ValueError(
                f"vectors[{wrong[0]}] has NaN or infinity, or a length above {_LONG:g}; expected finite numbers"
            )
        if self.metric == "cosine" and (wrong := np.flatnonzero(length < 1 / _LONG)).size:
            raise ValueError(
                f"vectors[{wrong[0]}] is zero, so that it has no direction to compare; leave it out, or use metric='l2'"
            )
        return vectors

    def score_pairs(self, embeddings: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Vectors float [n, d] and pairs of their numbers int [p, 2] -> float [p]."""
        a, b = embeddings[pairs[:, 0]], embeddings[pairs[:, 1]]
        if self.metric == "l2":
            return -np.linalg.norm(a - b, axis=1)
        return np.sum(_unit(a) * _unit(b), axis=1)

    def score_all(self, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        """Vectors float [q, d] and [n, d] -> float [q, n]."""
        if self.metric == "cosine":
            return _unit(queries) @ gallery.T / np.sqrt(np.einsum("nd,nd->n", gallery, gallery))
        import sklearn.metrics  # Takes a second to import.

        return -sklearn.metrics.euclidean_distances(queries, gallery)


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
