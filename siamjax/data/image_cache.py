"""Images that are prepared once, stored in a cache, and then read like any other data set."""

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

import filelock
import numpy as np

from siamjax import digests
from siamjax.choices import choose
from siamjax.data import faces, ink
from siamjax.data.dataset import Dataset, Images, checked
from siamjax.data.finding import File
from siamjax.data.images import PIXELS, read, refusal, sides
from siamjax.data.types import Tell
from siamjax.files import named, shown
from siamjax.progress import Progress

_AT_ONCE = 1024  # images that are read before they are written
_DARK = 25  # of 255: an image whose values are all at most this is nearly black


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How images are prepared.

    Attributes:
      cache: folder for prepared images.
      size, channels, invert, pixels, ink, faces, middle: see `images.read`.
      skip_unreadable: whether to skip files that cannot be read; otherwise the error names the first ten.
      all_needed: whether a protocol needs all: none is skipped, and a photograph in which no face is found is used
        uncropped.
    """

    cache: str | os.PathLike
    size: int | tuple[int, int]
    channels: int = 1
    invert: bool = False
    skip_unreadable: bool = False
    pixels: int = PIXELS
    ink: bool = False
    faces: bool = False
    all_needed: bool = False
    middle: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Readable images [n, h, w, channels] in `images`, of the files in `files`; `invert`: whether ink is 255."""

    images: Images
    files: tuple[File, ...]
    invert: bool


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
    limit = how.skip_unreadable and not how.all_needed and how.pixels  # decides which images are left out
    key = [3, how.size, how.channels, how.invert, limit, fingerprints]
    key += [f"ink {ink.VERSION}"] * how.ink + [f"faces {faces.VERSION}"] * how.faces
    key += [f"middle {how.middle}"] * (how.middle is not None)
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    folder = pathlib.Path(how.cache).expanduser() / f"images-{digest[:24]}"

    def pixels(number, file, crop):
        return read(paths[number], how.size, how.channels, how.invert, file, how.pixels, how.ink, crop, how.middle)

    def load(number):
        with content(number) as file:
            try:
                image = pixels(number, file, how.faces)
            except faces.NoFaceError:
                if not how.all_needed:
                    raise
                file.seek(0)
                image = pixels(number, file, False)
                whole.append(number)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        identity, group, source = describe(number)
        return image, [named(identity), named(group), source, digest, int(image.max())]

    rows, whole = _rows(folder), []
    if rows is None:
        if folder.exists():
            tell(f"{folder} is damaged: the images are prepared again")
        rows = _write(folder, len(paths), load, how, tell)
    if whole:
        tell(f"no face found in {len(whole)} of {len(paths)} photographs; they are used uncropped")
    files = tuple(File(paths[number], *names) for number, *names, _, _ in rows)
    _report(files, rows, name, tell)
    return Prepared(_stored(folder, (len(rows), *sides(how.size), how.channels)), files, how.invert or how.ink)


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


def _write(folder: pathlib.Path, count: int, load: Callable, how: Preparation, tell: Tell) -> list[list]:
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
            rows = _fill(partial, count, load, how, tell)
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


def _fill(partial: pathlib.Path, count: int, load: Callable, how: Preparation, tell: Tell) -> list[list]:
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
    if unreadable and (how.all_needed or not (how.skip_unreadable and rows)):
        skip = None if how.all_needed else "--config.data.folder.skip_unreadable=True"
        raise ValueError(refusal(unreadable, count, skip))
    for line in unreadable:
        tell(f"skipped: {line}")
    if unreadable:
        tell(f"skipped {len(unreadable)} of {count} images")
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
