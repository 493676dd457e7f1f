"""What the figures of an evaluation are of, and the folder where they belong."""

import itertools
import json
import os
import pathlib
import re

import ml_collections

from siamjax import report

# What figures depend on, apart from the weights; but not on these.
_JUDGED = ("data.", "augment.", "encoder.", "head.", "evaluation.")
_UNJUDGED = ("data.data_dir", "data.manual_dir", "data.stream")


def title(config: ml_collections.ConfigDict, workdir: pathlib.Path, step: int) -> str:
    """Of a table: run, step, which checkpoint that is, and data."""
    keep = json.loads((workdir / "config.json").read_text())["train"].get("keep", "best")
    return f"{workdir}: step {step}, the {keep} checkpoint, on {data_name(config)}"


def about(config: ml_collections.ConfigDict, workdir: pathlib.Path, part: str, step: int | None = None) -> str:
    """Of a picture: run, step, and which part of which data."""
    at = "" if step is None else f", step {step}"
    return f"run {workdir.absolute().name}{at}; {part} data of {data_name(config)}"


def data_name(config: ml_collections.ConfigDict) -> str:
    """What the data is called: the folder's name, TFDS's, or the source's."""
    names = {"folder": pathlib.Path(config.data.folder.path).name, "tfds": config.data.tfds.name}
    names["omniglot"] = f"omniglot ({config.data.splits})"
    return names.get(config.data.name, config.data.name)


def folder_of(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
    """Where the figures of `config` belong: the run folder, or one in its evaluations/ that is named after what differs
    from the run's training, and says so."""
    now = json.loads(config.to_json())
    differing = _differing(json.loads((workdir / "config.json").read_text()), now)
    if not differing:
        return workdir
    parts = [pathlib.Path(value).name if key == "data.name" else f"{key}={value}" for key, value in differing.items()]
    name = re.sub(r"[^\w.,=+-]", "_", ",".join(parts))[:100]
    for number in itertools.count(1):
        folder = workdir / "evaluations" / (name if number == 1 else f"{name}-{number}")
        path = folder / "results_config.json"
        if not path.exists() or not _differing(json.loads(path.read_text()), now):
            report.note(f"{', '.join(differing)} differ(s) from the run's training: the figures go to {folder}")
            return folder


def _differing(before, now):
    """{key: value now}, the data's name first, of the settings on which figures depend. What an older version did not
    know of is left out."""
    before, now = _judged(before), _judged(now)
    return {key: now.get(key) for key, value in before.items() if value != now.get(key)}


def _judged(tree):
    settings = flat(tree)
    path = settings.pop("data.folder.path", "")
    # One folder differs from another by its path, the other sources by their names.
    source = os.path.abspath(path) if settings["data.name"] == "folder" else settings["data.name"]
    settings = {"data.name": source} | {**settings, "data.name": source}
    return {key: value for key, value in settings.items() if key.startswith(_JUDGED) and key not in _UNJUDGED}


def flat(tree: dict, prefix: str = "") -> dict:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    settings = {}
    for key, value in tree.items():
        settings |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return settings
