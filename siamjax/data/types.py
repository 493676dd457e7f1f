"""The contracts of the data package; see `siamjax.data.sources` for what fulfils them."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from ml_collections import ConfigDict

from siamjax.data.dataset import Dataset

T = TypeVar("T")
Datasets = dict[str, Dataset]  # by part: "train", "validation", "test", "few_shot", "gallery"
Tell = Callable[[str], Any]  # called with each line of a report
Setting = Callable[[ConfigDict], T]  # the `data` part of a configuration -> what follows from it


@dataclasses.dataclass(frozen=True)
class Source:
    """A source of data: how it is loaded, what an image is, and which evaluators judge a network on it.

    Functions take the `data` part of a configuration.

    Attributes:
      load: (config, whether to load the training data) -> "train" (absent where training draws its own images),
        "validation", "test"; "few_shot" where trials between groups have more images than "test" holds; "gallery"
        where queries are searched for in one.
      title: what the data is called in tables and pictures.
      evaluators: names of evaluators, in the order of the tables.
      skipped: evaluators among these that say nothing about this data, with the reason.
      ways: identities in a trial of "between_groups".
      channels: of an image, 1 (grey) or 3 (colour).
      invert: whether image files are inverted to look like these: dark ink on white paper becomes ink 255 on paper 0.
      ink: whether images are scans of which only the ink is kept, see `images.read`; then `invert` is True, too.
      faces: whether images are photographs of which only the face is kept, see `faces.aligned`.
      inputs: shape of an input, `invert`, and type, "uint8" or "float32"; None for images uint8 of
        `data.size` and `data.width`.
      form: settings for the shape of an input and its type, in this order, which a run takes from the data where they
        are empty; () if the other settings tell both.
      path: the file or folder that tells this data from other data of the same source; "" where the settings do.
      places: settings that only say where the data is stored.
      overlap: (settings of the training, settings of the evaluation) -> what both may have in common, for a warning; ""
        if nothing.
      square: whether images are square, whatever `data.width` says.
      trains: whether a network can be trained on it.
    """

    load: Callable[[ConfigDict, bool], Datasets]
    title: Setting[str]
    evaluators: Setting[tuple[str, ...]]
    skipped: Setting[dict[str, str]] = lambda config: {}
    ways: tuple[int, ...] = (5, 20)
    channels: Setting[int] = lambda config: 1
    invert: Setting[bool] = lambda config: True
    ink: Setting[bool] = lambda config: False
    faces: Setting[bool] = lambda config: False
    inputs: Setting[tuple[tuple[int, ...], bool, str]] | None = None
    form: tuple[str, str] | tuple[()] = ()
    path: Setting[str] = lambda config: ""
    places: tuple[str, ...] = ("data.data_dir", "data.manual_dir")
    overlap: Callable[[ConfigDict, ConfigDict], str] = lambda trained, evaluated: ""
    square: bool = False
    trains: bool = True
