"""What a network takes and answers."""

import dataclasses
from typing import Literal

Metric = Literal["l2", "cosine"]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The images that a network takes: `shape` is (h, w, c); `invert` says whether image files are inverted."""

    shape: tuple[int, int, int]
    invert: bool = False


@dataclasses.dataclass(frozen=True)
class Answer:
    """Whether two images show the same identity.

    Attributes:
      same: whether the score is above the threshold.
      score: the output of the head, higher for more similar.
      threshold: of the network's decision.
      distance: Euclidean distance of the two embeddings.
      probability: calibrated probability of "same", 0..1.
    """

    same: bool
    score: float
    threshold: float
    distance: float
    probability: float
