"""Images of one's own: a folder, or a table that lists files, prepared once and then read as any other data set."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import shutil

import filelock
import numpy as np
from array_record.python import array_record_module
from PIL import Image, ImageOps, UnidentifiedImageError

from siamjax.choices import choose
from siamjax.data.dataset import Dataset, Images, checked
from siamjax.files import shown, table
from siamjax.progress import Progress

_AT_ONCE = 1024  # images that are read before they are written


@dataclasses.dataclass(frozen=True)
class File:
    """An image file, or what stands for one, and what is known of it, by name."""

    path: pathlib.Path
    identity: str
    group: str
    source: str


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Readable images [n, size, size, channels] in `images`, of the files in `files`; `invert` as in `read`."""

    images: Images
    files: tuple[File, ...]
    invert: bool


def find(place: str | os.PathLike) -> list[File]:
    """The image files of a folder, or of a CSV file with the columns path and identity; group and source are optional.

    In a folder, each folder that holds images is an identity, called by its path; the folder around it, if that is not
    `place` itself, is its group. Each image is its own source. Names that begin with a dot are passed over. In a CSV
    file, paths are relative to it.

    Raises:
      FileNotFoundError: `place`, or a file that it lists, is not there.
      ValueError: `place` holds no images, or the table lacks a column or a value.
    """
    place = pathlib.Path(place).expanduser()
    if place.is_dir():
        files = _of_folder(place)
    elif place.is_file():
        files = _of_table(place)
    else:
        raise FileNotFoundError(f"{shown(place)} is not there; expected a folder of images, or a CSV file")
    if not files:
        raise ValueError(
            f"{shown(place)} holds no images; expected a folder for each identity with files such as .jpg, .png or .pgm"
        )
    return files


