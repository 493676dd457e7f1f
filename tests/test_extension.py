"""Adds a loss, encoder, head, source, evaluator and command from outside siamjax, as docs/design.md describes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from siamjax import cli, encoders, heads
from siamjax.data import SOURCES, Dataset, Source
from siamjax.evaluation import EVALUATORS, Measure
from siamjax.network import Network
from siamjax.run import settings
from siamjax.train import train
from siamjax.training import objectives


class Flat(nn.Module):
    """One dense layer on the pixels; `gain` is its own option, the other attributes are common to all encoders."""

    width: int
    embedding: int
    unit_length: bool = False
    dtype: jnp.dtype = jnp.float32
    convolution: str = "auto"
    gain: float = 1.0

    @nn.compact
    def __call__(self, images, train=True):
        return self.gain * nn.Dense(self.embedding)(images.reshape(len(images), -1))


class Dot(nn.Module):
    scale: float = 1.0

    @nn.compact
    def __call__(self, a, b):
        return self.param("scale", nn.initializers.constant(self.scale), ()) * jnp.sum(a * b, axis=-1)

    def all_pairs(self, a, b):
        return self(a[:, None], b[None, :])


def centred(embeddings, labels, *, strength=0.5):
    """Pulls images of an identity together, and the mean of all images to zero."""
    same = labels[:, None] == labels[None, :]
    means = (same @ embeddings) / jnp.sum(same, axis=1, keepdims=True)
    return strength * jnp.mean(optax.squared_error(embeddings, means)) + jnp.mean(embeddings) ** 2


def dots(count, seed):
    """Each identity is a position of a bright square; its images differ in noise."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(count, dtype=np.int32), 6)
    images = rng.integers(0, 60, (len(label), 16, 16, 1))
    for number, identity in enumerate(label):
        row, column = divmod(int(identity), 5)
        images[number, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3] += 150
    zeros = np.zeros(len(label), np.int32)
    return Dataset(images.astype(np.uint8), label, zeros, np.tile(np.arange(6, dtype=np.int32), count), ("dots",))


def load(config, train):
    return {part: dots(20, seed) for seed, part in enumerate(("train", "validation", "test"))}


def brightness(subject):
    images = subject.datasets["test"].images
    yield Measure("brightness", float(images.mean() / 255), None, len(images), None)


def count_command(add):
    command = add("count", lambda options: print(len(options.paths)), "count the given paths")
    command.add_argument("paths", nargs="*")


@pytest.fixture
def added(monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "flat", Flat)
    monkeypatch.setitem(heads.HEADS, "dot", Dot)
    monkeypatch.setitem(objectives.BATCH_LOSSES, "centred", centred)
    monkeypatch.setitem(EVALUATORS, "brightness", brightness)
    names = ("within_group", "brightness")
    source = Source(load, title=lambda config: "dots", evaluators=lambda config: names)
    monkeypatch.setitem(SOURCES, "dots", source)
    monkeypatch.setattr(cli, "GROUPS", [*cli.GROUPS, count_command])


def test_additions_are_configured_trained_and_evaluated_like_built_in_parts(added, tmp_path):
    config = settings.default()
    assert config.encoder.flat.gain == 1.0 and config.head.dot.scale == 1.0 and config.loss.centred.strength == 0.5
    config.data.name, config.data.size = "dots", 16
    config.encoder.update(name="flat", embedding=8)
    config.encoder.flat.gain, config.loss.centred.strength = 0.5, 0.25
    config.head.name, config.loss.name = "dot", "centred"
    config.batch.update(identities=8, per_identity=2, per_group=8)
    config.train.update(steps=4, validate_every=4, log_every=4)
    config.evaluation.update(ways=10, trials=100, validation_trials=100, pairs=200)
    train(config, tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results) == ["within_alphabet_10way_1shot", "brightness"]
    assert results["brightness"]["accuracy"] == pytest.approx(dots(20, 2).images.mean() / 255)
    network = Network.load(tmp_path / "run")
    assert network.model.encoder.gain == 0.5 and isinstance(network.model.head, Dot)


def test_a_loss_can_be_passed_as_a_function():
    objective = objectives.make(centred, heads.WeightedL1())
    assert objective.init(None, 8) == {}


@pytest.mark.parametrize(
    "name,mode", [("contrastive", "pairs"), ("soft_triple", "identities"), ("ntxent", "identities")]
)
def test_a_loss_given_by_name_has_the_defaults_of_its_function(name, mode):
    objective = objectives.make(name, heads.WeightedL1(), mode=mode, identities=3)
    assert ("proxies" in objective.init(jax.random.key(0), 8)) == (name == "soft_triple")


def test_an_added_command_runs(added, capsys):
    assert cli.main(["count", "a", "b"]) == 0
    assert capsys.readouterr().out == "2\n"
