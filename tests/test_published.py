"""Published weights in use: a network without training, and training that starts from them."""

import functools
import json
import os
import pathlib

import jax
import numpy as np
import optax
import pytest
import sklearn.datasets
from PIL import Image

import siamjax
from siamjax import Gallery, Network, cli, encoders, pretrained
from siamjax.encoders import ARCHITECTURES, Architecture
from siamjax.encoders._inverted import Inverted

QUICK = dict(encoder="tiny", steps=2, identities=4, per_identity=2, embedding=8)


@pytest.fixture(scope="module", autouse=True)
def tiny():
    known = Architecture(functools.partial(Inverted, stages=((2, 8, 1, 2, 3),)), 1280, 64, "nobody/tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", known)
        patch.setitem(encoders.ENCODERS, "tiny", functools.partial(encoders.Pretrained, "tiny"))
        yield


@pytest.fixture(scope="module")
def data():
    """Eight identities of three photographs each: noise of a colour."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, size=(8, 1, 1, 1, 3))
    images = np.clip(colours + rng.normal(0, 40, size=(8, 3, 64, 64, 3)), 0, 255).astype(np.uint8)
    return images.reshape(24, 64, 64, 3), np.repeat(np.arange(8), 3)


@pytest.fixture(scope="module")
def weights(tiny, data, tmp_path_factory):
    """A file of the tiny architecture with random weights, as `Network.save` writes it."""
    folder = tmp_path_factory.mktemp("start")
    siamjax.fit(*data, **{**QUICK, "steps": 1}, seed=5).save(folder)
    return folder / "network.safetensors"


def published(network):
    return {part: network.variables["encoder"][part]["backbone"] for part in ("params", "batch_stats")}


def equal(one, other):
    return jax.tree.all(jax.tree.map(lambda a, b: bool(np.allclose(a, b, atol=1e-30)), one, other))


def test_an_architecture_is_a_network_without_training(weights, data, tmp_path, monkeypatch, capsys):
    (tmp_path / "folder").mkdir()
    os.link(weights, tmp_path / "folder" / "tiny.safetensors")
    monkeypatch.setenv(pretrained.FOLDER, str(tmp_path / "folder"))
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(6)]
    paths[0].parent.mkdir()
    for path, image in zip(paths, data[0], strict=False):
        Image.fromarray(image).save(path)

    network = Network.load("tiny")
    assert network.embed(network.read(paths)).shape == (6, 1280) and network.metric == "cosine"
    gallery = Gallery(tmp_path / "gallery", network)
    gallery.enroll(paths[:5], [path.stem for path in paths[:5]])
    (found,) = Gallery(tmp_path / "gallery").search(network.read(paths[5:]), k=2)  # By its name alone.
    assert {match.identity for match in found} == {"3", "4"}  # Of the same colour.
    assert all(np.isnan(match.probability) for match in found)
    assert cli.main(["search", str(tmp_path / "gallery"), str(paths[5]), "-k", "1"]) == 0
    assert "%" not in capsys.readouterr().out
    assert cli.main(["search", str(tmp_path / "gallery"), str(paths[5]), "-k", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["probability"] is None
    # Nobody fitted a threshold, and none is invented.
    assert cli.main(["verify", "tiny", *map(str, paths[:2])]) == 2
    assert "tiny has no threshold for copies=0; train it with validation=" in capsys.readouterr().err

    network.save(tmp_path / "saved")
    saved = Network.load(tmp_path / "saved")
    assert saved.fingerprint == network.fingerprint == Network.load("tiny", weights=weights).fingerprint


def test_weights_are_of_architectures_only(weights):
    with pytest.raises(
        ValueError, match="^weights=.* are for an architecture .*omniglot-fast is a network that has its"
    ):
        Network.load("omniglot-fast", weights=weights)


def test_frozen_layers_stay_and_the_layer_after_them_learns(weights, data):
    start = pretrained.load("tiny", weights)
    network = siamjax.fit(*data, **QUICK, weights=weights, frozen=True)
    assert equal(published(network), start)
    same = siamjax.fit(*data, **QUICK, weights=weights, frozen=True, optimizer=optax.sgd(0.0))
    last = [each.variables["encoder"]["params"]["last"]["kernel"] for each in (network, same)]
    assert equal(published(same), start) and np.abs(last[0] - last[1]).max() > 1e-5


def test_layers_that_are_not_frozen_start_from_the_weights_and_move(weights, data, tmp_path):
    start, moved_away = pretrained.load("tiny", weights), tmp_path / "w.safetensors"
    os.link(weights, moved_away)
    network = siamjax.fit(*data, **QUICK, weights=moved_away, workdir=tmp_path / "run")
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), published(network)["params"], start["params"])
    assert 0 < max(jax.tree.leaves(moved)) < 0.05
    moved_away.unlink()  # The run has its own.
    np.testing.assert_array_equal(Network.load(tmp_path / "run").embed(data[0]), network.embed(data[0]))


def test_frozen_needs_weights(data):
    with pytest.raises(ValueError, match="^encoder.frozen=True keeps the weights that encoder.weights names"):
        siamjax.fit(*data, **QUICK, frozen=True)


def test_imagenets_mobilenet_v2_sees_a_temple():
    """The real weights, with their classifier, on a photograph of the Summer Palace."""
    folder = pathlib.Path(os.environ.get(pretrained.FOLDER, pathlib.Path(__file__).parents[2] / "shared" / "data"))
    file = folder / "mobilenet_v2_imagenet.npz"
    if not file.is_file():
        pytest.skip(f"no {file.name} in {folder}: set {pretrained.FOLDER} to the folder of torchvision's weights")
    photograph = sklearn.datasets.load_sample_image("china.jpg")[:, :427]
    network = Network.load("mobilenet_v2", weights=file)
    features = network.embed(np.asarray(Image.fromarray(photograph).resize((224, 224)))[None])
    with np.load(file) as arrays:
        logits = features @ arrays["classifier.1.weight"].T + arrays["classifier.1.bias"]
    buildings = {442: "bell cote", 663: "monastery", 687: "obelisk", 698: "palace", 832: "stupa"}
    assert set(np.argsort(-logits[0])[:3]) <= buildings.keys()
