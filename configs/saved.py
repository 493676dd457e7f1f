"""The configuration that a run folder holds: `--config configs/saved.py:WORKDIR`, which launch.py chooses by itself."""

import json
import pathlib

from configs import default


def get_config(workdir: str):
    config = default.get_config()
    config.update(json.loads((pathlib.Path(workdir) / "config.json").read_text()))
    return config
