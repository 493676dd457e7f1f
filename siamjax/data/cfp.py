"""CFP, Celebrities in Frontal-Profile in the Wild: 500 people, ten frontal and four profile photographs of each."""

import re
from collections.abc import Callable, Mapping

import numpy as np
from ml_collections import ConfigDict

from siamjax.data import folder, originals, protocols
from siamjax.data.dataset import Comparisons
from siamjax.data.finding import File
from siamjax.data.types import Datasets, Source
from siamjax.files import shown

ADDRESS = "http://www.cfpw.io"
_IMAGE = r"(?P<root>(?:.*/)?)(?P<person>\d{3})/(?P<side>frontal|profile)/(?P<number>\d+)\.(?:jpg|jpeg|png)"
_FOLDS = 10
_AGAIN = f"unpack CFP again, with its folder Protocol, from {ADDRESS}"
_LISTS = {"FF": ("F", "F"), "FP": ("F", "P")}  # protocol -> the lists that number the images of each side


def load(config: ConfigDict, train: bool = True) -> Datasets:
    """CFP with its protocols FF (frontal-frontal, "cfp_ff") and FP (frontal-profile, "cfp_fp").

    Each has ten folds of 350 same and 350 different pairs of 50 people, whom they share with no other fold. The
    literature reports mean accuracy, EER and AUC over the folds. Sengupta et al.: Frontal to Profile Face Verification
    in the Wild (2016), http://www.cfpw.io.

    Args:
      config: the `data` part of a configuration; see `protocols.parts_of`.
      train: whether to load the training data too.

    Returns:
      See `Source.load`. `source` is 0 for frontal and 1 for profile images.

    Raises:
      FileNotFoundError: images or lists are missing.
      ValueError: a file is damaged.
    """
    found, images = find(config.manual_dir)
    files = {
        name: File(found.path(name), f"person {match['person']}", "cfp", match["side"])
        for name, match in images.items()
    }
    prepared = originals.prepare(found, files, folder.preparation(config), "CFP")
    compared = comparisons(found, images, config.manual_dir)
    return protocols.parts_of(prepared, compared, config, "CFP", train)


def find(place: str) -> tuple[originals.Originals, dict[str, re.Match[str]]]:
    """The images, with "person", "side" and "number"; see `originals.find`."""
    return originals.find(place, _IMAGE, "CFP", "Images/001/frontal/01.jpg", ADDRESS)


def comparisons(found: originals.Originals, images: Mapping[str, re.Match[str]], place: str) -> dict[str, Comparisons]:
    """The pairs of each protocol, in the numbers of `images`; the lists are in `found`, or elsewhere in `place`.

    Raises:
      FileNotFoundError: a list, or an image that it names, is missing.
      ValueError: a list is damaged.
    """
    number = {f"{match['person']}/{match['side']}/{match['number']}": n for n, match in enumerate(images.values())}

    def read(name):
        return originals.lines(found, place, name, _AGAIN)

    return {f"cfp_{name.lower()}": _comparisons(read, name, number) for name in _LISTS}


def _comparisons(read: Callable[[str], list], protocol: str, number: dict[str, int]) -> Comparisons:
    """The pairs of a protocol; `number` of each image by "001/frontal/01"."""
    lists = [_listed(read(f"Protocol/Pair_list_{side}.txt"), number) for side in _LISTS[protocol]]
    pairs, same, folds = [], [], []
    for fold in range(_FOLDS):
        for kind in ("same", "diff"):
            for where, line in read(f"Protocol/Split/{protocol}/{fold + 1:02d}/{kind}.txt"):
                words = [word.strip() for word in line.split(",")]
                if len(words) != 2 or any(word not in known for word, known in zip(words, lists, strict=True)):
                    raise ValueError(f"{where}: expected two numbers of Pair_list, found {shown(line)!r}; {_AGAIN}")
                pairs.append([known[word] for word, known in zip(words, lists, strict=True)])
                same.append(kind == "same")
                folds.append(fold)
    return protocols.of_pairs(np.array(pairs), np.array(same), np.array(folds))


def _listed(lines, number):
    """Number in the list -> number of the image."""
    listed = {}
    for where, line in lines:
        key, _, path = line.partition(" ")
        image = re.sub(r"\.\w+$", "", "/".join(path.strip().split("/")[-3:]))
        if image not in number:
            raise FileNotFoundError(f"{where}: the image {shown(path)} is missing; {_AGAIN}")
        listed[key] = number[image]
    return listed


SOURCE = Source(
    load,
    title=lambda config: "cfp",
    evaluators=lambda config: ("verification", "protocols", "identification", "retrieval"),
    channels=folder.SOURCE.channels,
    invert=folder.SOURCE.invert,
    ink=folder.SOURCE.ink,
    faces=folder.SOURCE.faces,
)
