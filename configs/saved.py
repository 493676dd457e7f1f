"""The configuration of a run folder: `--config configs/saved.py:WORKDIR`, which launch.py chooses by itself."""

import json
import pathlib

from configs import default


def get_config(workdir: str):
    path = pathlib.Path(workdir) / "config.json"
    config = default.get_config()
    try:
        config.update(json.loads(path.read_text()))
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise ValueError(
            f"{path} is no configuration of this version ({error}); give it by --config, or name another --workdir"
        ) from None
    return config
