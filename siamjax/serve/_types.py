"""What a service takes and answers, from which FastAPI makes its OpenAPI; its limits; and how it refuses."""

import dataclasses
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

IMAGES = 32  # per request; a batch has as many
RANKED = 50  # matches per image

Image = Annotated[str, Field(description="the content of an image file (JPEG, PNG, ...) in base64")]
Images = Annotated[list[Image], Field(min_length=1, max_length=IMAGES)]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
      bytes: of its body.
      pixels: of one image, decoded.
      upload: seconds until its body has arrived.
      answer: seconds until it is answered, once it has arrived.
      requests: that are in work at a time.
    """

    bytes: int = 20 * 2**20
    pixels: int = 25_000_000
    upload: float = 20
    answer: float = 30
    requests: int = 128


class Refusal(Exception):
    """A request that is answered by an error: its `status`, and a `message` that says what was expected."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


class Request(BaseModel):
    """The body of a request; fields that are not known are refused."""

    model_config = ConfigDict(extra="forbid")


class ImagesRequest(Request):
    """Images to embed, or to read."""

    images: Images


class VerifyRequest(Request):
    """An image, and those it is compared with."""

    image: Image
    references: Images
    together: bool = Field(False, description="whether the references are of one identity, and also compared together")


class RankRequest(ImagesRequest):
    """Images to identify, or to search for."""

    k: int = Field(5, ge=1, le=RANKED, description="matches per image")


class EnrollRequest(ImagesRequest):
    """Images of one identity."""

    identity: str = Field(min_length=1, max_length=200)


class RenameRequest(Request):
    """An identity, and its new name."""

    identity: str = Field(min_length=1, max_length=200)
    to: str = Field(min_length=1, max_length=200, description="if another identity has this name, the two are merged")


class Histogram(BaseModel):
    """How many pairs of the network's own test have which scores."""

    pairs: str = Field(description="of what")
    edges: list[float] = Field(description="of the bins, one more than there are bins")
    same: list[int] = Field(description="pairs of the same identity in each bin")
    different: list[int]


class Embeddings(BaseModel):
    """n embeddings of d components."""

    embeddings: list[list[float]]
    network: str = Field(description="fingerprint of the network; embeddings of others cannot be compared")


_FAMILIAR = "whether it is of the kind of images that the network was fitted to; if not, the answer means nothing"


class PairAnswer(BaseModel):
    """Whether two images show the same identity."""

    same: bool = Field(description="whether the score is above the threshold")
    score: float = Field(description="output of the head, higher for more similar")
    probability: float = Field(description="calibrated probability of the same identity, if half of all pairs are")
    distance: float = Field(description="Euclidean distance of the embeddings")


class Verified(BaseModel):
    """The answer for each reference, in their order, and if asked for, by all of them together."""

    answers: list[PairAnswer]
    together: PairAnswer | None = Field(
        description="by all references, corrected for how alike they are; null if not asked for"
    )
    threshold: float
    familiar: list[bool] = Field(description=f"of the image, then of the references: {_FAMILIAR}")


class Ranked(BaseModel):
    """An enrolled image."""

    identity: str
    score: float
    probability: float | None = Field(description="of this pair alone; null if the network has no calibration")
    thumbnail: str | None = Field(description="address of a small JPEG")


class Who(BaseModel):
    """Who is in an image."""

    identity: str | None = Field(description="null: unknown, no score is above the threshold")
    ranked: list[Ranked] = Field(description="the best match of each identity, best first")
    familiar: bool = Field(description=_FAMILIAR)


class Identified(BaseModel):
    """An answer for each image, in their order."""

    answers: list[Who]


class Searched(BaseModel):
    """The matches of each image, best first, in the order of the images."""

    matches: list[list[Ranked]]


class Identity(BaseModel):
    """An enrolled identity."""

    identity: str
    images: int
    thumbnail: str | None


class Identities(BaseModel):
    """All identities of the gallery, by name."""

    identities: list[Identity]


class Changed(BaseModel):
    """What a change did: how many `images` of the `identity` were added, renamed or removed."""

    identity: str
    images: int


class Pictures(BaseModel):
    """Images as the network sees them: PNG files in base64."""

    images: list[Image]


class About(BaseModel):
    """The network of a service."""

    network: str = Field(description="fingerprint")
    shape: list[int] = Field(description="of an image: height, width, channels")
    ink: bool = Field(description="whether it was trained on dark ink on light paper")
    threshold: float | None = Field(description="null: it cannot verify or identify")
    slope: float | None = Field(
        description="probability = min(max(1 / (1 + exp(-slope * (score - even))), least), most)"
    )
    even: float | None
    least: float | None
    most: float | None
    histogram: Histogram | None = Field(description="null: no test has stored the scores of its pairs")
    gallery: bool


class Health(BaseModel):
    """Whether the service answers at full speed."""

    status: str = Field(description="ok; warming up; or failed, if a program could not be compiled")
