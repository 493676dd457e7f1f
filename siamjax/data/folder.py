"""Images of one's own: a folder, or a table that lists files, prepared once and then read as any other data set."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

import filelock
import numpy as np
from ml_collections import ConfigDict

from siamjax.choices import choose
from siamjax.data.dataset import Dataset, Images, checked
from siamjax.data.finding import File, find
from siamjax.data.images import read, refusal
from siamjax.data.types import Datasets, Source
from siamjax.files import named, shown
from siamjax.progress import Progress

_AT_ONCE = 1024  # images that are read before they are written
_DARK = 25  # of 255: an image without a greater value is nearly black


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Readable images [n, size, size, channels] in `images`, of the files in `files`; `invert` as in `read`."""

    images: Images
    files: tuple[File, ...]
    invert: bool


def prepare(place, *, cache, size: int, channels: int, invert: bool, skip_unreadable: bool, tell=print) -> Prepared:
    """Reads all images of `place`, or finds them as an earlier call left them; says what it found.

    The prepared images are stored in `cache`, as array_record, in a folder named by the files' `fingerprint` and by the
    settings: after a change they are prepared again.

    Args:
      place: see `find`.
      cache: folder for what is prepared.
      size, channels, invert: see `read`.
      skip_unreadable: whether to leave out files that cannot be read; otherwise the first ten are named in the error.
      tell: called with each line of the report.

    Raises:
      FileNotFoundError: see `find`.
      OSError: the cache cannot be written to.
      ValueError: see `find`; or files cannot be read.
    """
    files = find(place, tell)
    return keep(
        [file.path for file in files],
        describe=lambda number: dataclasses.astuple(files[number])[1:],
        content=lambda number: _content(files[number].path),
        fingerprints=[f"{fingerprint(file.path)} {file}" for file in files],
        name=shown(place),
        cache=cache,
        size=size,
        channels=channels,
        invert=invert,
        skip_unreadable=skip_unreadable,
        tell=tell,
    )


def keep(
    paths: list[pathlib.Path],
    *,
    describe,
    content,
    fingerprints: list[str],
    name: str,
    cache,
    size,
    channels,
    invert,
    skip_unreadable,
    tell,
) -> Prepared:
    """Prepares images, or finds them prepared, as `prepare` says, wherever they come from.

    Args:
      paths: what the images are called.
      describe: number of an image -> its identity, group and source; asked for only where nothing is prepared.
      content: number of an image -> bytes of its file; likewise.
      fingerprints: of the files that hold them; part of the cache key.
      name: of them all.
      cache, size, channels, invert, skip_unreadable, tell: see `prepare`.
    """
    choose("data.folder.channels", channels, dict.fromkeys((1, 3)))
    digest = hashlib.sha256(json.dumps([3, size, channels, invert, skip_unreadable, fingerprints]).encode())
    folder = pathlib.Path(cache).expanduser() / f"images-{digest.hexdigest()[:24]}"
    if not (folder / "files.json").exists():

        def load(number):
            data = content(number)
            image = read(paths[number], size, channels, invert, data)
            identity, group, source = describe(number)
            return image, [named(identity), named(group), source, hashlib.sha256(data).hexdigest(), int(image.max())]

        _write(folder, len(paths), load, skip_unreadable, tell)
    rows = json.loads((folder / "files.json").read_text())
    files = tuple(File(paths[number], *names) for number, *names, _, _ in rows)
    _report(files, rows, name, tell)

    @functools.cache
    def reader():
        return _array_record().ArrayRecordReader(str(folder / "images.array_record"))

    def read_numbers(numbers):
        records = reader().read([int(number) for number in np.asarray(numbers).ravel()])
        return np.stack([np.frombuffer(record, np.uint8) for record in records]).reshape(-1, size, size, channels)

    return Prepared(Images(read_numbers, (len(rows), size, size, channels)), files, invert)


def fingerprint(path: str | os.PathLike) -> str:
    """Tells a file, as it is now, from others and from what it was: its path, size and times, that of its last renaming
    (ctime) among them."""
    place = os.fsencode(os.path.abspath(path))
    try:
        found = os.stat(path)
    except OSError as error:
        return f"{place} {error.strerror}"
    return f"{place} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _content(path):
    if not path.is_file():  # A link to nothing, or a pipe, which would never end.
        raise FileNotFoundError(f"{shown(path)} is not there, or no file")
    return path.read_bytes()


