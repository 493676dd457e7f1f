"""Finds image files with their identities: in a folder, in a table, or named one by one."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

from siamjax.data import images
from siamjax.data.types import Tell
from siamjax.files import named, shown, table


@dataclasses.dataclass(frozen=True)
class File:
    """An image file, or the name of an image in another storage, with its identity, group and source."""

    path: pathlib.Path
    identity: str
    group: str
    source: str


def find(place: str | os.PathLike, tell: Tell = print) -> list[File]:
    """The image files of a folder, or of a CSV file with the columns path and identity; group and source are optional.

    In a folder, each subfolder with images is an identity, named by its path from `place`; its parent, unless that is
    `place` itself, is its group. Each image is its own source. Names that begin with a dot are skipped. Links to
    folders are followed, but each folder is read once, and no parent of `place`. In a CSV file, paths are relative to
    it. Names of identities and groups are in Unicode's composed form (NFC).

    Args:
      place: the folder, or the CSV file.
      tell: called with a line on each kind of skipped file, on folders without images, and on identities that several
        folders share.

    Raises:
      FileNotFoundError: `place`, or a file that it lists, is missing.
      ValueError: `place` has no images, or is one, or the table lacks a column or a value.
    """
    place = pathlib.Path(place).expanduser()
    lines = []
    if place.is_dir():
        files, lines = _of_folder(place)
        lines += _shared(files)
    elif place.suffix.lower() in images.endings() and place.is_file():
        raise ValueError(f"{shown(place)} is an image; expected a folder of images, or a CSV file")
    elif place.is_file():
        files = _of_table(place)
    else:
        raise FileNotFoundError(f"{shown(place)} not found; expected a folder of images, or a CSV file")
    if not files:
        raise ValueError(
            f"{shown(place)} has no images; expected a folder for each identity with files such as .jpg, .png or "
            f".pgm{''.join(f'; {line}' for line in lines)}"
        )
    for line in lines:
        tell(line)
    return files


def of_paths(paths: Sequence[str | os.PathLike], identity: str | None = None, tell: Tell = print) -> list[File]:
    """The image files named by the arguments of a command: folders, as in `find`, and files.

    The identity of a single file is the name of its folder. Different folders of the same name, as in site1/ann/2.pgm
    and site2/ann/2.pgm, are distinguished by as much of their paths as necessary: site1/ann and site2/ann.

    Args:
      paths: folders and files; whether a file exists is not checked.
      identity: of all of them, in place of their folders.
      tell: see `find`; also called with a line on folders of the same name.

    Raises:
      ValueError: a folder has no images.
    """
    files, lines = [], []
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            files += find(path, lines.append)
        else:
            files.append(File(path, named(_folder(path).name), "", shown(path)))
    if identity is None:
        files, longer = _distinguished(files)
        if longer:
            lines.append(
                f"folders of the same name are different identities: {_some(longer)}; --identity makes them one"
            )
        lines += _shared(files)
    else:
        files = [dataclasses.replace(file, identity=named(identity)) for file in files]
    for line in dict.fromkeys(lines):
        tell(line)
    return files


def _distinguished(files: list[File]) -> tuple[list[File], list[str]]:
    """The files, with longer names for identities that several folders share; and the longer names."""
    names, longer = {}, set()
    for identity, folders in _folders_of(files).items():
        length, of_folder = identity.count("/") + 1, dict.fromkeys(folders, identity)
        while len(set(of_folder.values())) < len(folders) and length < max(len(folder.parts) for folder in folders):
            length += 1
            of_folder = {folder: named(pathlib.Path(*folder.parts[-length:])) for folder in folders}
        if len(set(of_folder.values())) < len(folders):
            of_folder = dict.fromkeys(folders, identity)
        longer |= set(of_folder.values()) - {identity}
        names |= of_folder
    return [dataclasses.replace(file, identity=names[_folder(file.path)]) for file in files], sorted(longer)


def _shared(files: list[File]) -> list[str]:
    """A line on each identity that several folders share."""
    return [
        f"{len(folders)} folders are one identity, {identity}: {_some(sorted(map(shown, folders)))}"
        for identity, folders in _folders_of(files).items()
        if len(folders) > 1
    ]


def _folders_of(files: list[File]) -> dict[str, set[pathlib.Path]]:
    folders = collections.defaultdict(set)
    for file in files:
        folders[file.identity].add(_folder(file.path))
    return folders


def _folder(path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(os.path.abspath(path)).parent


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _of_folder(place: pathlib.Path) -> tuple[list[File], list[str]]:
    """The files, sorted by folder and name, and a line on each kind of skipped file."""
    endings, files, others, lines = images.endings(), [], [], []
    folders, used = set(), set()
    for folder, names in _folders(place, lines):
        parts = pathlib.Path(folder).relative_to(place).parts
        group = named(pathlib.Path(*parts[:-1])) if len(parts) > 1 else ""
        identity = named(pathlib.Path(*parts) if parts else _folder(place / "file").name)
        folders.add(parts)
        for name in names:
            path = pathlib.Path(folder, name)
            if path.suffix.lower() in endings:
                files.append((parts, name, File(path, identity, group, shown(path))))
                used.add(parts)
            else:
                others.append(path)
    leaves = folders - {parts[:-1] for parts in folders if parts}
    empty = [shown(pathlib.Path(*parts)) for parts in sorted(leaves - used - {()})]
    return [file for *_, file in sorted(files, key=lambda found: found[:2])], [*lines, *_skipped(others, empty)]


def _folders(place: pathlib.Path, lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each folder in `place` with the names of its files: once, by its own path rather than by a link, and no parent of
    `place`. Adds `lines` on links that are not followed, and on folders that cannot be opened."""
    seen, waiting, links, closed = set(map(str, place.resolve().parents)), [place], [], []
    while waiting:
        later = []
        for start in waiting:
            for folder, inner, names in os.walk(start, onerror=closed.append):
                inner[:] = sorted(name for name in inner if not name.startswith("."))
                real = os.path.realpath(folder)
                if real in seen:
                    inner.clear()
                    links.append(shown(folder))
                    continue
                seen.add(real)
                later += [path for name in inner if os.path.islink(path := os.path.join(folder, name))]
                yield folder, [name for name in names if not name.startswith(".")]
        waiting = sorted(later)
    if links:
        lines.append(f"links to folders that are read anyway, or contain this one, are not followed: {_some(links)}")
    lines += [f"{shown(error.filename)} cannot be opened ({error.strerror}), and is skipped" for error in closed]


