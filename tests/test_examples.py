"""The examples, for a few steps, on small data."""

import pathlib
import runpy
import sys

import numpy as np
import PIL.Image
import pytest

import siamjax

pytestmark = pytest.mark.thorough

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs an example with arguments, in which `fit` takes `steps` steps, of 3 folds: the lines that it prints."""
    fit, cross_validate = siamjax.fit, siamjax.cross_validate

    def run(name, *arguments, steps):
        def short(*given, **options):
            return fit(*given, **options | {"steps": steps})

        for place in ("siamjax.fit", "siamjax.folds.fit"):
            monkeypatch.setattr(place, short)

        def in_three(*given, **options):
            return cross_validate(*given, **options | {"folds": 3})

        monkeypatch.setattr("siamjax.cross_validate", in_three)
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


def photographs(folder, people):
    """Three photographs of each person, of the same shapes, with noise."""
    for person in range(people):
        (folder / f"person {person}").mkdir()
        for number in range(3):
            shapes = np.random.default_rng(person).integers(0, 200, (7, 7), np.uint8).repeat(8, 0).repeat(8, 1)
            noise = np.random.default_rng([person, number]).integers(0, 50, shapes.shape, np.uint8)
            PIL.Image.fromarray(shapes + noise).save(folder / f"person {person}" / f"{number}.png")
    return folder


def test_folds(run, tmp_path):
    lines = run("folds.py", photographs(tmp_path, 9), steps=2)
    shown = {line.split()[0]: float(line.split()[1][:-1]) for line in lines if "±" in line}
    assert {"accuracy", "auc", "eer"} <= shown.keys() and shown["auc"] > 75
