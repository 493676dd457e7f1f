"""Omniglot's four archives: what they must hold, reading and checking them, and their TFDS builder."""

import io
import pathlib
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import ClassVar

import numpy as np
import requests
import tensorflow_datasets as tfds
from PIL import Image, UnidentifiedImageError
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

DRAWERS = 20
SIDE = 105

# The number of characters of every alphabet, alphabets in sorted order.
BACKGROUND = {
    "Alphabet_of_the_Magi": 20,
    "Anglo-Saxon_Futhorc": 29,
    "Arcadian": 26,
    "Armenian": 41,
    "Asomtavruli_(Georgian)": 40,
    "Balinese": 24,
    "Bengali": 46,
    "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14,
    "Braille": 26,
    "Burmese_(Myanmar)": 34,
    "Cyrillic": 33,
    "Early_Aramaic": 22,
    "Futurama": 26,
    "Grantha": 43,
    "Greek": 24,
    "Gujarati": 48,
    "Hebrew": 22,
    "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16,
    "Japanese_(hiragana)": 52,
    "Japanese_(katakana)": 47,
    "Korean": 40,
    "Latin": 26,
    "Malay_(Jawi_-_Arabic)": 40,
    "Mkhedruli_(Georgian)": 41,
    "N_Ko": 33,
    "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14,
    "Sanskrit": 42,
    "Syriac_(Estrangelo)": 23,
    "Tagalog": 17,
    "Tifinagh": 55,
}
EVALUATION = {
    "Angelic": 20,
    "Atemayar_Qelisayer": 26,
    "Atlantean": 26,
    "Aurek-Besh": 26,
    "Avesta": 26,
    "Ge_ez": 26,
    "Glagolitic": 45,
    "Gurmukhi": 45,
    "Kannada": 41,
    "Keble": 26,
    "Malayalam": 47,
    "Manipuri": 40,
    "Mongolian": 30,
    "Old_Church_Slavonic_(Cyrillic)": 45,
    "Oriya": 46,
    "Sylheti": 28,
    "Syriac_(Serto)": 23,
    "Tengwar": 25,
    "Tibetan": 42,
    "ULOG": 26,
}
SMALL1 = {name: BACKGROUND[name] for name in ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin")}
SMALL2 = {name: BACKGROUND[name] for name in ("Greek", "Japanese_(katakana)", "Latin", "Sanskrit", "Tagalog")}

# TFDS split -> name of the archive (a zip, or the folder it unpacks to), alphabets in it.
ARCHIVES = {
    "background": ("images_background", BACKGROUND),
    "evaluation": ("images_evaluation", EVALUATION),
    "small1": ("images_background_small1", SMALL1),
    "small2": ("images_background_small2", SMALL2),
}
ZIPS = ", ".join(f"{name}.zip" for name, _ in ARCHIVES.values())

ADDRESS = "https://github.com/brendenlake/omniglot/raw/master/python/"

# Bytes and sha256 of the official zips, which TFDS compares with what it downloads.
_OFFICIAL = {
    "background": (9464212, "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640"),
    "evaluation": (6462886, "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee"),
    "small1": (1319022, "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4"),
    "small2": (1580917, "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f"),
}

_CITATION = """\
@article{lake2015human,
  author = {Lake, Brenden M. and Salakhutdinov, Ruslan and Tenenbaum, Joshua B.},
  title = {Human-level concept learning through probabilistic program induction},
  journal = {Science},
  volume = {350},
  number = {6266},
  pages = {1332--1338},
  year = {2015}
}"""

_DRAWING = re.compile(r"([^/]+)/character(\d+)/\d+_(\d+)\.png$")
_PROBLEMS_SHOWN = 8

# What zipfile and Pillow raise on damaged data; RuntimeError is zipfile's word for a password or an unknown method.
DAMAGE = (OSError, ValueError, EOFError, RuntimeError, SyntaxError, struct.error, zlib.error, zipfile.BadZipFile)

# Drawings of an archive: (alphabet, number of the character, number of the drawer) -> PNG, 8 bits, paper 255.
Drawings = dict[tuple[str, int, int], bytes]


def _first_labels() -> dict[str, int]:
    alphabets = BACKGROUND | EVALUATION
    ends = np.cumsum(list(alphabets.values()))
    return {name: int(end) - alphabets[name] for name, end in zip(alphabets, ends, strict=True)}


FIRST_LABEL = _first_labels()


def find_archives(folder: str | pathlib.Path) -> dict[str, pathlib.Path]:
    """Finds the four archives, as zips or as unpacked folders, in `folder` or in its subfolder `python`.

    Args:
      folder: where the user put them; a clone of the official repository will do.

    Returns:
      TFDS split -> path of a zip or folder.

    Raises:
      FileNotFoundError: an archive is not there; all that are missing are named.
    """
    folder = pathlib.Path(folder).expanduser()
    found = {}
    for split, (name, _) in ARCHIVES.items():
        places = [place / entry for place in (folder, folder / "python") for entry in (f"{name}.zip", name)]
        found[split] = next((path for path in places if path.exists()), None)
    missing = [f"{name}.zip" for split, (name, _) in ARCHIVES.items() if found[split] is None]
    if missing:
        state = "lacks" if folder.is_dir() else "is no folder; it must hold"
        raise FileNotFoundError(
            f"Omniglot: data.manual_dir={folder} {state} {', '.join(missing)}, as a zip or unpacked; all four archives "
            f"can be had from {ADDRESS}"
        )
    return found


def _members(path: pathlib.Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    if path.is_dir():
        for file in path.rglob("*.png"):
            yield file.relative_to(path.parent).as_posix(), file.read_bytes
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield name, lambda name=name: archive.read(name)


def _checked_png(data: bytes) -> bytes:
    """Encodes a drawing anew as an 8-bit PNG, which every reader of TFDS decodes to 0 and 255."""
    try:
        with Image.open(io.BytesIO(data), formats=["png"]) as image:
            # Decoding alone passes over the checksums.
            image.verify()
    except UnidentifiedImageError:
        raise ValueError("it is no PNG file") from None
    with Image.open(io.BytesIO(data)) as image:
        pixels = image.convert("L")
    if pixels.size != (SIDE, SIDE):
        raise ValueError(f"expected {SIDE}x{SIDE} pixels, found {pixels.size[0]}x{pixels.size[1]}")
    shades = pixels.histogram()
    if shades[0] + shades[255] != SIDE * SIDE:
        raise ValueError("expected black and white only, found greys")
    if not 0 < shades[0] < shades[255]:
        raise ValueError(f"expected black ink on white paper, found {shades[0]} black pixels of {SIDE * SIDE}")
    out = io.BytesIO()
    pixels.save(out, "png", compress_level=1)
    return out.getvalue()


def _gaps(found: Collection[tuple[str, int, int]], alphabets: dict[str, int]) -> Iterator[str]:
    """Names what is missing by the largest unit that is missing as a whole."""
    for alphabet, count in alphabets.items():
        lost = {}
        for character in range(1, count + 1):
            drawers = [d for d in range(1, DRAWERS + 1) if (alphabet, character, d) not in found]
            if drawers:
                lost[character] = drawers
        if len(lost) == count and all(len(drawers) == DRAWERS for drawers in lost.values()):
            yield f"alphabet {alphabet} is missing"
            continue
        for character, drawers in lost.items():
            where = f"{alphabet}/character{character:02d}"
            if len(drawers) == DRAWERS:
                yield f"{where} is missing: {alphabet} has {count} characters"
            else:
                yield f"{where}: no drawing by drawer {', '.join(f'{d:02d}' for d in drawers)}"


def read_archive(path: pathlib.Path, split: str) -> Drawings:
    """Reads one archive and checks that it holds exactly what Omniglot holds there, however it was packed.

    Args:
      path: a zip, or the folder that it unpacks to; what is no drawing (`__MACOSX`, `.DS_Store`) is passed over.
      split: a key of `ARCHIVES`.

    Returns:
      the drawings, in the order of their keys.

    Raises:
      ValueError: something is missing, too much, or damaged; the first few faults are named.
    """
    name, alphabets = ARCHIVES[split]
    drawings: Drawings = {}
    problems = []
    try:
        for member, read in _members(path):
            match = _DRAWING.search(member)
            if match is None:
                continue
            key = (match[1], int(match[2]), int(match[3]))
            if not (1 <= key[1] <= alphabets.get(key[0], 0) and 1 <= key[2] <= DRAWERS):
                problems.append(f"{member} is not part of {name}")
            elif key in drawings:
                problems.append(f"{member} is a second drawing of one character by one drawer")
            else:
                drawings[key] = b""
                try:
                    drawings[key] = _checked_png(read())
                except DAMAGE as error:
                    problems.append(f"{member} cannot be used: {error}")
    except (zipfile.BadZipFile, OSError) as error:
        problems = [f"it cannot be opened as a zip, it may be truncated ({error})"]
    else:
        problems += _gaps(drawings.keys(), alphabets)
    if problems:
        more = [f"and {len(problems) - _PROBLEMS_SHOWN} more"] if len(problems) > _PROBLEMS_SHOWN else []
        raise ValueError(
            f"Omniglot: {path} is damaged or incomplete: {'; '.join(problems[:_PROBLEMS_SHOWN] + more)}. Expected: "
            f"{len(alphabets)} alphabets, {sum(alphabets.values())} characters, {DRAWERS} drawings of each. "
            f"Fetch it anew from {ADDRESS}{name}.zip or another source."
        )
    return dict(sorted(drawings.items()))


def _download(manager: tfds.download.DownloadManager) -> dict[str, pathlib.Path]:
    addresses = {split: f"{ADDRESS}{name}.zip" for split, (name, _) in ARCHIVES.items()}
    cached = list((manager.download_dir / Omniglot.name).glob("*.zip"))
    try:
        if len(cached) < len(ARCHIVES):
            # TFDS retries for minutes, and sets no limit to the wait for an answer: ask once before.
            requests.head(addresses["small1"], timeout=10, allow_redirects=True).raise_for_status()
        return manager.download(addresses)
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise FileNotFoundError(
            f"Omniglot is not on this disk, and cannot be downloaded from {ADDRESS} ({type(error).__name__}). "
            f"Put {ZIPS} (official or repacked, zipped or unpacked) into one folder, and pass it as "
            "--config.data.manual_dir=FOLDER. Without any file, the built-in data set `glyphs` works: "
            "--config configs/quickstart.py"
        ) from error
    except NonMatchingChecksumError as error:
        raise ValueError(
            f"Omniglot: a file downloaded from {ADDRESS} is not the official one. Run again; if that does not help, "
            f"fetch {ZIPS} by other means, and pass their folder as --config.data.manual_dir=FOLDER. {error}"
        ) from error


class Omniglot(tfds.core.GeneratorBasedBuilder):
    """1623 handwritten characters of 50 alphabets, each drawn once by 20 people; every image knows its drawer."""

    # TFDS has an `omniglot` of its own, without drawers.
    name = "siamjax_omniglot"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Initial release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put {ZIPS}, zipped or unpacked, into one folder."
    url_infos: ClassVar = {
        f"{ADDRESS}{ARCHIVES[split][0]}.zip": tfds.core.download.checksums.UrlInfo(
            size=tfds.core.utils.Size(size), checksum=checksum, filename=f"{ARCHIVES[split][0]}.zip"
        )
        for split, (size, checksum) in _OFFICIAL.items()
    }

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 1), encoding_format="png"),
                    "alphabet": tfds.features.ClassLabel(names=list(FIRST_LABEL)),
                    "character": np.int32,
                    "label": np.int32,
                    "drawer": np.int32,
                }
            ),
            homepage="https://github.com/brendenlake/omniglot",
            license="MIT",
            citation=_CITATION,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        try:
            folder = dl_manager.manual_dir
        except AssertionError:  # TFDS's way of saying that the folder is absent or empty.
            folder = None
        paths = find_archives(folder) if folder else _download(dl_manager)
        # Everything is checked before anything is written.
        archives = {split: read_archive(pathlib.Path(paths[split]), split) for split in ARCHIVES}
        return {split: self._generate_examples(drawings) for split, drawings in archives.items()}

    def _generate_examples(self, drawings: Drawings) -> Iterator[tuple[int, dict]]:
        for index, ((alphabet, character, drawer), png) in enumerate(drawings.items()):
            yield (
                index,
                {
                    "image": png,
                    "alphabet": alphabet,
                    "character": character,
                    "label": FIRST_LABEL[alphabet] + character - 1,
                    "drawer": drawer,
                },
            )
