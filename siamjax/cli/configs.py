"""The configurations that come with siamjax, and the command `configs`, which lists them."""

import argparse
import ast
import json
import pathlib
from collections.abc import Callable

from siamjax.cli import images


def folder() -> pathlib.Path:
    """The folder of the configurations: the one that the wheel carries, or `configs` in a clone."""
    package = pathlib.Path(__file__).parents[1]
    carried = package / "carried" / "configs"
    return carried if carried.is_dir() else package.parent / "configs"


def names() -> dict[str, pathlib.Path]:
    """The configurations that can be trained: name -> file."""
    return {path.stem: path for path in sorted(folder().glob("*.py")) if path.stem != "saved"}


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command, and those that start from a configuration; `add` as in `siamjax.cli.GROUPS`."""
    # Listed here, run by siamjax.cli.training.
    add("train", _configs, "train a network by a configuration, or resume a run; then evaluate it")
    add("evaluate", _configs, "evaluate a run again, or on other data")
    add("configs", _configs, "list the configurations that `siamjax train` knows by name")


def _configs(options):
    about = {
        name: (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        for name, path in names().items()
    }
    if options.json:
        return print(json.dumps(about))
    for name, line in about.items():
        images.say(f"{name:24} {line}")
