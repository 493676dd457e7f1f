"""Published weights in use: a network without training, and training that starts from them."""

import functools
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets
from flax import linen as nn
from PIL import Image

import siamjax
from siamjax import Gallery, Network, cli, encoders, pretrained
from siamjax.encoders import ARCHITECTURES, Architecture
from siamjax.encoders._convolution import Method
from siamjax.encoders._layers import convolved
from siamjax.run import settings
from siamjax.train import train

QUICK = dict(encoder="tiny", steps=2, identities=4, per_identity=2, embedding=8)
SMALL = 1e-40  # Added to 0, it becomes 0 on a CPU. ImageNet's MobileNetV2 has variances like it.


class Tiny(nn.Module):
    """One convolution with batch statistics, in place of the dozens of an architecture."""

    dtype: Any = jnp.float32
    convolution: Method = "auto"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train):
        x = convolved(self, x, train, ("conv", "bn"), 16, side=3, stride=4)
        return nn.relu(x).mean(axis=(1, 2))


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", Architecture(Tiny, 16, 32, "nobody/tiny"))
        patch.setitem(encoders.ENCODERS, "tiny", functools.partial(encoders.Pretrained, "tiny"))
        yield


@pytest.fixture(scope="module")
def data():
    """Eight identities of three photographs each: noise of a colour."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, size=(8, 1, 1, 1, 3))
    images = np.clip(colours + rng.normal(0, 40, size=(8, 3, 32, 32, 3)), 0, 255).astype(np.uint8)
    return images.reshape(24, 32, 32, 3), np.repeat(np.arange(8), 3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of the tiny architecture with random weights, by the names of PyTorch."""
    rng, file = np.random.default_rng(5), tmp_path_factory.mktemp("start") / "weights.npz"
    shapes = {"conv.weight": (16, 3, 3, 3), "bn.bias": 16, "bn.running_mean": 16}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {name: rng.uniform(0.5, 1.5, 16).astype(np.float32) for name in ("bn.weight", "bn.running_var")}
    arrays["conv.weight"][3, 1, 2, 0] = arrays["bn.running_mean"][2] = arrays["bn.running_var"][2] = SMALL
    np.savez(file, **arrays)
    return file


def published(network):
    return {part: network.variables["encoder"][part]["backbone"] for part in ("params", "batch_stats")}


def equal(one, other):
    """Whether all numbers of two trees are equal to the bit."""
    return jax.tree.all(jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), one, other))


def test_an_architecture_is_a_network_without_training(weights, data, tmp_path, monkeypatch, capsys):
    (tmp_path / "folder").mkdir()
    os.link(weights, tmp_path / "folder" / "tiny.npz")
    monkeypatch.setenv(pretrained.FOLDER, str(tmp_path / "folder"))
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(6)]
    paths[0].parent.mkdir()
    for path, image in zip(paths, data[0], strict=False):
        Image.fromarray(image).save(path)

    network = Network.load("tiny")
    assert network.embed(network.read(paths)).shape == (6, 16) and network.metric == "cosine"
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
    assert "tiny has no threshold, above which two inputs are the same" in capsys.readouterr().err

    network.save(tmp_path / "saved")
    saved = Network.load(tmp_path / "saved")
    assert saved.fingerprint == network.fingerprint == Network.load("tiny", weights=weights).fingerprint
    assert equal(pretrained.load("tiny", tmp_path / "saved" / "network.safetensors"), pretrained.load("tiny"))


def test_weights_are_of_architectures_only(weights):
    with pytest.raises(
        ValueError, match="^weights=.* are for an architecture .*omniglot-fast is a network that has its"
    ):
        Network.load("omniglot-fast", weights=weights)


@pytest.mark.parametrize("chunk", [0, 1])
def test_frozen_layers_stay_to_the_bit_and_the_layer_after_them_learns(weights, data, chunk):
    """In chunks, too: three of one image on each of eight devices, and the mean of three equal numbers is rounded."""
    start, given = pretrained.load("tiny", weights), {**QUICK, "identities": 8, "per_identity": 3, "chunk": chunk}
    network = siamjax.fit(*data, **given, weights=weights, frozen=True)
    assert equal(published(network), start)
    kernel = network.variables["encoder"]["params"]["last"]["kernel"]
    assert np.abs(kernel.T @ kernel - np.eye(8)).max() > 1e-5  # It started orthogonal.


