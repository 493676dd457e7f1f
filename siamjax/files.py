"""User files: written completely or not at all, read as tables, and named in messages."""

import contextlib
import csv
import errno
import io
import os
import pathlib
import re
import secrets
import stat
import unicodedata
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# Control characters, which move a terminal's cursor or change its colours, and those that change the order of letters.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_NO_TEXT = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")
# What file managers put into folders, and what a `write` that was killed leaves there.
_LEFT = re.compile(r"\.DS_Store|Thumbs\.db|.+\.[0-9a-f]{8}\.partial", re.DOTALL)


def write(path: pathlib.Path, content: bytes, private: bool = False) -> None:
    """Writes a file that appears under its name only once it is complete on disk; creates its folder if needed.

    A device or a pipe is written to as it is. Links are never followed: a link at `path` is replaced by the file.

    Args:
      path: of the file.
      content: of the file.
      private: whether only its owner may read it, whatever the umask says.

    Raises:
      OSError: it cannot be written (the disk is full, ...); names the file, and leaves nothing half-written.
    """
    check_writable(path)
    if _is_special(path):
        with path.open("wb") as file:
            file.write(content)
        return
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content, private)


def append(path: pathlib.Path, content: bytes) -> None:
    """Adds to the end of a file that exists; the content is on disk once this returns. Links are not followed.

    A process that is killed meanwhile, or a disk that fails twice, may leave a part of the content there.

    Raises:
      OSError: it cannot be written (the disk is full, ...); names the file, which is then as it was.
    """
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with _naming(path), open(os.open(path, flags), "ab", buffering=0) as file:
        size, left = os.fstat(file.fileno()).st_size, memoryview(content)
        try:
            while left:
                left = left[file.write(left) :]
            getattr(os, "fdatasync", os.fsync)(file.fileno())
        except BaseException:
            file.truncate(size)
            raise


@contextlib.contextmanager
def _naming(path):
    """Names the file in an OSError, in words that say what to do."""
    try:
        yield
    except OSError as error:
        raise type(error)(explained(type(error)(error.errno, error.strerror, str(path)))) from error


def _replace(path, content, private):
    # Of its own name, so that two writers of one file do not write into one another's.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        number = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        with open(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # Where none could be made, none can be removed.
            partial.unlink()
        raise


def check_writable(path: pathlib.Path) -> None:
    """Raises the OSError that `write` would raise, where that is known before there is a content: no work is lost."""
    if os.path.isdir(path):
        raise IsADirectoryError(f"{shown(path)} is a folder; name a file")
    if not _is_special(path) and (reason := obstacle(path.parent)):
        raise PermissionError(f"{shown(path)} cannot be written: {reason}; choose another folder")


def obstacle(folder: pathlib.Path) -> str:
    """Why no file can be made in `folder`, whether it is there or still to be made; "" if nothing is in the way."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not os.path.isdir(nearest):
        return f"{shown(nearest)} is a {'file' if os.path.exists(nearest) else 'link to nothing'}"
    return "" if os.access(nearest, os.W_OK | os.X_OK) else f"{shown(nearest)} is not writable"


def check_empty(folder: pathlib.Path, purpose: str) -> None:
    """Refuses a folder whose files those of `purpose`, such as "an export", would be mixed with.

    What file managers and killed writes leave in a folder does not count.

    Raises:
      PermissionError: nothing can be written there.
      ValueError: it is not empty.
    """
    if reason := obstacle(folder):
        raise PermissionError(f"{shown(folder)} cannot be written: {reason}; choose another folder")
    found = sorted(name for name in os.listdir(folder) if not _LEFT.fullmatch(name)) if os.path.isdir(folder) else []
    if found:
        some = f"{shown(found[0])!r}{', ...' if len(found) > 1 else ''}"
        raise ValueError(f"{shown(folder)} has other files in it ({some}); name a new or empty folder for {purpose}")


_NAME = 100  # characters of a name that is too long, in messages

# What the system says -> what it means for the user of a file.
_MEANINGS = {
    errno.ENOENT: "{} not found",
    errno.EEXIST: "{} exists already; choose another name",
    errno.EISDIR: "{} is a folder; name a file",
    errno.ENOTDIR: "{} is no folder, or below a file; name a folder",
    errno.EACCES: "{} may not be used by this user (permission denied); change its permissions, or choose another file",
    errno.EPERM: "{} may not be used by this user (operation not permitted); choose another file",
    errno.EROFS: "{} is not writable (the file system is read-only); choose another folder",
    errno.ENOSPC: "{} cannot be written (No space left on device); free some space, or choose another folder",
    errno.ENAMETOOLONG: "{} is too long as a name; choose a shorter one",
}


def explained(error: BaseException) -> str:
    """The message of an error; where it is the system's own ("[Errno 30] ..."), in words that say what to do."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    if error.filename is None:
        return error.strerror or str(error)
    meaning = _MEANINGS.get(error.errno, f"{{}} cannot be read or written ({error.strerror})")
    name = shown(os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename)
    if error.errno == errno.ENAMETOOLONG and len(name) > _NAME:
        name = f"{name[:_NAME]}..."
    return meaning.format(name)


