"""What a network takes and answers."""

import dataclasses
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from ml_collections import ConfigDict

from siamjax.data import SOURCES, Images, arrays, faces, ink

Metric = Literal["l2", "cosine"]

# What a threshold is, where it comes from, and what can be done without; the end of an error message.
UNDECIDED = (
    "above which two inputs are the same: it is measured on identities that are not trained on. Train with some of "
    "yours held out, siamjax.fit(x, y, validation=(held_out_x, held_out_y)), or use what needs none: embed, "
    "score_pairs, and Gallery.search"
)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a network takes.

    Attributes:
      shape: of one input: (h, w, c) of an image.
      invert: whether image files are inverted.
      dtype: "uint8", which is divided by 255 before the encoder; or "float32".
      ink: whether only the ink of image files is kept, see `siamjax.data.images.read`.
      faces: whether the face of image files is cropped, see `siamjax.data.faces.aligned`.
    """

    shape: tuple[int, ...]
    invert: bool = False
    dtype: str = "uint8"
    ink: bool = False
    faces: bool = False

    def __str__(self) -> str:
        what = "images" if self.dtype == "uint8" else "inputs"
        return f"{what} {self.dtype} [n, {', '.join(map(str, self.shape))}]"

    def identifying(self) -> dict[str, Any]:
        """What `Network.fingerprint` hashes; of prepared images also the version of how they are prepared."""
        kind = dataclasses.asdict(self)
        if self.dtype == "uint8":
            del kind["dtype"]  # As hashed when there was no other.
        for name, version in (("ink", ink.VERSION), ("faces", faces.VERSION)):
            if not kind[name]:
                del kind[name]  # Likewise.
            elif version > 1:
                kind[name] = version
        return kind

    def checked(self, images: npt.ArrayLike | Images) -> np.ndarray | Images:
        """`images` [n, ...] as an array, or read on access; numbers of other types than uint8 become float32 ones.

        Raises:
          ValueError: they are of another shape or type; the message says what to do.
        """
        if not isinstance(images, Images):
            images = arrays.inputs(images, "images") if self.dtype == "float32" else np.asarray(images)
        remedies = [] if images.shape[1:] == self.shape else ["resize them first"]
        if images.dtype != self.dtype:
            whole = "convert them to whole numbers, 0 to 255, of type numpy.uint8"
            scaled = "convert and scale them as in training: they are not divided by 255 here"
            remedies.append(whole if self.dtype == "uint8" else scaled)
        if remedies:
            raise ValueError(
                f"this network takes {self}, found {images.dtype} {list(images.shape)}; {', and '.join(remedies)}"
            )
        return images


@dataclasses.dataclass(frozen=True)
class Answer:
    """Whether two images, or an image and several references of one identity, show the same identity.

    Attributes:
      same: whether the score is above the threshold.
      score: the output of the head, higher for more similar; of several references, see `score_references`.
      threshold: of the network's decision.
      distance: Euclidean distance of the two embeddings; mean over the references.
      probability: calibrated probability of "same", 0..1.
      familiar: whether all images are of the kind that the decision was fitted to, see `Decision.knows`; if not, the
        answer means nothing.
    """

    same: bool
    score: float
    threshold: float
    distance: float
    probability: float
    familiar: bool


def inputs_of(config: ConfigDict) -> Inputs:
    """The inputs of a network of this configuration."""
    source = SOURCES[config.data.name]
    if source.inputs is not None:
        return Inputs(*source.inputs(config.data))
    height, width = config.data.size, config.data.width or config.data.size
    return Inputs(
        (height, width, source.channels(config.data)),
        source.invert(config.data),
        ink=source.ink(config.data),
        faces=source.faces(config.data),
    )
