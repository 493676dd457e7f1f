"""The notebooks run from top to bottom, with few steps, and say what they promise."""

import pathlib
import re

import compiling
import pytest

nbclient = pytest.importorskip("nbclient", reason="pip install 'siamjax[docs]'")
nbformat = pytest.importorskip("nbformat")

NOTEBOOKS = pathlib.Path(__file__).parents[1] / "docs" / "notebooks"


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """Executes a notebook with other parameters in a process of its own, on one device: what it prints."""
    monkeypatch.setenv("XLA_FLAGS", compiling.for_child())

    def executed(name, **parameters):
        notebook = nbformat.read(NOTEBOOKS / name, 4)
        (given,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
        given.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
        nbclient.NotebookClient(notebook, timeout=1500, resources={"metadata": {"path": tmp_path}}).execute()
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        return "".join(output.text for output in outputs if output.get("name") == "stdout")

    return executed


def shares(text, label):
    """The percentages in the lines that start with `label`, in their order."""
    return [float(found) for found in re.findall(rf"^{label}.*?([\d.]+) ?%", text, re.MULTILINE)]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path):
    """What they show cannot be older than the code, and changes of theirs can be read."""
    for cell in nbformat.read(path, 4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_losses_and_miners_in_ones_own_loop(executed):
    printed = executed("own_loop.ipynb", STEPS=100)
    near, far = (float(x) for x in re.search(r"semi-hard:.*at ([\d.]+),.*at ([\d.]+)", printed).groups())
    assert near < far
    assert min(shares(printed, "softmax:") + shares(printed, "mined triplets:")) > 85


@pytest.mark.slow
def test_ones_own_photographs(executed, tmp_path):
    printed = executed("photographs.ipynb", STEPS=10)
    assert shares(printed, "auc")[0] > 70
    assert shares(printed, "most similar")[0] > 40  # of 23; guessing is right in 4 %


@pytest.mark.slow
def test_omniglot_in_five_minutes(executed, omniglot_dirs):
    data, archives = omniglot_dirs
    printed = executed("omniglot.ipynb", DATA=data, ARCHIVES=archives, STEPS=40, TRIALS=200)
    assert shares(printed, "20-way one-shot accuracy:")[0] > 80
    assert shares(printed, "20-way one-shot accuracy after")[0] > 25
