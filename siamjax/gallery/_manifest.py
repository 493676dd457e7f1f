"""The file gallery.json: which network a gallery belongs to, and which of the files in its folder are valid."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import filelock
import numpy as np

from siamjax import files

_FORMAT = 2
_FILE = "gallery.json"


@dataclasses.dataclass(frozen=True)
class Part:
    """A file with embeddings and names, and the number of images in it."""

    file: str
    images: int


@dataclasses.dataclass(frozen=True)
class IndexFile:
    """A file with a FAISS index, and its kind: "hnsw" or "ivfpq"."""

    file: str
    kind: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What gallery.json holds.

    Attributes:
      network: the folder or the name of the network.
      fingerprint: of the network.
      database: its address; None if the folder stores everything.
      parts: the files with embeddings and names, in a folder.
      next: the number that the next enrolled image gets, in a folder.
      index: the file to search, in a folder; None if there is none.
    """

    network: str
    fingerprint: str
    database: str | None = None
    parts: tuple[Part, ...] = ()
    next: int = 0
    index: IndexFile | None = None

    def write(self, folder: pathlib.Path) -> None:
        """Replaces the file in `folder`; raises OSError if it cannot be written."""
        content: dict[str, Any] = {
            "format": _FORMAT,
            "run": self.network,
            "network": self.fingerprint,
            "database": self.database,
        }
        if self.database is None:
            content["parts"] = [dataclasses.asdict(part) for part in self.parts]
            content["next"] = self.next
            content["lookup"] = dataclasses.asdict(self.index) if self.index else None
        files.write(folder / _FILE, json.dumps(content, indent=1).encode())

    def check_same(self, folder: pathlib.Path, stored: "Manifest") -> None:
        """Raises ValueError unless the manifest `stored` in `folder` has this one's network and database."""
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
        content = json.loads(path.read_text())
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']}, expected {_FORMAT}: enroll the images again")
        index = content.get("lookup")
        if index and "last" in index:
            index = None  # Written by an older siamjax: it holds every copy of an image, and must be rebuilt.
        return Manifest(
            network=content["run"],
            fingerprint=content["network"],
            database=content["database"],
            parts=tuple(Part(**part) for part in content.get("parts", ())),
            next=content.get("next", 0),
            index=IndexFile(**index) if index else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged, or of another version ({error})") from error


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other writers out of `folder`, which is created if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):
        yield


def counted(identities: Iterable[str]) -> dict[str, int]:
    """How often each identity occurs, sorted by name."""
    names = np.array([files.named(name) for name in identities], dtype=object).astype(str)
    different, counts = np.unique(names, return_counts=True)
    return dict(zip(different.tolist(), counts.tolist(), strict=True))
