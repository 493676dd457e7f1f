"""The image files that the arguments of a command name, and those of them that can be read."""

import concurrent.futures
import os
import sys
from collections.abc import Iterator

_AT_ONCE = 1000  # images that are read, and held in memory, at a time
HELP = "an image, a folder of images, or - for a list of them on standard input, one a line"


def find(paths: list[str], identity: str | None = "") -> tuple[list[str], list[str]]:
    """Image files and their identities: `identity`, or what their folders are called; "-" stands for the paths on
    standard input. What was skipped is said on standard error."""
    from siamjax.data import finding

    given = [path for given in paths for path in (_listed() if given == "-" else [given])]
    found = finding.of_paths(given, identity, note)
    return [str(file.path) for file in found], [file.identity for file in found]


def note(message: str):
    """Prints a line on standard error, out of the way of answers."""
    print(message, file=sys.stderr)


def _listed():
    """The paths on standard input: one a line, or ended by NUL bytes, as `find -print0` writes them."""
    text = sys.stdin.buffer.read()
    lines = text.split(b"\0") if b"\0" in text else text.splitlines()
    if not any(lines):
        raise ValueError("standard input lists no image; expected one path a line")
    return [os.fsdecode(line) for line in lines if line]


def read(command: str, verifier, paths: list[str]) -> Iterator[list[tuple[str, object, str | None]]]:
    """Reads image files with `verifier`, some at a time: lists of (path, image uint8 [h, w, c], None), or
    (path, None, what is wrong) where one cannot be read, which is also said on standard error."""

    def one(path):
        try:
            return path, verifier.read([path])[0], None
        except (ValueError, OSError) as error:
            return path, None, " ".join(str(error).split())

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            part = list(pool.map(one, paths[start : start + _AT_ONCE]))
            for _, _, error in part:
                if error:
                    print(f"siamjax {command}: {error}", file=sys.stderr)
            yield part
