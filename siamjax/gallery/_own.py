"""Which files in a gallery's folder are the gallery's own: by their names, which it makes of their content.

A log grows, so that its name is random, and the first line of its content.
"""

import hashlib
import os
import pathlib
import re
import secrets
from collections.abc import Callable, Collection, Iterator

THUMBNAILS = "thumbnails"
LOCK = ".lock"
# Older versions gave parts and indexes random names, half as long.
_DIGEST = "([0-9a-f]{64}|[0-9a-f]{32})"
_PART = re.compile(rf"part-{_DIGEST}\.npz")
_INDEX = re.compile(rf"lookup-{_DIGEST}\.faiss")
_THUMBNAIL = re.compile(rf"{THUMBNAILS}/([0-9a-f]{{32}})\.jpg")
_LOG = re.compile(r"log-[0-9a-f]{32}\.bin")
_MADE = "|".join(kind.pattern for kind in (_PART, _INDEX, _THUMBNAIL, _LOG))
_PARTIAL = re.compile(rf"(gallery\.json|{_MADE})\.[0-9a-f]{{8}}\.partial")


def part(content: bytes) -> str:
    """The name of a file with embeddings and names."""
    return f"part-{hashlib.sha256(content).hexdigest()}.npz"


def index(content: bytes) -> str:
    """The name of a file with a FAISS index."""
    return f"lookup-{hashlib.sha256(content).hexdigest()}.faiss"


def thumbnail(content: bytes) -> str:
    """The name of a thumbnail."""
    return f"{THUMBNAILS}/{hashlib.sha256(content).hexdigest()[:32]}.jpg"


def log() -> str:
    """The name of a new log."""
    return f"log-{secrets.token_hex(16)}.bin"


def is_part(name: object) -> bool:
    """Whether a name that was read from a file is one that `part` makes, now or formerly."""
    return isinstance(name, str) and bool(_PART.fullmatch(name))


def is_index(name: object) -> bool:
    """The same for `index`."""
    return isinstance(name, str) and bool(_INDEX.fullmatch(name))


def is_thumbnail(name: object) -> bool:
    """The same for `thumbnail`."""
    return isinstance(name, str) and bool(_THUMBNAIL.fullmatch(name))


def is_log(name: object) -> bool:
    """The same for `log`."""
    return isinstance(name, str) and bool(_LOG.fullmatch(name))


def check_index(path: pathlib.Path) -> None:
    """Raises ValueError if the content of an index's file is not that of its name; FileNotFoundError without one."""
    match = _INDEX.fullmatch(path.name)
    if match and len(match[1]) == 64 and _digest(path) != match[1]:
        raise ValueError(f"{path} is damaged: delete it, and the next image that is enrolled or removed makes it again")


def check_thumbnails(folder: pathlib.Path) -> None:
    """Raises ValueError if the thumbnails of the gallery in `folder` would be stored elsewhere, through a link."""
    place = folder / THUMBNAILS
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise ValueError(f"{place} is not a folder, but a link or a file; move it away: a gallery makes its own")


def delete(folder: pathlib.Path, names: Collection[str]) -> None:
    """Deletes files that the gallery in `folder` has named; leaves what has another name, and what is a link."""
    for name in names:
        linked = is_thumbnail(name) and (folder / THUMBNAILS).is_symlink()
        if re.fullmatch(_MADE, name) and not linked:
            path = folder / name
            if path.is_file() and not path.is_symlink():
                path.unlink(missing_ok=True)


def delete_unused(folder: pathlib.Path, used: Collection[str]) -> None:
    """Deletes what a writer that was killed left in `folder`: files whose names are of their content, except `used`."""
    for name in _names(folder, lambda entry: entry.is_file(follow_symlinks=False)):
        if name not in used and (_PARTIAL.fullmatch(name) or _is_of_content(folder / name, name)):
            (folder / name).unlink(missing_ok=True)


def _is_of_content(path: pathlib.Path, name: str) -> bool:
    """Whether a name is one that a gallery has made for what is in the file."""
    if is_log(name):
        with path.open("rb") as file:
            return file.readline(len(name) + 1) == f"{name}\n".encode()
    match = _PART.fullmatch(name) or _INDEX.fullmatch(name) or _THUMBNAIL.fullmatch(name)
    return bool(match) and _digest(path).startswith(match[1])


def foreign(folder: pathlib.Path) -> list[str]:
    """The names, sorted, of what a writer of a gallery that was killed cannot have left in `folder`."""

    def own(name):
        return name == LOCK or re.fullmatch(_MADE, name) or _PARTIAL.fullmatch(name)

    links = set(_names(folder, lambda entry: not entry.is_file(follow_symlinks=False)))
    return sorted(name for name in _names(folder, lambda entry: True) if name in links or not own(name))


def _names(folder: pathlib.Path, wanted: Callable[[os.DirEntry], bool]) -> Iterator[str]:
    """The names of the `wanted` entries of `folder` and of its thumbnails, but not of the folder of thumbnails."""
    if folder.is_dir():
        for entry in list(os.scandir(folder)):
            if entry.name == THUMBNAILS and entry.is_dir(follow_symlinks=False):
                yield from (f"{THUMBNAILS}/{inner.name}" for inner in list(os.scandir(entry)) if wanted(inner))
            elif wanted(entry):
                yield entry.name


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
