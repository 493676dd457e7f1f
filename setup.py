"""Puts configs/ into the wheel, and addresses into its readme; everything else is in pyproject.toml."""

import os
import pathlib
import re
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


def readme() -> str:
    """README.md as a package index shows it, where relative links lead nowhere.

    They lead to $SIAMJAX_REPOSITORY at $SIAMJAX_REVISION, such as https://github.com/OWNER/siamjax and v0.1.0, which
    the workflow that publishes sets. Without these, pictures are left out, and links are the words that they are on.
    """
    text = pathlib.Path("README.md").read_text(encoding="utf-8")
    repository, revision = os.environ.get("SIAMJAX_REPOSITORY", ""), os.environ.get("SIAMJAX_REVISION", "main")

    def absolute(link):
        picture, words, path = link.groups()
        if not repository:
            return "" if picture else words
        return f"{picture}[{words}]({repository}/{'raw' if picture else 'blob'}/{revision}/{path})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)\s]+)\)", absolute, text)


setup(
    cmdclass={"build_py": BuildWithConfigs},
    long_description=readme(),
    long_description_content_type="text/markdown",
)
