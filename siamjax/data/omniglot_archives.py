"""Omniglot's four archives: what they must hold, and how they are found, read and checked."""

import io
import pathlib
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from siamjax import files

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

_DRAWING = re.compile(r"([^/]+)/character(\d+)/\d+_(\d+)\.png$")
_PROBLEMS_SHOWN = 8
_LARGEST = 2**20  # bytes of a drawing; official ones have a few hundred

# What zipfile and Pillow raise on damaged data; zipfile raises RuntimeError on passwords and unknown methods.
DAMAGE = (
    *(OSError, ValueError, EOFError, RuntimeError, SyntaxError, MemoryError, struct.error, zlib.error),
    *(KeyError, zipfile.BadZipFile, Image.DecompressionBombError),
)

# Drawings of an archive: (alphabet, number of the character, number of the drawer) -> PNG, 8 bits, paper 255.
Drawings = dict[tuple[str, int, int], bytes]


def _first_labels() -> dict[str, int]:
    alphabets = BACKGROUND | EVALUATION
    ends = np.cumsum(list(alphabets.values()))
    return {name: int(end) - alphabets[name] for name, end in zip(alphabets, ends, strict=True)}


FIRST_LABEL = _first_labels()


def find_archives(folder: str | pathlib.Path) -> dict[str, pathlib.Path]:
    """Finds the four archives, zipped or unpacked, in `folder` or in its subfolder `python`.

    Args:
      folder: of the archives, or a clone of the official repository.

    Returns:
      TFDS split -> path of a zip or folder.

    Raises:
      FileNotFoundError: archives are missing; the message names all of them.
    """
    folder = pathlib.Path(folder).expanduser()
    found = {}
    for split, (name, _) in ARCHIVES.items():
        places = [place / entry for place in (folder, folder / "python") for entry in (f"{name}.zip", name)]
        found[split] = next((path for path in places if path.exists()), None)
    missing = [f"{name}.zip" for split, (name, _) in ARCHIVES.items() if found[split] is None]
    if missing:
        state = "lacks" if folder.is_dir() else "is not a folder; it must hold"
        raise FileNotFoundError(
            f"Omniglot: data.manual_dir={folder} {state} {', '.join(missing)}, as a zip or unpacked; all four archives "
            f"are available at {ADDRESS}"
        )
    return found


def _members(path: pathlib.Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    if path.is_dir():
        for file in path.rglob("*.png"):
            yield file.relative_to(path.parent).as_posix(), lambda file=file: files.read(file, _LARGEST)
        return
    with files.opened(path) as file, zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            yield name, lambda name=name: files.member(archive, name, _LARGEST)


def _checked_png(data: bytes) -> bytes:
    """Re-encodes a drawing as an 8-bit PNG, which every reader of TFDS decodes to 0 and 255."""
    try:
        with Image.open(io.BytesIO(data), formats=["png"]) as image:
            # Decoding alone ignores the checksums.
            image.verify()
    except UnidentifiedImageError:
        raise ValueError("not a PNG file") from None
    with Image.open(io.BytesIO(data), formats=["png"]) as image:
        if image.size != (SIDE, SIDE):
            raise ValueError(f"expected {SIDE}x{SIDE} pixels, found {image.size[0]}x{image.size[1]}")
        pixels = image.convert("L")
    shades = pixels.histogram()
    if shades[0] + shades[255] != SIDE * SIDE:
        raise ValueError("expected black and white only, found greys")
    if not 0 < shades[0] < shades[255]:
        raise ValueError(f"expected black ink on white paper, found {shades[0]} black pixels of {SIDE * SIDE}")
    out = io.BytesIO()
    pixels.save(out, "png", compress_level=1)
    return out.getvalue()


def _gaps(found: Collection[tuple[str, int, int]], alphabets: dict[str, int]) -> Iterator[str]:
    """Describes what is missing, by alphabet or character where all of it is missing."""
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
    """Reads one archive and checks that it holds exactly Omniglot's drawings, however it was packed.

    Args:
      path: a zip, or the folder that it unpacks to; other files (`__MACOSX`, `.DS_Store`) are ignored.
      split: a key of `ARCHIVES`.

    Returns:
      The drawings, in the order of their keys.

    Raises:
      ValueError: a drawing is missing, damaged or not part of Omniglot; the message has the first few of these.
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
                problems.append(f"{files.shown(member)} is not part of {name}")
            elif key in drawings:
                problems.append(f"{member} is a second drawing of one character by one drawer")
            else:
                drawings[key] = b""
                try:
                    drawings[key] = _checked_png(read())
                except DAMAGE as error:
                    problems.append(f"{member} cannot be used: {error}")
    except DAMAGE as error:
        problems = [f"it cannot be opened as a zip, it may be truncated ({error})"]
    else:
        problems += _gaps(drawings.keys(), alphabets)
    if problems:
        more = [f"and {len(problems) - _PROBLEMS_SHOWN} more"] if len(problems) > _PROBLEMS_SHOWN else []
        raise ValueError(
            f"Omniglot: {path} is damaged or incomplete: {'; '.join(problems[:_PROBLEMS_SHOWN] + more)}. Expected: "
            f"{len(alphabets)} alphabets, {sum(alphabets.values())} characters, {DRAWERS} drawings of each. "
            f"Download it again from {ADDRESS}{name}.zip or another source."
        )
    return dict(sorted(drawings.items()))


def _area_weights(size: int) -> np.ndarray:
    """The share of old pixel j in new pixel i, float32 [size, SIDE]."""
    edges = np.linspace(0, SIDE, size + 1)
    old = np.arange(SIDE)
    overlap = np.minimum(edges[1:, None], old[None] + 1) - np.maximum(edges[:-1, None], old[None])
    return (overlap.clip(0) * size / SIDE).astype(np.float32)


def decode(pngs: list[bytes], size: int) -> np.ndarray:
    """Decodes black drawings on white paper as ink 255 on paper 0.

    Args:
      pngs: PNG files of 105x105 pixels, of any depth.
      size: side of the result in pixels, 1 to 105; each new pixel is the mean over its area.

    Returns:
      uint8 [n, size, size, 1].

    Raises:
      ValueError: a drawing does not have 105x105 pixels.
      OSError, SyntaxError: a file is damaged or not a PNG; Pillow raises both.
    """
    images = np.empty((len(pngs), size, size, 1), np.uint8)
    weights = _area_weights(size)
    for i, png in enumerate(pngs):
        with Image.open(io.BytesIO(png), formats=["png"]) as image:
            if image.size != (SIDE, SIDE):
                raise ValueError(f"expected {SIDE}x{SIDE} pixels, found {image.size[0]}x{image.size[1]}")
            ink = 255 - np.asarray(image.convert("L"))
        images[i, :, :, 0] = ink if size == SIDE else np.rint(weights @ ink @ weights.T)
    return images
