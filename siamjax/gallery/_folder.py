"""A store in the gallery's own folder: parts, a log of what was added last, and an index."""

import contextlib
import dataclasses
import io
import json
import pathlib
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from siamjax import files
from siamjax.gallery import _log, _manifest, _own
from siamjax.gallery._index import CANDIDATES, Index, keys, score_each
from siamjax.gallery._log import Log
from siamjax.gallery._manifest import Manifest, Part
from siamjax.gallery._types import COLUMNS, Enrolled, Found, Metric, Scorer

_WHOLE = 10_000  # images of a part from which on it is not merged with later ones
_FLOATS = 2**26  # that a block of queries needs, at most
_NO_LOG = Log()


@dataclasses.dataclass
class _Images:
    """Enrolled images: their `numbers` and `keys`, int64 [n], `embeddings` [n, d], and `columns` of n texts each.

    `room`, if there is one, is an array of our own that begins with the embeddings and has room for more.
    """

    numbers: np.ndarray
    keys: np.ndarray
    embeddings: np.ndarray
    columns: dict[str, list[str]]
    room: np.ndarray | None = None

    def last(self, count: int) -> "_Images":
        """The last `count` of the images, at least one."""
        columns = {name: values[-count:] for name, values in self.columns.items()}
        return _Images(self.numbers[-count:], self.keys[-count:], self.embeddings[-count:], columns)

    def followed_by(self, more: "_Images") -> "_Images":
        """These images and then `more`; most often there is room, and no embedding of these is copied."""
        count, total, room = len(self.numbers), len(self.numbers) + len(more.numbers), self.room
        if room is None or len(room) < total:
            room = np.empty((total + total // 4, more.embeddings.shape[1]), np.float32)
            room[:count] = self.embeddings
        room[count:total] = more.embeddings
        columns = {name: self.columns[name] + more.columns[name] for name in COLUMNS}
        numbers, hashes = np.append(self.numbers, more.numbers), np.append(self.keys, more.keys)
        return _Images(numbers, hashes, room[:total], columns, room)


class FolderStore:
    """Embeddings and names in the gallery's folder, all in memory once it is open; see `Store`.

    A file gets its name once it is complete, gallery.json last: a reader, or a process that is killed at any moment,
    finds the old gallery or the new one. A lock lets one process write at a time.

    Few images are added at the end of a log, in which they count once they are complete. What is more than a log holds
    becomes a new part, with the log's images and earlier parts of less than twice its size, so that each part has at
    least twice as many images as the next: n images, added one by one, are in at most log2(n) parts, and each was
    written as often.
    """

    def __init__(self, folder: pathlib.Path, manifest: Manifest, scorer: Scorer, metric: Metric | None):
        """Opens the gallery in `folder`, or a new one.

        Args:
          folder: of the gallery; need not exist.
          manifest: of a new gallery: its network, and no parts.
          scorer: of the network.
          metric: the nearest embeddings by it have the highest scores; None if the head is not a metric, and all images
            are scored, however many.
        """
        self._folder, self._new, self._scorer = folder, manifest, scorer
        self._metric: Metric | None = metric
        self._open()

    def _open(self):
        self._manifest = _manifest.read(self._folder) or self._new
        self._index = Index(self._folder, self._metric)
        self._load()

    def __len__(self) -> int:
        return len(self._images.numbers)

    def dimension(self) -> int | None:
        return self._images.embeddings.shape[1] if len(self) else None

    def identities(self) -> dict[str, int]:
        return _manifest.counted(self._images.columns["identity"])

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        with _manifest.locked(self._folder):
            stored = _manifest.read(self._folder)
            if stored is None:
                if self._manifest is not self._new:
                    raise FileNotFoundError(f"{self._folder} was deleted or moved since it was opened; open it again")
            elif stored != self._manifest or (stored.log and not self._log.is_current(self._folder)):
                self._new.check_same(self._folder, stored)
                self._manifest = stored
                self._load()
            try:
                yield
            except BaseException:
                self._open()  # Files that gallery.json names are valid; all others are deleted.
                self._delete_unused()
                raise

    def add(self, embeddings: np.ndarray, images: Sequence[Enrolled]) -> None:
        if not images:
            return
        embeddings = np.asarray(embeddings, np.float32)
        if not np.isfinite(embeddings).all():
            raise ValueError("embeddings are not finite, and nothing is near them; check the network and its inputs")
        columns = {name: [getattr(image, name) for image in images] for name in COLUMNS}
        numbers = np.arange(len(images)) + self._next()
        self._images = self._images.followed_by(_Images(numbers, keys(embeddings), embeddings, columns))
        count, old = self._log.images + len(images), self._manifest
        new = self._changed(old.parts, old.next, old.log)
        if count > _log.MOST:
            parts, following = list(old.parts), self._next() + len(images)
            while parts and parts[-1].images < min(2 * count, _WHOLE):
                count += parts.pop().images
            parts.append(self._write(self._images.last(count)))
            self._commit(dataclasses.replace(new, parts=tuple(parts), next=following, log=None))
        elif new == old and self._log.complete:
            self._log = _log.append(self._folder, self._log, embeddings, columns)
        else:
            last = self._images.last(count)
            log = _log.create(self._folder, last.embeddings, last.columns)
            self._commit(dataclasses.replace(new, log=log.file), log)

    def remove(self, identity: str) -> int:
        old = self._images
        left = np.array([files.named(name) != identity for name in old.columns["identity"]], bool)
        removed = int(np.sum(~left))
        if removed:
            columns = {
                name: [value for value, stays in zip(values, left, strict=True) if stays]
                for name, values in old.columns.items()
            }
            self._images = _Images(old.numbers[left], old.keys[left], old.embeddings[left], columns)
            self._commit(self._changed((self._write(self._images),) if left.any() else (), self._next()))
            _own.delete(self._folder, set(old.columns["thumbnail"]) - set(self._images.columns["thumbnail"]))
            self._delete_unused()
        return removed

    def rename(self, identity: str, to: str) -> int:
        names = [files.named(name) for name in self._images.columns["identity"]]
        renamed = names.count(identity)
        if renamed:
            columns = self._images.columns | {"identity": [to if name == identity else name for name in names]}
            self._images = dataclasses.replace(self._images, columns=columns)
            self._commit(self._changed((self._write(self._images),), self._next()))
            self._delete_unused()
        return renamed

    def images(self, identities: Collection[str]) -> list[Enrolled]:
        columns = self._images.columns
        everything = zip(map(files.named, columns["identity"]), columns["path"], columns["thumbnail"], strict=True)
        return [Enrolled(*image) for image in everything if image[0] in identities]

    def best(self, queries: np.ndarray, count: int) -> list[Found]:
        floats = max(len(self), CANDIDATES * count * queries.shape[1])  # of each query: scores of all, or candidates
        together = max(1, min(1024, _FLOATS // floats))
        blocks = [queries[start : start + together] for start in range(0, len(queries), together)]
        return [found for block in blocks for found in self._best(block, count)]

    def _best(self, queries, count):
        nearest = self._index.search(queries, count)
        if nearest is None:
            scores, everything = self._scorer.score_all(queries, self._images.embeddings), np.arange(len(self))
            return [self._top(row, everything, count) for row in scores]
        different, valid = nearest
        scores = score_each(self._scorer, queries, self._images.embeddings[self._index.first[different]])
        scores[~valid] = -np.inf
        rows = zip(scores, different, strict=True)
        return [self._top(*self._index.with_copies(row, numbers, count), count) for row, numbers in rows]

    def _top(self, scores, numbers, count):
        if count < len(scores):
            some = np.sort(np.argpartition(-scores, count - 1)[:count])
            scores, numbers = scores[some], numbers[some]
        order = [position for position in np.argsort(-scores, kind="stable") if np.isfinite(scores[position])]
        columns = [self._images.columns[name] for name in COLUMNS]
        return Found(scores[order], [Enrolled(*(values[numbers[n]] for values in columns)) for n in order])

    def _load(self):
        stored = self._manifest
        while True:
            try:
                return self._load_images()
            except FileNotFoundError:
                index, before = self._manifest.index, stored
                self._manifest = stored = _manifest.read(self._folder) or self._new
                if before != stored:
                    continue  # A writer has replaced files since the manifest was read.
                if index is None or (self._folder / index.file).exists():
                    raise
                self._manifest = dataclasses.replace(stored, index=None)  # It can be made again.

    def _load_images(self):
        groups, self._log = _stored(self._folder, self._manifest)
        self._images = _joined(groups)
        self._index.open(self._images.keys, self._images.embeddings, self._manifest.index)

    def _next(self):
        """The number of the next image."""
        return self._manifest.next + self._log.images

    def _write(self, images):
        buffer = io.BytesIO()
        columns = np.frombuffer(json.dumps(images.columns).encode(), np.uint8)
        np.savez(buffer, numbers=images.numbers, embeddings=images.embeddings, keys=images.keys, columns=columns)
        name = _own.part(buffer.getvalue())
        files.write(self._folder / name, buffer.getvalue(), private=True)
        return Part(name, len(images.numbers))

    def _changed(self, parts, following, log=None):
        """The manifest with these files, and with an index of the images as they are now."""
        index = self._index.update(self._images.keys, self._images.embeddings, self._manifest.index)
        return dataclasses.replace(self._new, parts=parts, next=following, log=log, index=index)

    def _commit(self, manifest, log=_NO_LOG):
        old = self._manifest
        manifest.write(self._folder)
        self._manifest, self._log = manifest, log
        _own.delete(self._folder, old.named() - manifest.named())

    def _delete_unused(self):
        _own.delete_unused(self._folder, self._manifest.named() | set(self._images.columns["thumbnail"]))


def identities(folder: pathlib.Path) -> dict[str, int]:
    """The number of images of each identity of the gallery in `folder`, sorted by name; loads no network.

    Raises:
      FileNotFoundError: there is no gallery.
      ValueError, OSError: the gallery is damaged, or its database cannot be reached.
    """
    manifest = _manifest.read(folder)
    if manifest is None:
        raise FileNotFoundError(missing(folder))
    if manifest.database is not None:
        from siamjax.gallery._database import DatabaseStore

        return DatabaseStore(folder, manifest, None, "l2").identities()
    try:
        groups, _ = _stored(folder, manifest)
    except FileNotFoundError:
        if _manifest.read(folder) == manifest:
            raise
        return identities(folder)  # A writer has replaced files since the manifest was read.
    return _manifest.counted([name for images in groups for name in images.columns["identity"]])


def missing(folder: pathlib.Path) -> str:
    """The message that `folder` holds no gallery."""
    return f"{folder} holds no gallery; create one: siamjax enroll GALLERY --checkpoint NETWORK IMAGES"


def _joined(groups):
    groups = [images for images in groups if len(images.numbers)]
    if len(groups) == 1:
        return groups[0]
    numbers, hashes, embeddings = (
        np.concatenate([getattr(images, name) for images in groups]) if groups else np.zeros(shape, dtype)
        for name, shape, dtype in (("numbers", 0, int), ("keys", 0, int), ("embeddings", (0, 1), np.float32))
    )
    columns = {name: [text for images in groups for text in images.columns[name]] for name in COLUMNS}
    return _Images(numbers, hashes, embeddings, columns)


def _stored(folder: pathlib.Path, manifest: Manifest) -> tuple[list[_Images], Log]:
    """The images that gallery.json names, file by file, and the state of their log.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: one is damaged.
    """
    groups, log = [_read(folder, part) for part in manifest.parts], _NO_LOG
    if manifest.log:
        with _reading(folder / manifest.log):
            log, embeddings, columns = _log.read(folder, manifest.log)
            groups.append(_checked(np.arange(log.images) + manifest.next, embeddings, columns, log.images))
    if len(sizes := sorted({images.embeddings.shape[1] for images in groups})) > 1:
        raise ValueError(f"{folder}: its parts are of different networks, with embeddings of {sizes}")
    return groups, log


def _read(folder, part):
    with _reading(folder / part.file):
        arrays = files.arrays(folder / part.file, ("numbers", "embeddings", "columns"), ("keys",))
        columns = json.loads(arrays["columns"].tobytes())
        return _checked(arrays["numbers"], arrays["embeddings"], columns, part.images, arrays.get("keys"))


def _checked(numbers, embeddings, columns, count, hashes=None):
    """`count` images, as they were read; older parts lack the hashes of embeddings. Raises ValueError."""
    if embeddings.ndim != 2 or embeddings.dtype != np.float32 or not np.isfinite(embeddings).all():
        raise ValueError(f"embeddings are {embeddings.dtype} {list(embeddings.shape)}, or not finite")
    images = _Images(numbers, keys(embeddings) if hashes is None else hashes, embeddings, columns)
    counts = {len(numbers), len(images.keys), len(embeddings), *(len(columns[name]) for name in COLUMNS)}
    if counts != {count} or not all(isinstance(text, str) for name in COLUMNS for text in columns[name]):
        raise ValueError(f"it has {sorted(counts)} images, expected {count}")
    return images


@contextlib.contextmanager
def _reading(path):
    """Tells what to do about a file that gallery.json names, if it is missing or damaged."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}, which gallery.json names, was not found; {_manifest.RESTORE}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); {_manifest.RESTORE}") from error