def _of_folder(place):
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = []
    for folder, inner, names in os.walk(place, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        relative = pathlib.Path(folder).relative_to(place)
        for name in sorted(names):
            if not name.startswith(".") and pathlib.Path(name).suffix.lower() in endings:
                group = shown(relative.parent) if len(relative.parts) > 1 else ""
                path = pathlib.Path(folder, name)
                identity = shown(relative) if relative.parts else shown(pathlib.Path(os.path.abspath(place)).name)
                files.append(File(path, identity, group, shown(path)))
    return files


def _of_table(place):
    files, groups = [], {}
    for where, row in table(place, ("path", "identity"), "path,identity[,group][,source]"):
        if not row["path"] or not row["identity"]:
            raise ValueError(f"{where}: a path and an identity are needed")
        path = place.parent / row["path"]
        if not path.is_file():
            raise FileNotFoundError(f"{where}: {shown(path)} is not there")
        group = row.get("group") or ""
        if groups.setdefault(row["identity"], group) != group:
            raise ValueError(
                f"{where}: {row['identity']} is in group {group!r}, and was in {groups[row['identity']]!r}; an "
                "identity lies in one group (use source for cameras and sessions)"
            )
        files.append(File(path, row["identity"], group, row.get("source") or shown(path)))
    return files


def read(
    path: str | os.PathLike, size: int, channels: int, invert: bool = False, content: bytes | None = None
) -> np.ndarray:
    """An image file as uint8 [size, size, channels], whole, its aspect kept, in the middle of black.

    It is turned upright as its EXIF data says; transparent parts are white; 16 bits become 8.

    Args:
      path: the file, of any kind that Pillow reads.
      size: side in pixels.
      channels: 1 for grey, 3 for colour.
      invert: for dark ink on white paper, so that paper is black, as what lies around it.
      content: of the file, if it was read before.

    Raises:
      ValueError: the file is no image, damaged, or of more pixels than Pillow takes for safe.
    """
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as image:
            image = upright(image, "L" if channels == 1 else "RGB", 2 * size)
    except FileNotFoundError:
        raise
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        known = "" if isinstance(error, UnidentifiedImageError) else f": {shown(error)}"
        raise ValueError(f"{shown(path)} cannot be read as an image{known}") from error
    if invert:
        image = ImageOps.invert(image)
    image = ImageOps.pad(
        image, (size, size), Image.Resampling.BOX if max(image.size) > size else Image.Resampling.BILINEAR
    )
    return np.asarray(image, np.uint8).reshape(size, size, channels)


def upright(image: Image.Image, mode: str, least: int) -> Image.Image:
    """An opened image in 8 bits, of mode "L" or "RGB", turned as its EXIF data says; what is transparent is white.

    It need not be decoded to more than `least` pixels a side.
    """
    image.draft(mode, (least, least))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        # 16 bits, or as wide as the values are.
        values = values * (255 / (65535 if image.mode.startswith("I;16") or values.max() > 255 else 255))
        image = Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def prepare(place, *, cache, size: int, channels: int, invert: bool, skip_unreadable: bool, tell=print) -> Prepared:
    """Reads all images of `place`, or finds them as an earlier call left them; says what it found.

    What is prepared lies in `cache`, as array_record, in a folder called by the files' names, lengths and times and by
    the settings: a changed file makes it anew.

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
    files = find(place)
    stats = [file.path.stat() for file in files]
    return keep(
        [file.path for file in files],
        describe=lambda number: dataclasses.astuple(files[number])[1:],
        content=lambda number: files[number].path.read_bytes(),
        known=[
            f"{os.fsencode(file.path.absolute())}{stat.st_size}{stat.st_mtime_ns}{file}"
            for file, stat in zip(files, stats, strict=True)
        ],
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
    known: list[str],
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
      known: by what one content is told from another.
      name: of them all.
      cache, size, channels, invert, skip_unreadable, tell: see `prepare`.
    """
    choose("data.folder.channels", channels, dict.fromkeys((1, 3)))
    digest = hashlib.sha256(json.dumps([2, size, channels, invert, skip_unreadable, known]).encode())
    folder = pathlib.Path(cache).expanduser() / f"images-{digest.hexdigest()[:24]}"
    if not (folder / "files.json").exists():

        def load(number):
            data = content(number)
            image = read(paths[number], size, channels, invert, data)
            return image, [*describe(number), hashlib.sha256(data).hexdigest()]

        _write(folder, len(paths), load, skip_unreadable, tell)
    rows = json.loads((folder / "files.json").read_text())
    files = tuple(File(paths[number], *said) for number, *said, _ in rows)
    _report(files, [digest for *_, digest in rows], name, tell)
    reader = functools.cache(lambda: array_record_module.ArrayRecordReader(str(folder / "images.array_record")))

    def read_numbers(numbers):
        records = reader().read([int(number) for number in np.asarray(numbers).ravel()])
        return np.stack([np.frombuffer(record, np.uint8) for record in records]).reshape(-1, size, size, channels)

    return Prepared(Images(read_numbers, (len(rows), size, size, channels)), files, invert)


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
    writer = array_record_module.ArrayRecordWriter(str(partial / "images.array_record"), "group_size:1")
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
    if unreadable and not skip_unreadable:
        more = f"; and {len(unreadable) - 10} more" if len(unreadable) > 10 else ""
        raise ValueError(
            f"{len(unreadable)} of {count} images cannot be read: {'; '.join(unreadable[:10])}{more}. Mend "
            "or remove them, or leave them out with --config.data.folder.skip_unreadable=True"
        )
    if not rows:
        raise ValueError(f"none of the {count} images can be read: {'; '.join(unreadable[:10])}")
    for line in unreadable:
        tell(f"left out: {line}")
    (partial / "files.json").write_text(json.dumps(rows))


def _report(files, digests, name, tell):
    images = collections.Counter(file.identity for file in files)
    counts = np.array(list(images.values()))
    single = int(np.sum(counts == 1))
    tell(
        f"{name}: {len(files)} images of {len(images)} identities in {len({file.group for file in files})} group(s); "
        f"{counts.min()} to {counts.max()} an identity, median {int(np.median(counts))}"
        + (f"; {single} with a single image, which can only be told apart from others" if single else "")
    )
    first, twice = {}, []
    for file, digest in zip(files, digests, strict=True):
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