def _write(folder, count, load, skip_unreadable, tell):
    """Reads in parallel, writes in order; the folder gets its name when all is there. Processes take turns."""
    partial = folder.with_name(f"{folder.name}.partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if (folder / "files.json").exists():
            return
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            _fill(partial, count, load, skip_unreadable, tell)
            os.rename(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _array_record():
    from array_record.python import array_record_module  # It takes its time to import.

    return array_record_module


@contextlib.contextmanager
def _writing(place):
    try:
        yield
    except RuntimeError as error:  # ArrayRecord's way of saying that a file cannot be written.
        raise OSError(f"images cannot be kept in {place.parent} ({error})") from error


def _fill(partial, count, load, skip_unreadable, tell):
    def tried(number):
        try:
            return load(number)
        except (ValueError, OSError) as error:
            return error, None

    rows, unreadable = [], []
    writer = _array_record().ArrayRecordWriter(str(partial / "images.array_record"), "group_size:1")
    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress("reading images", count) as bar,
    ):
        for start in range(0, count, _AT_ONCE):
            bar.advance(start and _AT_ONCE)
            numbers = range(start, min(start + _AT_ONCE, count))
            for number, (image, said) in zip(numbers, pool.map(tried, numbers), strict=True):
                if said is None:
                    unreadable.append(str(image))
                    continue
                with _writing(partial):
                    writer.write(image.tobytes())
                rows.append([number, *said])
    with _writing(partial):
        writer.close()
    if unreadable and not (skip_unreadable and rows):
        raise ValueError(refusal(unreadable, count, "--config.data.folder.skip_unreadable=True"))
    for line in unreadable:
        tell(f"left out: {line}")
    (partial / "files.json").write_text(json.dumps(rows))


def _report(files, rows, name, tell):
    images = collections.Counter(file.identity for file in files)
    counts = np.array(list(images.values()))
    single = int(np.sum(counts == 1))
    tell(
        f"{name}: {len(files)} images of {len(images)} identities in {len({file.group for file in files})} group(s); "
        f"{counts.min()} to {counts.max()} an identity, median {int(np.median(counts))}"
        + (f"; {single} with a single image, which can only be told apart from others" if single else "")
    )
    dark = sum(greatest <= _DARK for *_, greatest in rows)
    if dark >= 0.9 * len(rows):
        tell(f"{dark} of {len(rows)} images are nearly black (nothing above {_DARK} of 255): check how they are scaled")
    first, twice = {}, []
    for file, (*_, digest, _) in zip(files, rows, strict=True):
        if digest in first:
            twice.append((first[digest], file))
        first.setdefault(digest, file)
    for one, other in twice[:5]:
        of = "" if one.identity == other.identity else f", as {one.identity} and as {other.identity}"
        tell(f"the same file twice{of}: {shown(one.path)} and {shown(other.path)}")
    if len(twice) > 5:
        tell(f"{len(twice) - 5} more files are there twice")


def dataset(prepared: Prepared, chosen: np.ndarray, name: str, stream: bool = False) -> Dataset:
    """The images numbered `chosen`, int [n], as a data set; in memory unless `stream`."""
    files = [prepared.files[number] for number in chosen]

    def numbers(values):
        names, number = np.unique(np.array(values, object).astype(str), return_inverse=True)
        return tuple(str(name) for name in names), number.astype(np.int32)

    names, label = numbers([file.identity for file in files])
    groups, group = numbers([file.group for file in files])
    _, source = numbers([file.source for file in files])
    images = Images(lambda items: prepared.images[chosen[items]], (len(chosen), *prepared.images.shape[1:]))
    images = images if stream else images[np.arange(len(chosen))]
    return checked(Dataset(images, label, group, source, groups, names, prepared.invert), name)


def split(prepared: Prepared, *, folds: int, fold: int, by: str, seed: int) -> dict[str, np.ndarray]:
    """Numbers of the images to train, validate and test on, with no identity (or group) in two of them.

    Identities are dealt out to `folds` equal parts, in an order that `seed` shuffles: part `fold` is the test, the next
    one validates, the others train.

    Args:
      prepared: the images.
      folds: number of parts, at least 3.
      fold: 0..folds-1.
      by: "identity", or "group" to hold out whole groups.
      seed: of the shuffling.

    Raises:
      ValueError: there are fewer identities (groups) than would give each part two.
    """
    choose("data.folder.by", by, dict.fromkeys(("identity", "group")))
    names = np.array([file.group if by == "group" else file.identity for file in prepared.files])
    distinct = np.unique(names)
    least = folds if by == "group" else 2 * folds
    if folds < 3 or not 0 <= fold < folds:
        raise ValueError(f"data.folder.folds={folds} must be 3 or more, and data.folder.fold={fold} from 0 to one less")
    if len(distinct) < least:
        raise ValueError(
            f"{len(distinct)} {'groups' if by == 'group' else 'identities'} cannot be dealt out to data.folder.folds="
            f"{folds} parts; {least} are needed: add some, or ask for fewer parts"
        )
    order = np.random.default_rng(seed).permutation(len(distinct))
    part = (np.argsort(order) * folds // len(distinct) - fold) % folds
    of_image = part[np.searchsorted(distinct, names)]
    return {
        "test": np.flatnonzero(of_image == 0),
        "validation": np.flatnonzero(of_image == 1),
        "train": np.flatnonzero(of_image > 1),
    }


def parts_of(prepared: Prepared, config: ConfigDict, name: str, train: bool) -> Datasets:
    """The images dealt out to "train" (if wanted), "validation" and "test", as `config.folder` says."""
    own = config.folder
    parts = split(prepared, folds=own.folds, fold=own.fold, by=own.by, seed=own.seed)
    return {
        part: dataset(prepared, numbers, f"{name} {part}", config.stream and part == "train")
        for part, numbers in parts.items()
        if train or part != "train"
    }


def settings(config: ConfigDict) -> dict[str, Any]:
    """The arguments of `prepare` and `keep` that `config`, the `data` part of a configuration, gives."""
    own = config.folder
    return dict(
        cache=pathlib.Path(config.data_dir or "~/tensorflow_datasets") / "siamjax",
        size=config.size,
        channels=own.channels,
        invert=own.invert,
        skip_unreadable=own.skip_unreadable,
    )


def _load(config: ConfigDict, train: bool) -> Datasets:
    path = config.folder.path
    if not path:
        raise ValueError("data.folder.path is empty: name a folder of images, or a CSV file that lists them")
    return parts_of(prepare(path, **settings(config)), config, path, train)


# Of images of one's own, whatever they are prepared from.
SOURCE = Source(
    _load,
    title=lambda config: pathlib.Path(config.folder.path).name,
    evaluators=lambda config: ("verification", "identification", "retrieval", "open_set"),
    channels=lambda config: config.folder.channels,
    invert=lambda config: config.folder.invert,
    path=lambda config: os.path.abspath(config.folder.path),
    places=("data.data_dir", "data.manual_dir", "data.folder.path"),
)
