"""Your own images: a folder, or a table that lists files, prepared once and then read like any other data set."""

import dataclasses
import os
import pathlib

import numpy as np
from ml_collections import ConfigDict

from siamjax.choices import choose
from siamjax.data import image_cache, pair_list, protocols, splits
from siamjax.data.dataset import Comparisons
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
    place: str | os.PathLike, size: int | tuple[int, int], *, channels: int = 1, invert: bool = False
) -> tuple[np.ndarray, list[str]]:
    """The images of a folder as arrays, for `siamjax.fit`; they are prepared once, in ~/tensorflow_datasets/siamjax.

    Args:
      place: a folder with one folder for each identity; or a CSV file with the columns path and identity.
      size: height and width in pixels, or the side of a square; images are fitted into it.
      channels: 1 for grey, 3 for colour.
      invert: for dark ink on white paper: makes paper 0.

    Returns:
      Images uint8 [n, height, width, channels], and the identity of each, n strings.

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
    """How `config`, the `data` part of a configuration, prepares images; ValueError for both ink and faces."""
    if config.ink and config.faces:
        raise ValueError("data.ink and data.faces are both True, but scans have no faces: set one of them to False")
    own = config.folder
    cache = pathlib.Path(config.data_dir) / "siamjax" if config.data_dir else _CACHE
    # A square has one size, so that it is found in the cache whichever way it is set.
    size = (config.size, config.width) if config.width not in (0, config.size) else config.size
    return image_cache.Preparation(
        cache, size, own.channels, own.invert, own.skip_unreadable, own.pixels, config.ink, config.faces
    )


def _load(config: ConfigDict, train: bool) -> Datasets:
    path = config.folder.path
    if not path:
        raise ValueError("data.folder.path is empty: name a folder of images, or a CSV file that lists them")
    prepared = prepare(path, preparation(config))
    if not config.folder.pairs:
        return parts_of(prepared, config, path, train)
    compared = {"pairs": _listed(prepared, pathlib.Path(path).expanduser(), config.folder.pairs)}
    return protocols.parts_of(prepared, compared, config, path, train, others=True)


def _listed(prepared: image_cache.Prepared, place: pathlib.Path, path: str) -> Comparisons:
    """The pairs of a list, whose paths are relative to the folder of images, or to the table that lists them."""
    listed = pair_list.read(path, place if place.is_dir() else place.parent)
    number = {os.path.abspath(file.path): number for number, file in enumerate(prepared.files)}
    pairs = [[os.path.abspath(each) for each in pair] for pair in zip(listed.first, listed.second, strict=True)]
    missing = [each for pair in pairs for each in pair if each not in number]
    if missing:
        raise ValueError(
            f"data.folder.pairs={shown(path)} lists {shown(missing[0])}, which is none of the readable images in "
            f"{shown(place)}; correct its path, or remove the pair"
        )
    numbers = np.array([[number[each] for each in pair] for pair in pairs], np.int32)
    _check_same(prepared, numbers, listed.same, path)
    return protocols.of_pairs(numbers, listed.same, listed.fold)


def _check_same(prepared, numbers, same, path):
    """Refuses pairs that the folders contradict."""
    identity = np.array([file.identity for file in prepared.files])[numbers]
    wrong = np.flatnonzero((identity[:, 0] == identity[:, 1]) != same)
    if len(wrong):
        first, second = (shown(prepared.files[number].path) for number in numbers[wrong[0]])
        kinds = ("different", "the same")
        raise ValueError(
            f"data.folder.pairs={shown(path)} says that {first} and {second} are of {kinds[int(same[wrong[0]])]} "
            f"identity, but their folders or the table say otherwise: correct one of them ({len(wrong)} such pairs)"
        )


_EVALUATORS = ("verification", "identification", "retrieval", "open_set")
SOURCE = Source(
    _load,
    title=lambda config: pathlib.Path(config.folder.path).name,
    evaluators=lambda config: _EVALUATORS + ("protocols",) * bool(config.folder.pairs),
    channels=lambda config: config.folder.channels,
    invert=lambda config: config.folder.invert or config.ink,
    ink=lambda config: config.ink,
    faces=lambda config: config.faces,
    path=lambda config: os.path.abspath(config.folder.path),
    places=("data.data_dir", "data.manual_dir", "data.folder.path"),
)
