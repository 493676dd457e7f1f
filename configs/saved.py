"""The configuration of a run folder: `--config configs/saved.py:WORKDIR`, which launch.py chooses by itself."""

from siamjax.run import Run


def get_config(workdir: str):
    return Run(workdir).settings
