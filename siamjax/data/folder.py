"""Your own images: a folder, or a table that lists files, prepared once and then read like any other data set."""

import dataclasses
import os
import pathlib

import numpy as np
from ml_collections import ConfigDict

from siamjax.choices import choose
from siamjax.data import image_cache, splits
from siamjax.data.finding import find
from siamjax.data.types import Datasets, Source, Tell
from siamjax.files import opened, shown

_CACHE = pathlib.Path("~/tensorflow_datasets/siamjax")  # of prepared images, unless `data.data_dir` says otherwise


def prepare(place: str | os.PathLike, how: image_cache.Preparation, tell: Tell = print) -> image_cache.Prepared:
    """Reads all images of `place`, or takes them from an earlier call's cache, and reports on them.

    Prepared images are stored as array_record, in a folder of the cache that is named by the files' fingerprints and by
    the settings: after a change of either they are prepared again.

    Args:
      place: see `find`.
      how: how to prepare them.
      tell: called with each line of the report.

    Raises:
      FileNotFoundError: see `find`.
      OSError: the cache cannot be written to.
      ValueError: see `find`; or files cannot be read.
    """
    files = find(place, tell)
    return image_cache.prepare_images(
        [file.path for file in files],
        how,
        describe=lambda number: dataclasses.astuple(files[number])[1:],
        content=lambda number: opened(files[number].path),
        fingerprints=[f"{image_cache.fingerprint(file.path)} {file}" for file in files],
        name=shown(place),
        tell=tell,
    )


def read_all(
    place: str | os.PathLike, size: int, *, channels: int = 1, invert: bool = False
) -> tuple[np.ndarray, list[str]]:
    """The images of a folder as arrays, for `siamjax.fit`; they are prepared once, in ~/tensorflow_datasets/siamjax.

    Args:
      place: a folder with one folder for each identity; or a CSV file with the columns path and identity.
      size: side in pixels; images are fitted into a square.
      channels: 1 for grey, 3 for colour.
      invert: for dark ink on white paper: makes paper 0.

    Returns:
      Images uint8 [n, size, size, channels], and the identity of each, n strings.

    Raises:
      FileNotFoundError, ValueError: see `prepare`.
    """
    prepared = prepare(place, image_cache.Preparation(_CACHE, size, channels, invert))
    return prepared.images[np.arange(len(prepared.files))], [file.identity for file in prepared.files]


def parts_of(prepared: image_cache.Prepared, config: ConfigDict, name: str, train: bool) -> Datasets:
    """Prepared images as "train" (if `train`), "validation" and "test", split as set by `config.folder`."""
    own = config.folder
    choose("data.folder.by", own.by, dict.fromkeys(("identity", "group")))
    parts = splits.split_by(
        own, np.array([file.group if own.by == "group" else file.identity for file in prepared.files])
    )
    return {
        part: image_cache.dataset(prepared, numbers, f"{name} {part}", config.stream and part == "train")
        for part, numbers in parts.items()
        if train or part != "train"
    }


def preparation(config: ConfigDict) -> image_cache.Preparation:
    """How `config`, the `data` part of a configuration, prepares images."""
    own = config.folder
    cache = pathlib.Path(config.data_dir) / "siamjax" if config.data_dir else _CACHE
    return image_cache.Preparation(
        cache, config.size, own.channels, own.invert, own.skip_unreadable, own.pixels, config.ink
    )


def _load(config: ConfigDict, train: bool) -> Datasets:
    path = config.folder.path
    if not path:
        raise ValueError("data.folder.path is empty: name a folder of images, or a CSV file that lists them")
    return parts_of(prepare(path, preparation(config)), config, path, train)


SOURCE = Source(
    _load,
    title=lambda config: pathlib.Path(config.folder.path).name,
    evaluators=lambda config: ("verification", "identification", "retrieval", "open_set"),
    channels=lambda config: config.folder.channels,
    invert=lambda config: config.folder.invert or config.ink,
    ink=lambda config: config.ink,
    path=lambda config: os.path.abspath(config.folder.path),
    places=("data.data_dir", "data.manual_dir", "data.folder.path"),
)
