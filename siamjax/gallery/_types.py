"""The contracts of a gallery: what its store takes and returns, and what a search answers."""

import dataclasses
import pathlib
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import numpy as np

Metric = Literal["l2", "cosine"]
COLUMNS = ("identity", "path", "thumbnail")  # the fields of `Enrolled`, as stored


@dataclasses.dataclass(frozen=True, slots=True)
class Enrolled:
    """An enrolled image or vector, as a store keeps it.

    Attributes:
      identity: its name.
      path: where the image file was when it was enrolled; or the name of a vector.
      thumbnail: the path of its thumbnail, relative to the gallery's folder; "" for a vector.
    """

    identity: str
    path: str
    thumbnail: str


@dataclasses.dataclass(frozen=True)
class Found:
    """The result of one query: `scores` float [m], highest first, and the m `images` that have them."""

    scores: np.ndarray
    images: list[Enrolled]


@dataclasses.dataclass(frozen=True)
class Match:
    """An enrolled image or vector found by a query.

    Attributes:
      identity: its name.
      path: where the image file was when it was enrolled; or the name of a vector, "" without one.
      score: of the head, for the query and this image; higher is more similar. Of vectors, the cosine, or minus the
        Euclidean distance.
      probability: calibrated, 0..1, that the two show the same identity. It is of this pair alone: probabilities of
        several identities do not add up to 1. NaN for vectors and for networks without a decision, whose scores are
        not calibrated.
      thumbnail: a small copy of the image; missing on another machine than the one that enrolled it, and for vectors.
    """

    identity: str
    path: str
    score: float
    probability: float
    thumbnail: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Identified:
    """The answer to "who is this?".

    Attributes:
      identity: of the best match; None if its score is not above the threshold.
      ranked: the best match of each of the most similar identities, best first.
    """

    identity: str | None
    ranked: tuple[Match, ...]


@dataclasses.dataclass(frozen=True)
class Renamed:
    """What a change of a name did.

    Attributes:
      identity: its name now, as stored.
      images: how many got it.
      merged: whether another identity had that name already, so that the two are one now.
    """

    identity: str
    images: int
    merged: bool


class UnknownIdentity(ValueError):
    """The gallery has no such identity."""


class Scorer(Protocol):
    """A network's head: scores of embeddings, higher for more similar."""

    def score_pairs(self, embeddings: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Embeddings float [n, d] and pairs of their numbers int [p, 2] -> float [p]."""
        ...

    def score_all(self, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        """Embeddings float [q, d] and [n, d] -> float [q, n]."""
        ...


class Store(Protocol):
    """Embeddings of enrolled images, and the search among them. `FolderStore` and `DatabaseStore` are two."""

    def __len__(self) -> int:
        """The number of enrolled images."""
        ...

    def dimension(self) -> int | None:
        """The number of components of its embeddings; None as long as nothing is enrolled."""
        ...

    def identities(self) -> dict[str, int]:
        """The number of images of each identity, sorted by name."""
        ...

    def changing(self) -> AbstractContextManager[None]:
        """Locks the gallery for a change, by `add`, `remove` or `rename`, after reading what other processes wrote."""
        ...

    def add(self, embeddings: np.ndarray, images: Sequence[Enrolled]) -> None:
        """Adds n images with their embeddings float [n, d]: all of them, or on an error none."""
        ...

    def remove(self, identity: str) -> int:
        """Removes an identity and the files that nothing needs any more; returns the number of its images."""
        ...

    def rename(self, identity: str, to: str) -> int:
        """Gives all images of an identity to another, which may have some already; returns their number."""
        ...

    def images(self, identities: Collection[str]) -> list[Enrolled]:
        """The images of these identities."""
        ...

    def best(self, queries: np.ndarray, count: int) -> list[Found]:
        """For each of `queries` [q, d] the `count` images with the highest scores, or all if there are fewer."""
        ...
