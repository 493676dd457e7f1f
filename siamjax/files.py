"""User files: written completely or not at all, read as tables, and named in messages."""

import csv
import os
import pathlib
import unicodedata
from collections.abc import Iterator


def write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file that appears under its name only once it is complete on disk; creates its folder if needed.

    Raises:
      OSError: it cannot be written (the disk is full, ...); names the file, and leaves nothing half-written.
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
    """The rows of a CSV file with a header, each with its place, "FILE, line N"; `expected` describes the columns.

    Spaces around values are dropped and empty rows are skipped; values missing at the end of a row are "".

    Raises:
      ValueError: a column of `needed` is missing, or the header names one twice; a row, named by its line, has more
        values than columns or is not valid CSV.
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
        raise ValueError(f"{shown(path)}: {head.count(twice[0])} columns are named {twice[0]!r}; keep one of them")
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
            # CSV allows line breaks, but no path or name has one, and an unclosed quote would take in the rows that
            # follow.
            if any("\n" in value or "\r" in value for value in values):
                raise ValueError(f"{where}: a value continues on the next line; close the double quote that opens it")
            values = [value.strip() for value in values]
            if any(values):
                yield where, values


def shown(value: object) -> str:
    """A name for messages: bytes that are not UTF-8 are replaced."""
    return os.fsencode(str(value)).decode("utf-8", "replace")


def named(value: object) -> str:
    """The name of an identity or group: as `shown`, in Unicode's composed form (NFC), so that both ways to write "é"
    are one name."""
    text = str(value)
    return text if text.isascii() else unicodedata.normalize("NFC", shown(text))