def _is_special(path):
    """Whether a path is a device, a pipe, or the output of this process by its name, such as /dev/stdout."""
    if str(path).startswith(("/dev/", "/proc/")):
        return True
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def opened(path: str | os.PathLike) -> io.BufferedReader:
    """Opens a regular file to read. Pipes and devices are refused: reading from them may never end.

    Raises:
      OSError: it cannot be opened; FileNotFoundError if there is none.
      ValueError: it is not a regular file.
    """
    # O_NONBLOCK: a pipe would be waited for.
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise type(error)(explained(error)) from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise ValueError(f"{shown(path)} is not a regular file, but a folder, a pipe or a device; name a file")
    return open(number, "rb")


def read(path: str | os.PathLike, most: int = 2**30) -> bytes:
    """The content of a regular file; see `opened`. Raises ValueError, too, if it has more than `most` bytes."""
    with opened(path) as file:
        content = file.read(min(most, os.fstat(file.fileno()).st_size) + 1)
    if len(content) > most:
        raise ValueError(f"{shown(path)} has more than {most} bytes")
    return content


def member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The content of a file in a zip, never more than `most` bytes, whatever the zip says about its size.

    Raises:
      KeyError: there is no such file.
      ValueError: it has more bytes.
      BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, zlib.error: it is damaged, or cannot be read.
    """
    with archive.open(name) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{shown(name)} has more than {most} bytes")
    return content


def arrays(path: str | os.PathLike, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> "dict[str, np.ndarray]":
    """Arrays in an .npz file, as `numpy.savez` writes it; those of `optional` may be missing.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, is not such a file, or lacks an array; says why, but does not name the file.
    """
    import numpy as np  # Commands that need no array start without it.

    with opened(path) as file:
        try:
            sizes = [info.file_size for info in zipfile.ZipFile(file).infolist()]
            # Arrays are stored as they are: what would need more memory than the file has bytes is not ours.
            if sum(sizes) > os.fstat(file.fileno()).st_size:
                raise ValueError("it is compressed")
            file.seek(0)
            with np.load(file) as content:
                return {name: content[name] for name in (*names, *(set(optional) & set(content.files)))}
        except FileNotFoundError:
            raise
        except Exception as error:  # Whatever a damaged zip or array makes zipfile, zlib and NumPy raise.
            raise ValueError(str(error) or type(error).__name__) from error


def table(path: pathlib.Path, needed: tuple[str, ...], expected: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file with a header, each with its place, "FILE, line N"; `expected` describes the columns.

    Spaces around values are dropped and empty rows are skipped; values missing at the end of a row are "".

    Raises:
      ValueError: it is no text; a column of `needed` is missing, or the header names one twice; a row, named by its
        line, has more values than columns or is not valid CSV.
    """
    rows = _rows(path, expected)
    _, head = next(rows, ("", []))
    missing = [name for name in needed if name not in head]
    if missing:
        raise ValueError(
            f"{shown(path)}: column {missing[0]!r} is missing; expected {expected}, found "
            f"{shown(','.join(head)) or 'nothing'}"
        )
    twice = [name for name in head if name and head.count(name) > 1]
    if twice:
        raise ValueError(f"{shown(path)}: {head.count(twice[0])} columns are named {twice[0]!r}; keep one of them")
    for where, values in rows:
        if any(values[len(head) :]):
            raise ValueError(
                f"{where}: {len(values)} values for {len(head)} columns; put values that hold commas in double quotes"
            )
        values += [""] * (len(head) - len(values))
        yield where, dict(zip(head, values, strict=False))


def _rows(path, expected):
    """(place, values) of each row of a CSV file that has a value."""
    content = opened(path)
    with io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        if b"\0" in content.peek(1024):  # As in images, spreadsheets and UTF-16.
            raise ValueError(f"{shown(path)} is not a CSV file in UTF-8; expected one with the columns {expected}")
        reader = csv.reader(file, strict=True, skipinitialspace=True)
        while True:
            where = f"{shown(path)}, line {reader.line_num + 1}"
            try:
                values = next(reader, None)
            except csv.Error as error:
                raise ValueError(f"{where}: not valid CSV ({error}); check the double quotes from here on") from error
            if values is None:
                return
            # CSV allows line breaks, but no path or name has one, and an unclosed quote would take in the rows that
            # follow.
            if any("\n" in value or "\r" in value for value in values):
                raise ValueError(f"{where}: a value continues on the next line; close the double quote that opens it")
            values = [value.strip() for value in values]
            if any(values):
                yield where, values


def shown(value: object) -> str:
    """A name for messages: bytes that are not UTF-8 are replaced, and control characters are written as "\\x1b"."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    # Bytes of a path that are not in the system's encoding are among the surrogates; others are no text at all.
    text = _NO_TEXT.sub("\ufffd", text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def named(value: object) -> str:
    """The name of an identity or group: as `shown`, in Unicode's composed form (NFC), so that both ways to write "é"
    are one name."""
    return unicodedata.normalize("NFC", shown(value))
