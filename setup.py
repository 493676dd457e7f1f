"""Puts configs/ into the wheel; everything else is in pyproject.toml."""

import pathlib
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """An installed siamjax has the configurations in its package; a clone, and an editable install, use the clone's."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            carried = pathlib.Path(self.build_lib, "siamjax", "carried", "configs")
            shutil.rmtree(carried, ignore_errors=True)  # An earlier build may have left what no longer exists.
            shutil.copytree("configs", carried, ignore=shutil.ignore_patterns("__pycache__"))


setup(cmdclass={"build_py": BuildWithConfigs})
