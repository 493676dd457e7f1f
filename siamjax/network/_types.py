"""What a network takes and answers."""

import dataclasses
from typing import Literal

from ml_collections import ConfigDict

from siamjax.data import SOURCES

Metric = Literal["l2", "cosine"]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a network takes.

    Attributes:
      shape: of one input: (h, w, c) of an image.
      invert: whether image files are inverted.
      dtype: "uint8", which is divided by 255 before the encoder; or "float32".
    """

    shape: tuple[int, ...]
    invert: bool = False
    dtype: str = "uint8"


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


def inputs_of(config: ConfigDict) -> Inputs:
    """The inputs of a network of this configuration."""
    source = SOURCES[config.data.name]
    if source.inputs is not None:
        return Inputs(*source.inputs(config.data))
    size = config.data.size
    return Inputs((size, size, source.channels(config.data)), source.invert(config.data))
