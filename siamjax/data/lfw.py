"""LFW, Labeled Faces in the Wild: 13,233 photographs of 5,749 people from the news."""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from siamjax.data import folder, image_cache, originals, pair_list, protocols
from siamjax.data.dataset import Comparisons
from siamjax.data.finding import File
from siamjax.data.types import Datasets, Source
from siamjax.files import named, shown

ADDRESS = "http://vis-www.cs.umass.edu/lfw"
_IMAGE = r"(?P<root>(?:.*/)?)(?P<person>[^/]+)/(?P=person)_(?P<number>\d+)\.(?:jpg|jpeg|png)"
_AGAIN = f"download it to the same folder from {ADDRESS}"
_FOLDS = 10  # of View 1, for a threshold
_MIDDLE = (250, 150)  # pixels per side, as published, and of the part with the face


def load(config: ConfigDict, train: bool = True) -> Datasets:
    """LFW with its protocol View 2 ("lfw_view2"), or View 1 ("lfw_view1") to choose a recipe.

    View 2 has ten folds of 300 same and 300 different pairs; no one is in two folds. Protocol "fold" trains on all
    images of the people in the other folds' pairs: LFW's setting *unrestricted, no outside data*. It takes one network
    per fold, ten in all. Protocol "all" judges one network on all ten folds, and is valid only for a network
    trained on other data (*with outside data*). Protocol "view1" trains on the people of pairsDevTrain, and both
    validates and tests on the 1,000 pairs of pairsDevTest: its figures serve to choose, and are not to be reported.
    Photographs of 250 × 250 pixels, the published size, are cropped to the middle 150 × 150, where the face is, unless
    `data.faces` finds it; those of other sizes are used whole.
    Huang, Ramesh, Berg, Learned-Miller: Labeled Faces in the Wild (2007), http://vis-www.cs.umass.edu/lfw/lfw.pdf;
    Huang, Learned-Miller: updates and new reporting procedures (2014).

    Args:
      config: the `data` part of a configuration; see `protocols.parts_of`.
      train: whether to load the training data too.

    Returns:
      See `Source.load`; each image is its own `source`.

    Raises:
      FileNotFoundError: images or lists are missing.
      ValueError: a file is damaged.
    """
    found, images = find(config.manual_dir)
    files = {
        name: File(found.path(name), named(match["person"]), "lfw", f"{named(match['person'])} {match['number']}")
        for name, match in images.items()
    }
    how = folder.preparation(config)
    if not config.faces:
        how = dataclasses.replace(how, middle=_MIDDLE)
    prepared = originals.prepare(found, files, how, "LFW")
    if config.protocol == "view1":
        return _view1(_reader(found, config.manual_dir), _numbers(images), prepared, train, config.stream)
    compared = comparisons(found, images, config.manual_dir)
    return protocols.parts_of(prepared, compared, config, "LFW", train)


def find(place: str) -> tuple[originals.Originals, dict[str, re.Match[str]]]:
    """The images, with "person" and "number"; see `originals.find`."""
    return originals.find(place, _IMAGE, "LFW", "lfw/NAME/NAME_0001.jpg", ADDRESS)


def comparisons(found: originals.Originals, images: Mapping[str, re.Match[str]], place: str) -> dict[str, Comparisons]:
    """The pairs of View 2, in the numbers of `images`; pairs.txt is in `found`, or elsewhere in `place`.

    Raises:
      FileNotFoundError: pairs.txt, or an image that it names, is missing.
      ValueError: pairs.txt is damaged.
    """
    rows = _of_text(_reader(found, place)("pairs.txt"))
    return {"lfw_view2": protocols.of_pairs(*_numbered(rows, _numbers(images)))}


def _reader(found, place):
    return lambda name: originals.lines(found, place, name, _AGAIN)


def _numbers(images):
    """The number of each image, by "NAME_0001"."""
    return {f"{match['person']}_{int(match['number']):04d}": n for n, match in enumerate(images.values())}


def _view1(read, number, prepared: image_cache.Prepared, train: bool, stream: bool) -> Datasets:
    """All images of the people in the pairs of pairsDevTrain, and of pairsDevTest."""
    lists = {part: _numbered(_development(read, part), number) for part in ("Train", "Test")}
    names = np.array([file.identity for file in prepared.files])
    chosen = {part: np.flatnonzero(np.isin(names, names[pairs.ravel()])) for part, (pairs, *_) in lists.items()}
    pairs, same, _ = lists["Test"]
    fold = np.zeros(len(same), np.int32)
    for kind in (same, ~same):
        fold[kind] = np.arange(kind.sum()) * _FOLDS // kind.sum()
    compared = {"lfw_view1": protocols.of_pairs(pairs, same, fold)}
    test = protocols.part(prepared, compared, chosen["Test"], "LFW test", False)
    parts = {"validation": test, "test": test}
    return parts | {"train": protocols.part(prepared, {}, chosen["Train"], "LFW train", stream)} if train else parts


def _development(read, part) -> list[pair_list.Row]:
    """The pairs of View 1: pairsDevTrain.txt as published, or two CSV files with a header."""
    try:
        return _of_text(read(f"pairsDev{part}.txt"))
    except FileNotFoundError:
        pairs = {kind: read(f"{kind}pairsDev{part}.csv")[1:] for kind in ("match", "mismatch")}
    lines = [(where, line.rstrip(",").replace(",", "\t")) for kind in pairs for where, line in pairs[kind]]
    return _of_text([(lines[0][0], str(len(pairs["match"]))), *lines])


def _of_text(lines: list[tuple[str, str]]) -> list[pair_list.Row]:
    return pair_list.of_lfw("\n".join(line for _, line in lines), lines[0][0].rpartition(",")[0])


def _numbered(rows: list[pair_list.Row], number: dict[str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows as image numbers int32 [n, 2], `same` bool [n] and `fold` int32 [n]."""
    for where, *paths, _, _ in rows:
        for path in paths:
            if _stem(path) not in number:
                raise FileNotFoundError(f"{where}: the image {shown(path)} is missing; unpack LFW again from {ADDRESS}")
    pairs = [[number[_stem(path)] for path in paths] for _, *paths, _, _ in rows]
    return (
        np.array(pairs, np.int32),
        np.array([same for *_, same, _ in rows], bool),
        np.array([fold for *_, fold in rows], np.int32),
    )


def _stem(path):
    return path.rpartition("/")[2].removesuffix(".jpg")


SOURCE = Source(
    load,
    title=lambda config: f"lfw ({config.protocol})",
    evaluators=lambda config: ("verification", "protocols", "identification", "retrieval", "open_set"),
    channels=folder.SOURCE.channels,
    invert=folder.SOURCE.invert,
    ink=folder.SOURCE.ink,
    faces=folder.SOURCE.faces,
)