def _skipped(others: list[pathlib.Path], empty: list[str]) -> list[str]:
    """Lines on files that are not images by their endings, and on folders without images."""
    lines, endings = [], collections.Counter(path.suffix.lower() for path in others)
    if others:
        counts = sorted(
            ((count, shown(ending) or "without an ending") for ending, count in endings.items()), reverse=True
        )
        counts = [f"{count} {ending}" for count, ending in counts]
        lines.append(
            f"skipped {len(others)} files without the ending of an image: {_some(counts)}{images.hint(endings)}"
        )
    if empty:
        lines.append(f"{len(empty)} folders have no images, and are no identities: {_some(empty)}")
    return lines


def _of_table(place: pathlib.Path) -> list[File]:
    files, groups = [], {}
    for where, row in table(place, ("path", "identity"), "path,identity[,group][,source]"):
        if not row["path"] or not row["identity"]:
            raise ValueError(f"{where}: a path and an identity are required")
        path = place.parent / row["path"]
        if not path.is_file():
            raise FileNotFoundError(f"{where}: {shown(path)} not found")
        identity, group, source = named(row["identity"]), named(row.get("group") or ""), named(row.get("source") or "")
        if groups.setdefault(identity, group) != group:
            raise ValueError(
                f"{where}: {identity} is in group {group!r}, and before in {groups[identity]!r}; an identity has one "
                "group (use source for cameras and sessions)"
            )
        files.append(File(path, identity, group, source or shown(path)))
    return files
