"""The log of a gallery in a folder: images enrolled a few at a time, each addition a record at the end of one file.

The first line of the file is its name. A record is the length of its content (8 bytes), the CRC-32 of these (4 bytes),
the content, and its SHA-256. The content is the columns as JSON, a line break, and the embeddings as float32.

A last record that ends too early, or in zeros, is that of a writer that was killed or lost its power, and does not
count: file systems write a file in order, or leave zeros where a size was stored before the data. Anything else that
is not as it was written is damage. Nothing is added to a file with such a record, so that those who read it meanwhile
find one that only grows; the next addition makes another log.
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from siamjax import files
from siamjax.gallery import _own
from siamjax.gallery._types import COLUMNS

MOST = 256  # images of a log; with more, all go into a part
_HEAD = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_UNWRITTEN = bytes(hashlib.sha256().digest_size)

Columns = dict[str, list[str]]


@dataclasses.dataclass(frozen=True)
class Log:
    """The state of a log when it was last read or written; by default, that of a gallery without one.

    Attributes:
      file: its name.
      images: how many it holds.
      size: of the file, in bytes.
      end: the digest of its last record.
      complete: whether that is, so that another one can follow.
    """

    file: str = ""
    images: int = 0
    size: int = 0
    end: bytes = b""
    complete: bool = False

    def is_current(self, folder: pathlib.Path) -> bool:
        """Whether the file in `folder` is complete, and what it was.

        Records are only added to it, but one whose writer failed may have been read before it was cut off again.
        """
        path = folder / self.file
        if not self.complete or not path.is_file():
            return False
        with path.open("rb") as file:
            return (
                file.seek(0, os.SEEK_END) == self.size and file.seek(-len(self.end), 1) > 0 and file.read() == self.end
            )


def create(folder: pathlib.Path, embeddings: np.ndarray, columns: Columns) -> Log:
    """Writes a log of n images, with embeddings float32 [n, d] and columns of n texts; raises OSError if it cannot."""
    name = _own.log()
    content = _first_line(name) + _record(embeddings, columns)
    files.write(folder / name, content, private=True)
    return Log(name, len(embeddings), len(content), content[-len(_UNWRITTEN) :], complete=True)


def append(folder: pathlib.Path, log: Log, embeddings: np.ndarray, columns: Columns) -> Log:
    """Adds images, as in `create`, to a complete log; raises OSError if they cannot be written, and none is added."""
    record = _record(embeddings, columns)
    files.append(folder / log.file, record)
    images, size = log.images + len(embeddings), log.size + len(record)
    return dataclasses.replace(log, images=images, size=size, end=record[-len(_UNWRITTEN) :])


def read(folder: pathlib.Path, name: str) -> tuple[Log, np.ndarray, Columns]:
    """The log in a file, the embeddings of its images, [n, d], and their columns, which are yet to be checked.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError, KeyError, TypeError, AttributeError, RecursionError: it is damaged.
    """
    content = files.read(folder / name)
    first = _first_line(name)
    if not content.startswith(first):
        raise ValueError("its first line is not its name")
    records = list(_records(io.BytesIO(content[len(first) :])))
    if not records:  # The first one was written with the file.
        raise ValueError("it has no complete record")
    groups = [_parsed(record) for record in records]
    columns = {column: [text for _, texts in groups for text in texts[column]] for column in COLUMNS}
    embeddings = np.concatenate([embeddings for embeddings, _ in groups])
    whole = len(first) + sum(_HEAD.size + len(record) + len(_UNWRITTEN) for record in records)
    log = Log(name, len(embeddings), len(content), content[-len(_UNWRITTEN) :], complete=whole == len(content))
    return log, embeddings, columns


def _first_line(name: str) -> bytes:
    return f"{name}\n".encode()


def _record(embeddings, columns):
    content = json.dumps(columns).encode() + b"\n" + np.ascontiguousarray(embeddings, "<f4").tobytes()
    length = _LENGTH.pack(len(content))
    return _HEAD.pack(len(content), zlib.crc32(length)) + content + hashlib.sha256(content).digest()


def _records(file: io.BytesIO) -> Iterator[bytes]:
    """The contents of complete records; raises ValueError if one is damaged."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        length, check = _HEAD.unpack(head)
        if check != zlib.crc32(_LENGTH.pack(length)):
            if any(file.read()):
                raise ValueError("the length of a record has changed")
            return
        content, digest = file.read(length), file.read(len(_UNWRITTEN))
        if len(digest) < len(_UNWRITTEN):
            return
        expected = hashlib.sha256(content).digest()
        if digest != expected:
            written = digest.rstrip(b"\0")
            if file.read(1) or (written and not expected.startswith(written)):
                raise ValueError("the content of a record has changed")
            return
        yield content


def _parsed(content):
    columns, _, embeddings = content.partition(b"\n")
    columns = json.loads(columns)
    return np.frombuffer(embeddings, "<f4").reshape(len(columns["identity"]), -1), columns
