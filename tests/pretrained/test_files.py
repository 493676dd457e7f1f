"""Files of published weights: every format gives the same numbers, and a wrong or damaged file is one clear error."""

import functools
import io
import os
import pickle
import zipfile

import jax
import numpy as np
import pytest
import safetensors.numpy

from siamjax import encoders, pretrained
from siamjax.encoders import ARCHITECTURES, Architecture
from siamjax.encoders._residual import Residual


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    known = Architecture(functools.partial(Residual, blocks=(1, 1)), 128, 64, "nobody/tiny")
    monkeypatch.setitem(ARCHITECTURES, "tiny", known)


@pytest.fixture
def arrays():
    """By PyTorch's names and in its axes, as such files have them, with a classifier and counters."""
    encoder = encoders.Pretrained("tiny", 128)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    rng, found = np.random.default_rng(0), {"fc.weight": np.zeros((10, 128)), "fc.bias": np.zeros(10)}
    parts = {"scale": "weight", "mean": "running_mean", "var": "running_var", "bias": "bias"}
    for part in shapes.values():
        for layer, leaves in part["backbone"].items():
            for name, leaf in leaves.items():
                value = rng.normal(size=leaf.shape).astype(np.float32)
                if name == "kernel":
                    found[f"{layer}.weight"] = value.transpose(3, 2, 0, 1)
                else:
                    found[f"{layer}.{parts[name]}"] = value
                    found[f"{layer}.num_batches_tracked"] = np.int64(3)
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def test_kernels_and_statistics_are_where_the_names_say(arrays, tmp_path):
    np.savez(tmp_path / "w.npz", **arrays)
    variables = pretrained.load("tiny", tmp_path / "w.npz")
    kernel = variables["params"]["layer2.0.downsample.0"]["kernel"]
    np.testing.assert_array_equal(kernel[0, 0], arrays["layer2.0.downsample.0.weight"][:, :, 0, 0].T)
    assert variables["params"]["conv1"]["kernel"][6, 2, 1, 9] == arrays["conv1.weight"][9, 1, 6, 2]
    np.testing.assert_array_equal(variables["batch_stats"]["bn1"]["var"], arrays["bn1.running_var"])
    np.testing.assert_array_equal(variables["params"]["bn1"]["scale"], arrays["bn1.weight"])


def test_safetensors_and_npz_give_the_same(arrays, tmp_path):
    np.savez(tmp_path / "w.npz", **arrays)
    safetensors.numpy.save_file(arrays, tmp_path / "w.bin")  # Told by the content, not by the name.
    first, second = (pretrained.load("tiny", tmp_path / name) for name in ("w.npz", "w.bin"))
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_the_default_is_the_file_in_the_folder_of_weights(arrays, tmp_path, monkeypatch):
    monkeypatch.setenv(pretrained.FOLDER, str(tmp_path))
    np.savez(tmp_path / "tiny-abc.npz", **arrays)
    assert pretrained.load("tiny")["params"]["bn1"]["scale"][3] == arrays["bn1.weight"][3]
    np.savez(tmp_path / "tiny.npz", **arrays)
    with pytest.raises(ValueError, match=r"has tiny-abc.npz and tiny.npz, of which any could be 'tiny'"):
        pretrained.load("tiny")


def test_without_a_file_the_error_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("siamjax.pretrained._hub._PAUSE", 0.01)
    monkeypatch.delenv(pretrained.FOLDER, raising=False)
    with pytest.raises(
        FileNotFoundError, match=rf"^no file tiny\* of weights in {tmp_path}/siamjax/weights, and hf://nob"
    ):
        pretrained.load("tiny")


def change(arrays, key, value):
    if value is None:
        del arrays[key]
    else:
        arrays[key] = value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "bn1.weight",
            None,
            r"1 of its 30 tensors are missing, 0 are left over, 0 have other shapes \(bn1.weight: found",
        ),
        (
            "bn9.weight",
            np.zeros(3),
            r"0 of its 30 tensors are missing, 1 are left over.*bn9.weight: found \[3\], expected n",
        ),
        ("bn1.bias", np.zeros(3), r"1 have other shapes \(bn1.bias: found \[3\], expected \[64\]\)"),
        ("bn1.bias", np.full(64, np.nan), "bn1.bias holds NaN"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(arrays, tmp_path, key, value, message):
    change(arrays, key, value)
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(ValueError, match=message) as error:
        pretrained.load("tiny", tmp_path / "w.npz")
    assert str(error.value).startswith(f"{tmp_path}/w.npz: ")


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_damaged_file_is_refused(arrays, tmp_path, kind):
    path = tmp_path / f"w.{kind}"
    np.savez(path, **arrays) if kind == "npz" else safetensors.numpy.save_file(arrays, path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match=rf"^{path} cannot be read as weights \(.*download it again"):
        pretrained.load("tiny", path)


class Malicious:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (self.place,)


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_that_would_run_something_is_refused_and_does_not(tmp_path, new):
    content = pickle.dumps({"bn1.weight": Malicious(str(tmp_path / "made"))})
    if new:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", content)
        content = buffer.getvalue()
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"it asks for \w+.mkdir, which a file of tensors does not need"):
        pretrained.load("tiny", tmp_path / "w.pth")
    assert not (tmp_path / "made").exists()


def test_weights_of_an_encoder_without_published_ones_are_refused():
    with pytest.raises(ValueError, match=r"^weights='w.pth' are for encoders with published weights \(.*not 'conv5'"):
        pretrained.load("conv5", "w.pth")
