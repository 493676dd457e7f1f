"""The image files that a command's arguments name, and reading them."""

import concurrent.futures
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from siamjax import files

if TYPE_CHECKING:
    from siamjax.network import Network

_AT_ONCE = 1000  # images that are read, and kept in memory, at a time
HELP = "an image, a folder of images, or - for a list of them on standard input, one per line"


def find(paths: list[str], identity: str | None = "") -> tuple[list[str], list[str]]:
    """Image files and their identities: `identity`, or the names of their folders. "-" means the paths on standard
    input. Standard error gets a line about files that are skipped."""
    from siamjax.data import finding

    named = [path for argument in paths for path in (_listed() if argument == "-" else [argument])]
    found = finding.of_paths(named, identity, note)
    return [str(file.path) for file in found], [file.identity for file in found]


def of_one(paths: list[str]) -> list[str]:
    """Image files of one identity. Raises ValueError if a folder has images of several."""
    found = []
    for path in paths:
        of_path, identities = find([path], None)
        if os.path.isdir(path) and len(names := sorted(set(identities))) > 1:
            raise ValueError(
                f"{files.shown(path)} has images of {len(names)} identities ({names[0]}, {names[1]}, ...); name the "
                "folder of one"
            )
        found += of_path
    return found


def note(message: str) -> None:
    """Prints a line on standard error, apart from the answers."""
    print(files.shown(message), file=sys.stderr)


def say(message: str) -> None:
    """Prints a line with names, which may have characters that control a terminal."""
    print(files.shown(message))


def strange(command: str, which: str) -> None:
    """Warns that images are of another kind than the decision was fitted to; `which` is "a.jpg is", say."""
    note(
        f"siamjax {command}: {which} unlike the images that this network's threshold was fitted to (by brightness, "
        "contrast, detail or colour): the answer is meaningless"
    )


def _listed():
    """The paths on standard input: one per line, or each with a NUL byte behind, as `find -print0` writes them."""
    text = sys.stdin.buffer.read()
    lines = text.split(b"\0") if b"\0" in text else text.splitlines()
    if not any(lines):
        raise ValueError("standard input lists no image; expected one path per line")
    return [os.fsdecode(line) for line in lines if line]


def read(command: str, network: "Network", paths: list[str]) -> Iterator[list[tuple[str, Any, str | None]]]:
    """Reads image files for `network`, some at a time: lists of (path, image uint8 [h, w, c], None); or (path, None,
    error) for a file that cannot be read, which standard error gets a line about."""

    def one(path: str) -> tuple[str, Any, str | None]:
        try:
            return path, network.read([path])[0], None
        except (ValueError, OSError) as error:
            return path, None, " ".join(files.explained(error).split())

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            part = list(pool.map(one, paths[start : start + _AT_ONCE]))
            for _, _, error in part:
                if error:
                    note(f"siamjax {command}: {error}")
            yield part
