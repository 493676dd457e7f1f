"""Runs on arrays in a file: the form of inputs is the run's, wherever the file is."""

import json
import shutil

import numpy as np
import pytest

import siamjax
from siamjax import data
from siamjax.evaluate import evaluate
from siamjax.run import Run, settings
from siamjax.train import train


def saved(path, dtype, width=8):
    """30 identities with four inputs each, 0..255."""
    rng, y = np.random.default_rng(0), np.arange(120) % 30
    x = (rng.uniform(20, 235, size=(30, width))[y] + rng.normal(size=(120, width))).round()
    np.savez(path, x=x.astype(dtype), y=y)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on float32, whose file is named by a relative path and gone since."""
    folder = tmp_path_factory.mktemp("arrays")
    config = settings.default()
    config.data.name, config.data.arrays.path = "arrays", "people.npz"
    config.encoder.update(name="mlp", width=16, embedding=8)
    config.augment.name, config.loss.name = "none", "ntxent"
    config.train.steps = config.train.validate_every = 4
    config.evaluation.update(trials=100, validation_trials=100, pairs=100, ways=4)
    config.batch.update(identities=8, per_identity=2, per_group=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        saved("people.npz", np.float32)
        train(config, folder / "run")
        (folder / "people.npz").unlink()
    return folder / "run", config


def test_a_network_is_loaded_without_the_file_and_saved_without_its_path(run, tmp_path):
    network = siamjax.Network.load(run[0])
    assert network.inputs.shape == (8,) and network.inputs.dtype == "float32"
    network.save(tmp_path)
    assert b"people.npz" not in (tmp_path / "network.safetensors").read_bytes()
    x = np.ones((3, 8), np.float32)
    np.testing.assert_array_equal(siamjax.Network.load(tmp_path).embed(x), network.embed(x))


def test_data_of_another_type_or_shape_is_neither_evaluated_nor_resumed_with(run, tmp_path):
    folder, given = run
    config = Run(folder).settings.copy_and_resolve_references()
    shutil.copytree(folder, tmp_path / "run")
    for dtype, width, found in ((np.uint8, 8, r"uint8 \[8\]"), (np.float32, 9, r"float32 \[9\]")):
        path = str(saved(tmp_path / "new.npz", dtype, width))
        for other in (config, given.copy_and_resolve_references()):
            other.data.arrays.path = path
            message = rf"was trained on inputs float32 \[8\], but data.name='arrays' has {found}"
            with pytest.raises(ValueError, match=message):
                evaluate(other, tmp_path / "run")
        with pytest.raises(ValueError, match=r"data\.arrays\.(dtype='float32'|shape=\[8\]), but the data has"):
            train(config, tmp_path / "run")
        with pytest.raises(ValueError, match=r"data\.arrays\.(dtype was float32|shape was \[8\])"):
            train(other, tmp_path / "run")


def test_a_run_is_the_same_with_or_without_the_form_in_its_settings(run, tmp_path):
    """Older runs lack it; the flags that started a run do, too."""
    folder, given = run
    given = given.copy_and_resolve_references()
    given.data.arrays.path = str(saved(tmp_path / "people.npz", np.float32))
    older = Run(folder).saved
    older["data"]["arrays"].update(shape=[], dtype="")
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "config.json").write_text(json.dumps(older))
    form = data.form(data.load(given.data)["test"])
    for place in (folder, tmp_path / "older"):
        for config in (given, settings.with_form(given, *form)):
            Run(place).check_resumable(config)
            assert set(Run(place).differences(config)) == {"data.folder.path"}


def test_what_fit_trained_in_a_folder_gets_its_threshold_by_training_again(tmp_path):
    """Its data is in no file that `siamjax evaluate` could read."""
    x = np.random.default_rng(0).normal(size=(80, 8))
    siamjax.fit(x, np.arange(80) % 20, steps=2, embedding=8, workdir=tmp_path / "run")
    with pytest.raises(ValueError, match=r"has no threshold, .* Train with some of yours held out, siamjax\.fit\(x, y"):
        _ = siamjax.Network.load(tmp_path / "run").decision
