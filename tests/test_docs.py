"""The documents: links and commands that exist."""

import argparse
import pathlib
import re

import pytest

from siamjax import cli

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands():
    """The names of all commands."""
    names = ["train", "evaluate"]
    for add_commands in cli.GROUPS:
        add_commands(lambda name, run, about: names.append(name) or argparse.ArgumentParser())
    return names


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(found), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_configurations_exist(page):
    text = page.read_text()
    for name in re.findall(r"siamjax train (\w+)(?![\w./])", text) + re.findall(r"configs/(\w+)\.py", text):
        assert (ROOT / "configs" / f"{name}.py").exists() or name in ("NAME", "CONFIG"), f"{page.name}: {name}"
    shell = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    for name in re.findall(r"^(?:\S*/)?siamjax ([a-z]+)", shell, re.MULTILINE):
        assert name in commands(), f"{page.name}: siamjax {name}"
    for name in re.findall(r"python benchmarks/(\w+)\.py", text):
        assert (ROOT / "benchmarks" / f"{name}.py").exists(), f"{page.name}: {name}"


def test_the_readme_fits_on_a_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
