"""The command `crop`: photographs of people -> their faces, upright and of one size."""

import argparse
import collections
import concurrent.futures
import io
import json
import os
import pathlib
from collections.abc import Callable

from siamjax import files
from siamjax.cli import images


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command; `add` as in `siamjax.cli.GROUPS`."""
    crop = add("crop", _crop, "crop the photographs of a folder to their faces, upright, at the same place and scale")
    crop.add_argument("folder", help="its folders, and names of files, are kept")
    crop.add_argument("-o", "--output", required=True, metavar="FOLDER", help="new or empty; gets PNG files")
    crop.add_argument("--size", type=int, default=112, metavar="PIXELS", help="side of the crops; default: 112")


def _crop(options):
    from siamjax.data import finding
    from siamjax.progress import Progress

    place, output = pathlib.Path(options.folder), pathlib.Path(options.output)
    if options.size < 1:
        raise ValueError(f"--size={options.size} must be 1 or more")
    if not place.is_dir():
        raise FileNotFoundError(f"{files.shown(place)} not found, or not a folder")
    files.check_empty(output, "the faces")
    paths = [file.path for file in finding.find(place, images.note)]
    targets = _targets([path.relative_to(place.expanduser()) for path in paths], output)
    unreadable = 0
    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress("cropping faces", len(paths), hidden=options.json) as bar,
    ):
        for error in pool.map(_write, paths, targets, [options.size] * len(paths)):
            bar.advance(1)
            if error:
                unreadable += 1
                images.note(f"siamjax crop: {error}")
    cropped = len(paths) - unreadable
    if options.json:
        print(json.dumps({"output": options.output, "images": cropped, "skipped": unreadable}))
    else:
        images.say(f"{options.output}: {cropped} faces, {options.size} pixels a side; {unreadable} images skipped")
    return 2 if unreadable else 0


def _targets(names: list[pathlib.Path], output: pathlib.Path) -> list[pathlib.Path]:
    """a/1.jpg -> a/1.png; or a/1.jpg.png, if there is an a/1.tif, too."""
    short = [name.with_suffix(".png") for name in names]
    counts = collections.Counter(short)
    return [
        output / (each if counts[each] == 1 else name.with_name(f"{name.name}.png"))
        for name, each in zip(names, short, strict=True)
    ]


def _write(path: pathlib.Path, target: pathlib.Path, size: int) -> str:
    """Writes the face of a photograph; returns why there is none, or ""."""
    from PIL import Image

    from siamjax.data.images import read

    try:
        crop = read(path, size, 3, faces=True)
    except ValueError as error:
        return " ".join(str(error).split())
    content = io.BytesIO()
    Image.fromarray(crop).save(content, "PNG")
    files.write(target, content.getvalue())
    return ""
