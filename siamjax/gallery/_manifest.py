"""The file gallery.json: which network or metric a gallery has, and which of the files in its folder are valid."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import filelock
import numpy as np

from siamjax import files
from siamjax.gallery import _own
from siamjax.gallery._types import Metric

_FORMAT = 2
_FILE = "gallery.json"
RESTORE = "restore it from a backup, or enroll the images again into a new folder"


@dataclasses.dataclass(frozen=True)
class Part:
    """A file with embeddings and names, and the number of images in it."""

    file: str
    images: int


@dataclasses.dataclass(frozen=True)
class IndexFile:
    """A file with a FAISS index, and its kind: "cells", or an older one's: "hnsw" or "ivfpq"."""

    file: str
    kind: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What gallery.json holds.

    Attributes:
      network: the folder or the name of the network; "" without one.
      fingerprint: of the network.
      vectors: the metric of a gallery of vectors; None if it is one of images.
      database: its address; None if the folder stores everything.
      parts: the files with embeddings and names, in a folder.
      next: the number of the first image that is in no part, in a folder.
      log: the file with the images that were enrolled after those in parts, in a folder; None if there is none.
      index: the file to search, in a folder; None if there is none.
      replaced: a file with an index of an older version, which is not used.
      version: of the table after the last change from here, in a database.
    """

    network: str
    fingerprint: str
    database: str | None = None
    parts: tuple[Part, ...] = ()
    next: int = 0
    log: str | None = None
    index: IndexFile | None = None
    replaced: str | None = None
    version: int = 0
    vectors: Metric | None = None

    def named(self) -> set[str]:
        """The names of the files of a gallery in a folder, except thumbnails."""
        index = self.index.file if self.index else self.replaced
        return {part.file for part in self.parts} | {name for name in (index, self.log) if name}

    @property
    def content(self) -> str:
        """What the gallery holds, for messages."""
        return f"vectors compared by {self.vectors}" if self.vectors else "images, which its network has embedded"

    def write(self, folder: pathlib.Path) -> None:
        """Replaces the file in `folder`; raises OSError if it cannot be written."""
        content: dict[str, Any] = {
            "format": _FORMAT,
            "run": self.network,
            "network": self.fingerprint,
            "database": self.database,
        }
        if self.vectors is not None:
            content["vectors"] = self.vectors
        if self.database is None:
            content["parts"] = [dataclasses.asdict(part) for part in self.parts]
            content["next"] = self.next
            if self.log:  # An older siamjax, which has no logs, refuses such a gallery.
                content["log"] = self.log
            content["lookup"] = dataclasses.asdict(self.index) if self.index else None
        else:
            content["version"] = self.version
        content["digest"] = _digest(content)
        files.write(folder / _FILE, json.dumps(content, indent=1).encode(), private=True)

    def check_same(self, folder: pathlib.Path, stored: "Manifest") -> None:
        """Raises ValueError unless the manifest `stored` in `folder` has this one's network or metric, and database."""
        if stored.vectors != self.vectors:
            raise ValueError(
                f"{folder} holds {stored.content}, not {self.content}; open it by Gallery(folder), or name a new folder"
            )
        if stored.fingerprint != self.fingerprint:
            raise ValueError(
                f"{folder} was made by another network, whose embeddings this one cannot read; use the network in "
                f"{stored.network} as it was, or enroll the images into a new gallery"
            )
        if stored.database != self.database:
            raise ValueError(f"{folder} stores its images in {stored.database or 'its folder'}, not in {self.database}")


def read(folder: pathlib.Path) -> Manifest | None:
    """The manifest in `folder`; None if there is none.

    Raises:
      ValueError: it is damaged, or of another version; or `folder` is a file.
    """
    path = folder / _FILE
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder for the gallery")
    if not path.exists():
        return None
    try:
        return _parsed(json.loads(files.read(path)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, or of another version ({error}); {RESTORE}") from error


def _parsed(content: dict[str, Any]) -> Manifest:
    if content["format"] != _FORMAT:
        raise ValueError(f"format {content['format']}, expected {_FORMAT}")
    if "digest" in content and content.pop("digest") != _digest(content):  # Older versions wrote none.
        raise ValueError("its content has changed since; if you changed it, delete its line 'digest'")
    database, index = content["database"], content.get("lookup")
    keys = {"format", "run", "network", "database"}
    keys |= {"parts", "next", "lookup"} if database is None else {"version"} & content.keys()
    keys |= {"log"} & content.keys() if database is None else set()
    keys |= {"vectors"} & content.keys()
    if (metric := content.get("vectors")) not in (None, *get_args(Metric)):
        raise ValueError(f"{metric!r} is not a metric of vectors")
    if content.keys() != keys:
        raise ValueError(f"{', '.join(sorted(content.keys() ^ keys))} is missing or not known")
    parts = tuple(Part(**part) for part in content.get("parts", ()))
    if wrong := [name for name, ok in _names(parts, content) if not ok]:
        raise ValueError(f"{wrong[0]!r} is not the name of a file of a gallery")
    # An index of an older siamjax holds every copy of an image, and must be rebuilt.
    replaced = index["file"] if index and "last" in index else None
    return Manifest(
        network=_text(content["run"]),
        fingerprint=_text(content["network"]),
        database=database if database is None else _text(database),
        parts=parts,
        next=_count(content.get("next", 0)),
        log=content.get("log"),
        index=IndexFile(**index) if index and not replaced else None,
        replaced=replaced,
        version=_count(content.get("version", 0)),
        vectors=metric,
    )


def _names(parts: tuple[Part, ...], content: dict[str, Any]) -> Iterator[tuple[Any, bool]]:
    """The names in gallery.json, and whether this gallery can have made them."""
    yield from ((part.file, _own.is_part(part.file)) for part in parts)
    if index := content.get("lookup"):
        yield index["file"], _own.is_index(index["file"])
    if "log" in content:
        yield content["log"], _own.is_log(content["log"])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a number of images or of a version")
    return value


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_writable(folder: pathlib.Path) -> None:
    """Raises OSError if the gallery in `folder` cannot be changed."""
    files.check_writable(folder / _FILE)


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other writers out of `folder`, which is created if need be; raises OSError if it cannot be written."""
    check_writable(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with filelock.FileLock(folder / _own.LOCK, mode=0o600):
        yield


def counted(identities: Iterable[str]) -> dict[str, int]:
    """How often each identity occurs, sorted by name."""
    names = np.array([files.named(name) for name in identities], dtype=object).astype(str)
    different, counts = np.unique(names, return_counts=True)
    return dict(zip(different.tolist(), counts.tolist(), strict=True))


def address(database: str | None) -> str | None:
    """Of a database; a folder by its full path: the gallery may be opened from elsewhere."""
    if database is None or "://" in database:
        return database
    return str(pathlib.Path(database).expanduser().resolve())
