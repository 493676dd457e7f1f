"""The configuration that a run folder holds: `--config configs/saved.py:WORKDIR`, which launch.py chooses by itself."""

import json
import pathlib

import ml_collections


def get_config(workdir: str):
    return ml_collections.ConfigDict(json.loads((pathlib.Path(workdir) / "config.json").read_text()))
