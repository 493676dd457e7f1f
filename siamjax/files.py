"""Files of the user's: written whole or not at all, read as tables, and named in messages."""

import csv
import os
import pathlib
import unicodedata
from collections.abc import Iterator


def write(path: pathlib.Path, content: bytes) -> None:
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

    Blanks around values are dropped, and rows without a value are passed over; a value that is left out at the end of a
    row is "".

    Raises:
      ValueError: a column of `needed` is missing, or the head names a column twice; by its line, a row with more values
        than columns, or one whose quotes are not as CSV has them.
    """
    rows = _rows(path)
    _, head = next(rows, ("", []))
    missing = [name for name in needed if name not in head]
    if missing:
        raise ValueError(
            f"{shown(path)}: column {missing[0]!r} is missing; expected {expected}, found "
            f"{shown(','.join(head)) or 'nothing'}"
        )
    twice = [name for name in head if name and head.count(name) > 1]
    if twice:
        raise ValueError(f"{shown(path)}: {head.count(twice[0])} columns are called {twice[0]!r}; keep one of them")
    for where, values in rows:
        if any(values[len(head) :]):
            raise ValueError(
                f"{where}: {len(values)} values for {len(head)} columns; put values that hold commas in double quotes"
            )
        values += [""] * (len(head) - len(values))
        yield where, dict(zip(head, values, strict=False))


def _rows(path):
    """(place, values) of each row of a CSV file that has a value."""
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(file, strict=True, skipinitialspace=True)
        while True:
            where = f"{shown(path)}, line {reader.line_num + 1}"
            try:
                values = next(reader, None)
            except csv.Error as error:
                raise ValueError(f"{where}: not valid CSV ({error}); check the double quotes from here on") from error
            if values is None:
                return
            # CSV allows it, but no path or name has one, and a quote that is left open takes in the rows that follow.
            if any("\n" in value or "\r" in value for value in values):
                raise ValueError(f"{where}: a value goes on in the next line; close the double quote that opens it")
            values = [value.strip() for value in values]
            if any(values):
                yield where, values


def shown(value: object) -> str:
    """For messages: a name that is no UTF-8 with its odd bytes replaced."""
    return os.fsencode(str(value)).decode("utf-8", "replace")


def named(value: object) -> str:
    """What an identity or group is called: as `shown`, in Unicode's composed form (NFC), so that the two ways to write
    "é" are one name."""
    text = str(value)
    return text if text.isascii() else unicodedata.normalize("NFC", shown(text))
