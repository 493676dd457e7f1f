"""Your own images: a folder, or a table that lists files, prepared once and then read like any other data set."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import importlib
import io
import json
import os
import pathlib
import shutil
import types
from collections.abc import Callable, Iterator
from typing import Literal

import filelock
import numpy as np
from ml_collections import ConfigDict

from siamjax import digests
from siamjax.choices import choose
from siamjax.data.dataset import Dataset, Images, checked
from siamjax.data.finding import File, find
from siamjax.data.images import PIXELS, read, refusal
from siamjax.data.types import Datasets, Source, Tell
from siamjax.files import named, opened, shown
from siamjax.progress import Progress

_CACHE = pathlib.Path("~/tensorflow_datasets/siamjax")  # of prepared images, unless `data.data_dir` says otherwise
_AT_ONCE = 1024  # images that are read before they are written
_DARK = 25  # of 255: an image whose values are all at most this is nearly black


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How images are prepared.

    Attributes:
      cache: folder for prepared images.
      size, channels, invert, pixels: see `images.read`.
      skip_unreadable: whether to skip files that cannot be read; otherwise the error names the first ten.
    """

    cache: str | os.PathLike
    size: int
    channels: int = 1
    invert: bool = False
    skip_unreadable: bool = False
    pixels: int = PIXELS


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Readable images [n, size, size, channels] in `images`, of the files in `files`; `invert` as in `images.read`."""

    images: Images
    files: tuple[File, ...]
    invert: bool


def prepare(place: str | os.PathLike, how: Preparation, tell: Tell = print) -> Prepared:
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
    return prepare_images(
        [file.path for file in files],
        how,
        describe=lambda number: dataclasses.astuple(files[number])[1:],
        content=lambda number: opened(files[number].path),
        fingerprints=[f"{fingerprint(file.path)} {file}" for file in files],
        name=shown(place),
        tell=tell,
    )


def prepare_images(
    paths: list[pathlib.Path],
    how: Preparation,
    *,
    describe: Callable[[int], tuple[str, str, str]],
    content: Callable[[int], io.BufferedReader | io.BytesIO],
    fingerprints: list[str],
    name: str,
    tell: Tell,
) -> Prepared:
    """Prepares images from any kind of storage, or takes them from the cache; see `prepare`.

    Args:
      paths: names of the images.
      how: how to prepare them.
      describe: number of an image -> its identity, group and source; called only if the cache lacks the images.
      content: number of an image -> its file, opened; likewise.
      fingerprints: of the files that store the images; part of the cache key.
      name: of the data set, for the report.
      tell: called with each line of the report.
    """
    choose("data.folder.channels", how.channels, dict.fromkeys((1, 3)))
    key = [3, how.size, how.channels, how.invert, how.skip_unreadable and how.pixels, fingerprints]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    folder = pathlib.Path(how.cache).expanduser() / f"images-{digest[:24]}"

    def load(number):
        with content(number) as file:
            image = read(paths[number], how.size, how.channels, how.invert, file, how.pixels)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        identity, group, source = describe(number)
        return image, [named(identity), named(group), source, digest, int(image.max())]

    rows = _rows(folder)
    if rows is None:
        if folder.exists():
            tell(f"{folder} is damaged: the images are prepared again")
        rows = _write(folder, len(paths), load, how.skip_unreadable, tell)
    files = tuple(File(paths[number], *names) for number, *names, _, _ in rows)
    _report(files, rows, name, tell)
    return Prepared(_stored(folder, (len(rows), how.size, how.size, how.channels)), files, how.invert)


def _stored(folder: pathlib.Path, shape: tuple[int, int, int, int]) -> Images:
    @functools.cache
    def reader():
        return _array_record().ArrayRecordReader(str(folder / "images.array_record"))

    def read_numbers(numbers):
        try:
            records = reader().read([int(number) for number in np.asarray(numbers).ravel()])
            return np.stack([np.frombuffer(record, np.uint8) for record in records]).reshape(-1, *shape[1:])
        except (RuntimeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())[:100]
            raise ValueError(f"{folder} is damaged ({reason}); delete it, and run the same command again") from error

    return Images(read_numbers, shape)


def fingerprint(path: str | os.PathLike) -> str:
    """Path, size and times of a file (mtime, and ctime, which a renaming changes): it differs after any change."""
    place = os.fsencode(os.path.abspath(path))
    try:
        found = os.stat(path)
    except OSError as error:
        return f"{place} {error.strerror}"
    return f"{place} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _rows(folder: pathlib.Path) -> list[list] | None:
    """What files.json says of each image: [number, identity, group, source, digest of its file, largest value].

    None if the images are not prepared, or damaged. Reading them all for the digest takes a second per gigabyte or two.
    """
    try:
        saved = json.loads((folder / "files.json").read_text())
        rows, digest = (saved["rows"], saved["digest"]) if isinstance(saved, dict) else (saved, None)
        if digest not in (None, _digest(folder, rows)) or not rows or any(len(row) != 6 for row in rows):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rows


def _digest(folder, rows):
    with (folder / "images.array_record").open("rb") as file:
        return digests.of([json.dumps(rows), hashlib.file_digest(file, "sha256").hexdigest()])


def _write(folder: pathlib.Path, count: int, load: Callable, skip_unreadable: bool, tell: Tell) -> list[list]:
    """Reads in parallel, writes in order, and names the folder when it is complete; one process at a time.

    Returns what `_rows` does.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        rows = _rows(folder)  # Another process may have written it in the meantime.
        if rows is not None:
            return rows
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            rows = _fill(partial, count, load, skip_unreadable, tell)
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(partial, folder)
            return rows
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _array_record() -> types.ModuleType:
    """Imported only where images are prepared or read."""
    return importlib.import_module("array_record.python.array_record_module")


