"""The examples, for a few steps, on small data."""

import pathlib
import runpy
import sys

import numpy as np
import PIL.Image
import pytest

import siamjax

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs an example with arguments, in which `fit` takes `steps` steps: the lines that it prints."""
    fit = siamjax.fit

    def run(name, *arguments, steps):
        def short(*given, **options):
            return fit(*given, **options | {"steps": steps})

        for place in ("siamjax.fit", "siamjax.folds.fit"):
            monkeypatch.setattr(place, short)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


def test_every_example_is_short_and_says_how_to_run_it():
    for path in EXAMPLES.glob("*.py"):
        lines = [line for line in path.read_text().split('"""', 2)[2].splitlines() if line.strip()]
        assert len(lines) <= 25, path
        assert f"python examples/{path.name}" in path.read_text()


def test_own_encoder(run):
    *_, images, table = [line for line in run("own_encoder.py", steps=5) if "recall@1" in line]
    assert float(images.split()[-1][:-1]) > 80 and float(table.split()[-1][:-1]) > 90


def test_pairs(run):
    assert float(run("pairs.py", steps=60)[-1].split()[-1][:-1]) > 70


def test_own_loop(run):
    first, *_, last = (float(line.split()[-1]) for line in run("own_loop.py", steps=1))
    assert last < first


def test_folds(run, tmp_path):
    for person in range(9):
        (tmp_path / f"person {person}").mkdir()
        for number in range(3):
            pixels = np.random.default_rng(person).integers(0, 256, (20, 20), np.uint8) // (number + 1)
            PIL.Image.fromarray(pixels).save(tmp_path / f"person {person}" / f"{number}.png")
    with pytest.raises(ValueError, match="9 identities cannot be split into folds=5 parts; 10 are needed"):
        run("folds.py", tmp_path, steps=2)
