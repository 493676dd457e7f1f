"""Files of the user's: written whole or not at all, read as tables, and named in messages."""

import csv
import os
import pathlib
from collections.abc import Iterator


def write(path: pathlib.Path, content: bytes):
    """Writes a file that has its name only when all of it is on disk; its folder is made if need be.

    Raises:
      OSError: it cannot be written (the disk is full, ...), by its name; nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def table(path: pathlib.Path, needed: tuple[str, ...], expected: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file with a head, each with its place, "FILE, line N"; `expected` describes the columns.

    Raises:
      ValueError: a column of `needed` is missing.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.DictReader(file, restkey="more")
        found = reader.fieldnames or ()
        missing = [name for name in needed if name not in found]
        if missing:
            raise ValueError(
                f"{shown(path)}: column {missing[0]!r} is missing; expected {expected}, found "
                f"{','.join(found) or 'nothing'}"
            )
        for row in reader:
            yield f"{shown(path)}, line {reader.line_num}", row


def shown(value) -> str:
    """For messages: a name that is no UTF-8 with its odd bytes replaced."""
    return os.fsencode(str(value)).decode("utf-8", "replace")