def test_layers_that_are_not_frozen_start_from_the_weights_and_move(weights, data, tmp_path):
    start, moved_away = pretrained.load("tiny", weights), tmp_path / "w.npz"
    os.link(weights, moved_away)
    network = siamjax.fit(*data, **QUICK, weights=moved_away, workdir=tmp_path / "run")
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), published(network)["params"], start["params"])
    assert 0 < max(jax.tree.leaves(moved)) < 0.05
    assert equal(published(network)["batch_stats"], start["batch_stats"])
    moved_away.unlink()  # The run has its own.
    np.testing.assert_array_equal(Network.load(tmp_path / "run").embed(data[0]), network.embed(data[0]))


def test_a_configuration_names_the_weights_to_start_from(weights, data, tmp_path):
    """And a run has its own copy of what became of them."""
    np.savez(tmp_path / "colours.npz", x=data[0], y=np.arange(24) // 2)
    config = settings.default()
    config.data.name, config.data.arrays.path = "arrays", str(tmp_path / "colours.npz")
    config.encoder.update(name="tiny", weights=str(weights), frozen=True, embedding=8)
    config.batch.update(identities=4, per_identity=2, across_groups=True)
    config.train.update(steps=2, validate_every=2, log_every=2)
    config.evaluation.update(trials=20, validation_trials=20, pairs=20, across_groups=True)
    train(config, tmp_path / "run")
    assert equal(published(Network.load(tmp_path / "run")), pretrained.load("tiny", weights))
    with pytest.raises(FileNotFoundError, match="^weights=.*none.npz' is not there: name a file"):
        config.encoder.weights = str(tmp_path / "none.npz")
        train(config, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("frozen", [True, False])
def test_both_towers_start_from_the_weights(weights, data, tmp_path, frozen):
    images = data[0]
    pairs = siamjax.Pairs(images[:16], 255 - images[8:], np.arange(16) % 2)
    given = {"encoder": "tiny", "weights": weights, "frozen": frozen, "towers": 2, "pairs": 8, "embedding": 8}
    network = siamjax.fit(pairs, **given, steps=2)
    start, sides = pretrained.load("tiny", weights), [network.tower(side) for side in (0, 1)]
    for side in sides:
        if frozen:
            assert equal(published(side), start)
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), published(side)["params"], start["params"])
        assert (max(jax.tree.leaves(moved)) > 0) != frozen and max(jax.tree.leaves(moved)) < 0.05
    last = [side.variables["encoder"]["params"]["last"]["kernel"] for side in sides]
    assert 0 < np.abs(last[0] - last[1]).max() < 0.05  # Each was trained on its own side, from the same start.
    sides[1].save(tmp_path / "second")
    np.testing.assert_array_equal(Network.load(tmp_path / "second").embed(images), sides[1].embed(images))


def test_grey_images_are_trained_on_as_colour(weights, data):
    grey = data[0].mean(axis=3).astype(np.uint8)
    network = siamjax.fit(grey, data[1], **QUICK, weights=weights, frozen=True)
    encoder = network.variables["encoder"]
    same = Network(network.model, {**network.variables, "encoder": encoder["params"]}, encoder["batch_stats"])
    in_colour = same.embed(np.repeat(grey[..., None], 3, axis=3))
    np.testing.assert_allclose(network.embed(grey), in_colour, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(28, 28, 1), (31, 64, 3), (31, 64), (64, 64, 4), (40,)])
def test_images_that_are_too_small_or_of_other_channels_are_refused_before_anything_else(shape, tmp_path):
    """Also before the weights are looked for, of which there are none."""
    x = np.zeros((8, *shape), np.uint8 if len(shape) > 1 else np.float32)
    expected = "images of 1 or 3 channels, of at least 32×32 pixels .* use larger images"
    with pytest.raises(
        ValueError, match=f"^the encoder does not take inputs of shape .*'mobilenet_v2' takes {expected}"
    ):
        siamjax.fit(
            x, np.arange(8) // 2, encoder="mobilenet_v2", weights=tmp_path / "none.npz", workdir=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


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
