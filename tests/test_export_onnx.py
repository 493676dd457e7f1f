"""Networks as ONNX models: the same numbers in ONNX Runtime, for any number of images."""

import json

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from configs import default
from siamjax import cli, heads
from siamjax.decision import Decision
from siamjax.encoders import ARCHITECTURES
from siamjax.encoders._inverted import Inverted
from siamjax.encoders._residual import Residual
from siamjax.encoders._vit import VisionTransformer
from siamjax.network import Network, inputs_of
from siamjax.run import parts
from siamjax.training import state

onnx = pytest.importorskip("onnx", reason="pip install 'siamjax[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'siamjax[onnx]'")

from siamjax.export import _translate, check, export  # noqa: E402

# Every encoder of siamjax's own, and every head, once; with the side of an image and the components of an embedding.
NETWORKS = [
    ("conv4", "distance", 16, 8),
    ("local", "aligned", 28, 98),
    ("faces", "weighted_l1", 40, 8),
    ("koch", "binary", 66, 8),
    ("resnet12", "four_feature", 17, 8),
    ("conv", "mahalanobis", 21, 8),
    ("pyramid", "bilinear", 20, 8),
]


def saved(folder, encoder, head, size, embedding, channels=1, **options):
    """Saves a network with random weights, statistics too, and a decision; returns it."""
    config = default.get_config()
    config.data.update(name="folder", size=size)
    config.data.folder.channels = channels
    config.encoder.update(name=encoder, width=4, embedding=embedding, **options)
    config.head.name = head
    model, inputs = parts.make_model(config), inputs_of(config)
    start = jax.eval_shape(lambda: state.create(model, jax.random.key(0), inputs.shape, optax.identity()))
    random = np.random.default_rng(1)

    def drawn(leaf):
        spread = 1 / np.sqrt(max(1, np.prod(leaf.shape[:-1])))
        return np.asarray(random.normal(0, spread, leaf.shape), leaf.dtype)

    params = jax.tree.map(drawn, start.params)
    # Variances near 0 would magnify the rounding of each of fifty layers.
    statistics = jax.tree.map(lambda leaf: 0.3 + abs(drawn(leaf)), start.batch_stats)
    decided = {0: Decision(0.2, 3.0, 0.2)}
    network = Network(model, params, statistics, inputs=inputs, decisions=decided, settings=config)
    network.save(folder)
    return network


def answers(folder, images):
    """(embeddings, scores and probabilities of each image and the next) by ONNX Runtime, for these images alone."""
    embed, score = (onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("embed", "score"))
    (embeddings,) = embed.run(["embeddings"], {"images": images})
    pairs = {"first": embeddings, "second": np.roll(embeddings, -1, axis=0)}
    return embeddings, *score.run(["scores", "probabilities"], pairs)


def assert_near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("encoder,head,size,embedding", NETWORKS)
def test_models_answer_as_the_network_does_for_any_batch(encoder, head, size, embedding, tmp_path):
    network = saved(tmp_path / "saved", encoder, head, size, embedding)
    folder = export(tmp_path / "saved", tmp_path / "out", "onnx")
    images = np.random.default_rng(2).integers(0, 256, (4, size, size, 1), np.uint8)
    for count in (4, 1):
        embeddings, scores, probabilities = answers(folder, images[:count])
        expected = network.embed(images[:count])
        assert_near(embeddings, expected)
        pairs = np.stack([np.arange(count), (np.arange(count) + 1) % count], axis=1)
        assert_near(scores, network.score_pairs(expected, pairs))
        assert_near(probabilities, network.decision.probability(scores))
    assert embeddings.shape == (1, embedding) and np.ptp(network.embed(images), axis=0).max() > 1e-4


@pytest.mark.parametrize(
    "module,depthwise",
    [
        (Inverted(stages=((1, 8, 1, 1, 3), (6, 12, 2, 2, 5))), 3),
        (Residual(blocks=(1, 2), bottleneck=True), 0),
        (VisionTransformer(width=12, depth=1, heads=3), 0),
    ],
    ids=lambda given: type(given).__name__,
)
def test_layers_of_published_architectures_are_translated(module, depthwise):
    """A depthwise convolution is one operation, and not the sums by which a CPU computes it in siamjax."""
    images = np.random.default_rng(0).normal(size=(3, 42, 42, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), images, False))
    random = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: np.float32(abs(random.normal(0.1, 0.1, leaf.shape))), shapes)
    (batch,) = jax.export.symbolic_shape("b")
    given = {"images": jax.ShapeDtypeStruct((batch, 42, 42, 3), np.float32)}
    content = _translate.model(lambda tree, x: (module.apply(tree, x, False),), variables, given, ["features"], {})
    nodes = [node for node in onnx.load_from_string(content).graph.node if node.op_type == "Conv"]
    groups = [each.i for node in nodes for each in node.attribute if each.name == "group"]
    assert sum(group > 1 for group in groups) == depthwise
    (found,) = onnxruntime.InferenceSession(content).run(None, {"images": images})
    assert_near(found, np.asarray(jax.jit(lambda x: module.apply(variables, x, False))(images)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_are_exported(name, tmp_path):
    network = saved(tmp_path / "saved", name, "distance", 56, 32, channels=3)
    folder = export(tmp_path / "saved", tmp_path / "out", "onnx")
    images = np.random.default_rng(2).integers(0, 256, (2, 56, 56, 3), np.uint8)
    assert_near(answers(folder, images)[0], network.embed(images))


def test_the_command_exports_the_network_that_comes_with_siamjax(tmp_path, capsys):
    assert cli.main(["export", "omniglot-fast", "--format", "onnx", "-o", str(tmp_path / "out"), "--json"]) == 0
    folder, network = tmp_path / "out", Network.load("omniglot-fast", copies=0)
    written = {"SHA256SUMS", "card.json", "embed.onnx", "score.onnx"}
    assert {path.rpartition("/")[2] for path in json.loads(capsys.readouterr().out)} == written
    card = json.loads((folder / "card.json").read_text())
    model = onnx.load(folder / "score.onnx")
    told = {each.key: each.value for each in model.metadata_props}
    assert float(told["threshold"]) == network.decision.threshold == card["decision"]["threshold"]
    assert told["network"] == network.fingerprint and json.loads(told["images"]) == card["images"]["shape"]
    images = np.random.default_rng(0).integers(0, 256, (5, *network.inputs.shape), np.uint8)
    assert_near(answers(folder, images)[0], network.embed(images))
    check(folder)
    (folder / "score.onnx").write_bytes((folder / "score.onnx").read_bytes()[:-1])
    with pytest.raises(ValueError, match="score.onnx differs from its digest"):
        check(folder)


class Cumulative(nn.Module):
    """A head with operations that have no counterpart."""

    def __call__(self, a, b):
        return jax.numpy.sort(jax.numpy.cumsum(a * b, axis=1), axis=1)[:, 0]


def test_what_cannot_be_exported_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(heads.HEADS, "cumulative", Cumulative)
    saved(tmp_path / "own", "conv4", "cumulative", 16, 8)
    arguments = ["export", str(tmp_path / "own"), "-o", str(tmp_path / "out"), "--format", "onnx"]
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == (
        "siamjax export: format='onnx': the head uses what siamjax does not translate to ONNX (cumsum, sort); export "
        "the network in the format 'stablehlo'\n"
    )
    assert not (tmp_path / "out").exists()
    saved(tmp_path / "two", "conv4", "distance", 16, 8, towers=2)
    with pytest.raises(ValueError, match="each side of a pair in its own way; export one side"):
        export(tmp_path / "two", tmp_path / "out", "onnx")
