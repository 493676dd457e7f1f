"""Lists of image pairs for verification: a CSV file, or LFW's pairs.txt."""

import dataclasses
import os
import pathlib

import numpy as np

from siamjax import files
from siamjax.files import named, shown, table

Row = tuple[str, str, str, bool, int]  # place in the list, for errors; two paths; same; fold
_YES, _NO = ("1", "true", "yes", "same"), ("0", "false", "no", "different")


@dataclasses.dataclass(frozen=True)
class PairList:
    """n pairs of the files `first` and `second`, `same` bool [n], and their `fold`.

    `fold` is int32 [n], from 0 on without gaps; all 0 if the list has no folds.

    `names` has what the list calls the identity of each file: in LFW's, the person. A CSV file names nobody, so that it
    is the path as listed: files with two names may be of one identity.
    """

    first: tuple[pathlib.Path, ...]
    second: tuple[pathlib.Path, ...]
    same: np.ndarray
    fold: np.ndarray
    names: dict[pathlib.Path, str]


def read(path: str | os.PathLike, images: str | os.PathLike | None = None) -> PairList:
    """Reads a list of pairs.

    A CSV file has the columns path_a, path_b and same (1 or 0, true or false), and perhaps fold (a whole number); paths
    are relative to `images`, or to the file itself. Any other file is read as LFW's pairs.txt: "folds pairs" (or
    "pairs", for a single fold), then for each fold `pairs` lines "name number number" of the same person, then `pairs`
    lines "name number name number" of different people; an image is name/name_0001.jpg. Words are separated by tabs, or
    by blanks if a line has no tab.
    Huang et al. (2007), http://vis-www.cs.umass.edu/lfw/README.txt.

    Raises:
      FileNotFoundError: the file, or an image, is missing.
      ValueError: a column is missing; a line is malformed; or the numbers in the first line of LFW's list do not match
        the lines that follow, so that the folds would be wrong.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{shown(path)} not found; expected a list of pairs, CSV or LFW's pairs.txt")
    root = pathlib.Path(images).expanduser() if images else path.parent
    is_csv = path.suffix.lower() == ".csv"
    rows = _of_csv(path) if is_csv else of_lfw(files.read(path).decode("utf-8-sig", "surrogateescape"), shown(path))
    if not rows:
        raise ValueError(f"{shown(path)} lists no pairs")
    for where, first, second, *_ in rows:
        for image in (first, second):
            if not (root / image).is_file():
                raise FileNotFoundError(f"{where}: {shown(root / image)} not found")
    _, first, second, same, fold = zip(*rows, strict=True)
    return PairList(
        tuple(root / image for image in first),
        tuple(root / image for image in second),
        np.array(same, bool),
        np.unique(fold, return_inverse=True)[1].astype(np.int32),
        {
            root / image: named(os.path.normpath(image) if is_csv else os.path.dirname(image))
            for image in (*first, *second)
        },
    )


def _of_csv(path: pathlib.Path) -> list[Row]:
    rows, without = [], []
    for where, row in table(path, ("path_a", "path_b", "same"), "path_a,path_b,same[,fold]"):
        same = row["same"].lower()
        if not row["path_a"] or not row["path_b"] or same not in (*_YES, *_NO):
            raise ValueError(f"{where}: expected two paths, and 1 or 0, found {row['same']!r}")
        fold = row.get("fold")
        if not fold:
            without.append(where)
            fold = "0"
        if not fold.isdecimal():
            raise ValueError(f"{where}: expected a whole number as fold, found {fold!r}")
        rows.append((where, row["path_a"], row["path_b"], same in _YES, int(fold)))
    if 0 < len(without) < len(rows):
        raise ValueError(f"{without[0]}: it has no fold, but other pairs do; fill in the fold of each pair")
    return rows


def of_lfw(text: str, place: str) -> list[Row]:
    """The rows of LFW's list, see `read`; `place` is its file, for errors."""
    lines = text.split("\n")
    head = lines[0].split()
    if len(head) not in (1, 2) or not all(word.isdecimal() for word in head):
        raise ValueError(f"{place}, line 1: expected LFW's 'folds pairs' (or the ending .csv), found {lines[:1]}")
    folds, pairs = (1, *map(int, head))[-2:]
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        where = f"{place}, line {number}"
        words = [word.strip() for word in line.strip().split("\t")] if "\t" in line.strip() else line.split()
        if not any(words):
            continue
        same = len(words) == 3
        numbers = words[1:] if same else words[1::2]
        if len(words) not in (3, 4) or not all(word.isdecimal() for word in numbers):
            raise ValueError(f"{where}: expected 'name number [name] number', found {line!r}")
        fold, rank = divmod(len(rows), 2 * pairs) if pairs else (0, 0)
        if same != (rank < pairs) and fold < folds:
            kinds = ("the same person", "different people")
            raise ValueError(
                f"{where}: found a pair of {kinds[not same]}, where pair {rank + 1} of fold {fold + 1} is one of "
                f"{kinds[same]}: line 1, {lines[0].strip()!r}, says that each fold has {pairs} same pairs, then "
                f"{pairs} different ones. Restore the missing lines, or correct line 1"
            )
        names = (words[0], words[0 if same else 2])
        paths = [f"{name}/{name}_{int(image):04d}.jpg" for name, image in zip(names, numbers, strict=True)]
        rows.append((where, *paths, same, fold))
    if len(rows) != 2 * pairs * folds:
        raise ValueError(
            f"{place}: found {len(rows)} pairs, but line 1, {lines[0].strip()!r}, says {2 * pairs * folds}: "
            f"{folds} fold(s) of {pairs} same and {pairs} different ones. Complete the file, or correct line 1"
        )
    return rows
