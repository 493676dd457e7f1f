"""The 20 official one-shot runs of Omniglot, 20 trials each, on their own images.

Lake, Salakhutdinov, Tenenbaum: Human-level concept learning through probabilistic program induction (Science, 2015),
https://github.com/brendenlake/omniglot.
"""

import pathlib
import re
import zipfile

import numpy as np

from siamjax import files
from siamjax.data import download
from siamjax.data.omniglot_archives import DAMAGE, decode
from siamjax.evaluation.one_shot import Trials

# Bytes and sha256 of the official archive.
_OFFICIAL = (352_787, "437c1eeab0af8484112e1b4cc0f3d541ec727f7c47b9b202da738af9dfd6c325")
_LARGEST = 2**20  # bytes of a file in it; official ones have about a thousand
_TEST = re.compile(r"run\d\d/test/item\d\d\.png")
ADDRESS = "https://github.com/brendenlake/omniglot/raw/master/python/one-shot-classification/all_runs.zip"
RUNS, WAYS = 20, 20


def find(manual_dir: str, cache_dir: pathlib.Path) -> pathlib.Path:
    """The archive or folder of the runs, in `manual_dir` or `cache_dir`; downloaded to `cache_dir` if in neither.

    Args:
      manual_dir: folder with `all_runs.zip`, `all_runs/` or `run01/`; "" for none.
      cache_dir: where the download is stored.

    Raises:
      FileNotFoundError: it is in neither and cannot be downloaded.
    """
    root = pathlib.Path(manual_dir).expanduser()
    places = [root / "all_runs.zip", root / "all_runs", root] if manual_dir else []
    cached = cache_dir / "all_runs.zip"
    for place in (*places, cached):
        if place.is_file() or (place / "run01").is_dir():
            return place
    try:
        download.fetch(ADDRESS, cached, timeout=10, size=_OFFICIAL[0], sha256=_OFFICIAL[1])
    except download.FAILURES as error:
        raise FileNotFoundError(
            f"all_runs.zip not found in {manual_dir or cache_dir}, and cannot be downloaded from {ADDRESS} "
            f"({error}); put it into a folder and pass that as --config.data.manual_dir=FOLDER"
        ) from error
    return cached


def load(place: pathlib.Path, size: int) -> tuple[np.ndarray, Trials]:
    """Reads the runs.

    Args:
      place: `all_runs.zip`, or the folder that contains `run01` to `run20`; see `find`.
      size: side to which the images are resized, 1 to 105.

    Returns:
      images uint8 [800, size, size, 1], ink 255 on paper 0, and 20 runs of 20 trials on them.

    Raises:
      ValueError: a file of a run is missing, unreadable or inconsistent; the message names it.
    """
    try:
        root = zipfile.Path(place) if place.is_file() else place
    except DAMAGE as error:
        raise ValueError(f"{place} is damaged ({error}); download it again from {ADDRESS}") from error
    root = root / "all_runs" if (root / "all_runs").is_dir() else root
    pngs, support, query, answer = [], [], [], []
    for run in range(1, RUNS + 1):
        classes = [f"run{run:02d}/training/class{number:02d}.png" for number in range(1, WAYS + 1)]
        labels = f"run{run:02d}/class_labels.txt"
        lines = [line.split() for line in _read(root, labels).decode("utf-8", "replace").splitlines() if line.strip()]
        wrong = [line for line in lines if len(line) != 2 or not _TEST.fullmatch(line[0]) or line[1] not in classes]
        if len(lines) != WAYS or wrong:
            raise ValueError(f"{root / labels}: expected {WAYS} lines like 'run01/test/item01.png {classes[0]}'")
        support.append(len(pngs) + np.arange(WAYS))
        query.append(len(pngs) + WAYS + np.arange(WAYS))
        answer.append([classes.index(image) for _, image in lines])
        pngs += [(path, _read(root, path)) for path in (*classes, *(test for test, _ in lines))]
    images = []
    for path, png in pngs:
        try:
            images.append(decode([png], size))
        except DAMAGE as error:
            raise ValueError(
                f"{root / path} is not a drawing of 105×105 pixels ({error}); download all_runs.zip again from "
                f"{ADDRESS}"
            ) from error
    support, query, answer = (np.array(numbers, np.int32) for numbers in (support, query, answer))
    return np.concatenate(images), Trials(support[..., None], query, answer)


def _read(root, path):
    try:
        if isinstance(root, zipfile.Path):
            return files.member(root.root, f"{root.at}{path}", _LARGEST)
        return files.read(root / path, _LARGEST)
    except DAMAGE as error:
        raise ValueError(
            f"{root / path} cannot be read ({error}); download all_runs.zip again from {ADDRESS}"
        ) from error
