"""The configuration of a run folder: `--config configs/saved.py:WORKDIR`, the default if the folder exists."""

from siamjax.run import Run


def get_config(workdir: str):
    return Run(workdir).settings