@contextlib.contextmanager
def _writing(place: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # ArrayRecord's way of saying that a file cannot be written.
        raise OSError(f"images cannot be stored in {place.parent} ({error})") from error


def _fill(partial: pathlib.Path, count: int, load: Callable, skip_unreadable: bool, tell: Tell) -> list[list]:
    def attempt(number):
        try:
            return load(number)
        except (ValueError, OSError) as error:
            return error

    rows, unreadable = [], []
    writer = _array_record().ArrayRecordWriter(str(partial / "images.array_record"), "group_size:1")
    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress("reading images", count) as bar,
    ):
        for start in range(0, count, _AT_ONCE):
            bar.advance(start and _AT_ONCE)
            numbers = range(start, min(start + _AT_ONCE, count))
            for number, loaded in zip(numbers, pool.map(attempt, numbers), strict=True):
                if isinstance(loaded, Exception):
                    unreadable.append(str(loaded))
                    continue
                image, row = loaded
                with _writing(partial):
                    writer.write(image.tobytes())
                rows.append([number, *row])
    with _writing(partial):
        writer.close()
    if unreadable and not (skip_unreadable and rows):
        raise ValueError(refusal(unreadable, count, "--config.data.folder.skip_unreadable=True"))
    for line in unreadable:
        tell(f"skipped: {line}")
    content = {"rows": rows, "digest": _digest(partial, rows)}
    (partial / "files.json").write_text(json.dumps(content))
    return rows


def _report(files: tuple[File, ...], rows: list[list], name: str, tell: Tell) -> None:
    images = collections.Counter(file.identity for file in files)
    counts = np.array(list(images.values()))
    single = int(np.sum(counts == 1))
    tell(
        f"{name}: {len(files)} images of {len(images)} identities in {len({file.group for file in files})} group(s); "
        f"{counts.min()} to {counts.max()} per identity, median {int(np.median(counts))}"
        + (f"; {single} with a single image, which can only appear in different pairs" if single else "")
    )
    dark = sum(largest <= _DARK for *_, largest in rows)
    if dark >= 0.9 * len(rows):
        tell(f"{dark} of {len(rows)} images are nearly black (nothing above {_DARK} of 255): check their scaling")
    originals, copies = {}, []
    for file, (*_, digest, _) in zip(files, rows, strict=True):
        if digest in originals:
            copies.append((originals[digest], file))
        originals.setdefault(digest, file)
    for original, copy in copies[:5]:
        of = "" if original.identity == copy.identity else f" of {original.identity} and {copy.identity}"
        tell(f"duplicate files{of}: {shown(original.path)} and {shown(copy.path)}")
    if len(copies) > 5:
        tell(f"{len(copies) - 5} more duplicate files")


