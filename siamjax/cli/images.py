"""The image files that the arguments of a command name, and those of them that can be read."""

import concurrent.futures
import os
import pathlib
import sys
from collections.abc import Iterator

_AT_ONCE = 1000  # images that are read, and held in memory, at a time
HELP = "an image, a folder of images, or - for a list of them on standard input, one a line"


def find(paths: list[str]) -> tuple[list[str], list[str]]:
    """Image files and the identity that each one's folder says; "-" stands for the paths on standard input."""
    from siamjax.data import folder

    images, identities = [], []
    for path in [path for given in paths for path in (_listed() if given == "-" else [given])]:
        if os.path.isdir(path):
            found = folder.find(path)
            images += [str(file.path) for file in found]
            identities += [file.identity for file in found]
        else:
            images.append(path)
            identities.append(pathlib.Path(os.path.abspath(path)).parent.name)
    return images, identities


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