def dataset(prepared: Prepared, chosen: np.ndarray, name: str, stream: bool = False) -> Dataset:
    """The images numbered `chosen`, int [n], as a data set; they are read into memory unless `stream`."""
    files = [prepared.files[number] for number in chosen]

    def numbers(values):
        names, number = np.unique(np.array(values, object).astype(str), return_inverse=True)
        return tuple(str(name) for name in names), number.astype(np.int32)

    names, label = numbers([file.identity for file in files])
    groups, group = numbers([file.group for file in files])
    _, source = numbers([file.source for file in files])
    images = Images(lambda items: prepared.images[chosen[items]], (len(chosen), *prepared.images.shape[1:]))
    images = images if stream else images[np.arange(len(chosen))]
    of = tuple(shown(file.path) for file in files)
    return checked(Dataset(images, label, group, source, groups, names, prepared.invert, files=of), name)


def split(
    names: np.ndarray, *, folds: int, fold: int, by: Literal["identity", "group"], seed: int
) -> dict[str, np.ndarray]:
    """Numbers of the images for training, validation and test; they share no identity (or group).

    Identities are shuffled and split into `folds` equal parts: part `fold` is the test, the next one is for validation,
    the others are for training.

    Args:
      names: of the identity, or group, of each image, [n].
      folds: number of parts, at least 3.
      fold: 0..folds-1.
      by: "identity", or "group" where whole groups are held out.
      seed: of the shuffle.

    Returns:
      "train", "validation" and "test", int [m] each.

    Raises:
      ValueError: there are fewer than two identities (or one group) per part.
    """
    distinct = np.unique(names)
    least = folds if by == "group" else 2 * folds
    if folds < 3 or not 0 <= fold < folds:
        raise ValueError(f"folds={folds} must be 3 or more, and fold={fold} from 0 to one less")
    if len(distinct) < least:
        raise ValueError(
            f"{len(distinct)} {'groups' if by == 'group' else 'identities'} cannot be split into folds="
            f"{folds} parts; {least} are needed: add some, or set fewer parts"
        )
    order = np.random.default_rng(seed).permutation(len(distinct))
    part = (np.argsort(order) * folds // len(distinct) - fold) % folds
    of_image = part[np.searchsorted(distinct, names)]
    return {
        "test": np.flatnonzero(of_image == 0),
        "validation": np.flatnonzero(of_image == 1),
        "train": np.flatnonzero(of_image > 1),
    }


def split_by(own: ConfigDict, names: np.ndarray) -> dict[str, np.ndarray]:
    """`split`, as set by `own`, the `data.folder` part of a configuration."""
    try:
        return split(names, folds=own.folds, fold=own.fold, by=own.by, seed=own.seed)
    except ValueError as error:
        raise ValueError(f"data.folder: {error}") from error


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
    prepared = prepare(place, Preparation(_CACHE, size, channels, invert))
    return prepared.images[np.arange(len(prepared.files))], [file.identity for file in prepared.files]


def parts_of(prepared: Prepared, config: ConfigDict, name: str, train: bool) -> Datasets:
    """Prepared images as "train" (if `train`), "validation" and "test", split as set by `config.folder`."""
    own = config.folder
    choose("data.folder.by", own.by, dict.fromkeys(("identity", "group")))
    parts = split_by(own, np.array([file.group if own.by == "group" else file.identity for file in prepared.files]))
    return {
        part: dataset(prepared, numbers, f"{name} {part}", config.stream and part == "train")
        for part, numbers in parts.items()
        if train or part != "train"
    }


def preparation(config: ConfigDict) -> Preparation:
    """How `config`, the `data` part of a configuration, prepares images."""
    own = config.folder
    cache = pathlib.Path(config.data_dir) / "siamjax" if config.data_dir else _CACHE
    return Preparation(cache, config.size, own.channels, own.invert, own.skip_unreadable, own.pixels)


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
    invert=lambda config: config.folder.invert,
    path=lambda config: os.path.abspath(config.folder.path),
    places=("data.data_dir", "data.manual_dir", "data.folder.path"),
)
