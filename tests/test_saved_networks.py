"""Saved networks, and those that come with siamjax, can be used like runs."""

import json

import jax
import numpy as np
import optax
import photographs
import pytest
from PIL import Image

import siamjax
from benchmarks import faults
from configs import default
from siamjax import cli
from siamjax.data import detection, faces, ink
from siamjax.decision import Decision
from siamjax.export import check, export
from siamjax.network import Network, inputs_of
from siamjax.run import parts
from siamjax.training import state


@pytest.fixture(scope="module")
def network():
    """An untrained network."""
    config = default.get_config()
    config.data.update(name="folder", size=16)
    config.data.folder.invert = True
    config.encoder.update(name="conv4", width=4, embedding=8)
    model = parts.make_model(config)
    start = state.create(model, jax.random.key(0), (16, 16, 1), optax.identity())
    return Network(
        model,
        start.params,
        start.batch_stats,
        inputs=inputs_of(config),
        decisions={0: Decision(0.25, 2.0, 0.25), 3: Decision(0.5, 2.0, 0.5)},
        settings=config,
    )


@pytest.fixture
def drawing(tmp_path):
    path = tmp_path / "drawing.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30), np.uint8)).save(path)
    return path


def test_a_network_of_ink_reads_files_as_it_was_trained_also_when_saved(network, tmp_path):
    """The paper of a scan changes nothing, and the fingerprint is another one."""
    config = network.settings.copy_and_resolve_references()
    config.data.ink, config.data.folder.invert = True, False
    variables = network.variables["encoder"]
    params = {"encoder": variables["params"], "head": network.variables["head"]}
    of_ink = Network(
        network.model, params, variables["batch_stats"], inputs=inputs_of(config), settings=config,
        decisions={0: Decision(0.25, 2.0, 0.25)},
    )  # fmt: skip
    of_ink.save(tmp_path / "saved")
    for name, paper in (("bright", 250), ("dark", 190)):
        Image.fromarray(photographs.scan(3, paper)).save(tmp_path / f"{name}.png")
    scans = [tmp_path / "bright.png", tmp_path / "dark.png"]
    again = Network.load(tmp_path / "saved")
    assert again.inputs == of_ink.inputs and again.inputs.ink and again.inputs.invert
    np.testing.assert_array_equal(again.read(scans), of_ink.read(scans))
    assert np.abs(np.diff(again.read(scans).astype(int), axis=0)).mean() < 6
    assert again.verify(*scans).distance < 0.3 * network.verify(*scans).distance
    assert again.fingerprint == of_ink.fingerprint != network.fingerprint


@pytest.mark.parametrize("name,module", [("ink", ink), ("faces", faces)])
def test_embeddings_of_images_that_another_version_prepared_are_not_compared(name, module, network, monkeypatch):
    config = network.settings.copy_and_resolve_references()
    config.data[name], config.data.folder.invert = True, False
    variables = network.variables["encoder"]
    params = {"encoder": variables["params"], "head": network.variables["head"]}

    def fingerprint(inputs):
        return Network(network.model, params, variables["batch_stats"], inputs=inputs).fingerprint

    before = fingerprint(inputs_of(config)), fingerprint(network.inputs)
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    assert len({*before, fingerprint(inputs_of(config))}) == 3
    assert fingerprint(network.inputs) == before[1]


def test_a_network_of_wide_images_reads_files_as_wide_also_when_saved(network, drawing, tmp_path):
    config = network.settings.copy_and_resolve_references()
    config.data.width = 24
    start = state.create(network.model, jax.random.key(0), (16, 24, 1), optax.identity())
    wide = Network(
        network.model, start.params, start.batch_stats, inputs=inputs_of(config), settings=config,
        decisions={0: Decision(0.25, 2.0, 0.25)},
    )  # fmt: skip
    wide.save(tmp_path / "saved")
    again = Network.load(tmp_path / "saved")
    assert again.inputs.shape == (16, 24, 1)
    np.testing.assert_array_equal(again.read([drawing]), wide.read([drawing]))
    assert again.verify(drawing, drawing).distance == 0
    card = json.loads((export(tmp_path / "saved", tmp_path / "out") / "card.json").read_text())["images"]
    # The JPEG is decoded at a quarter for 24 columns; 16 would do with an eighth.
    for name, size in (
        ("large.jpg", (400, 300)),
        ("wide.png", (90, 20)),
        ("high.png", (20, 25)),
        ("small.png", (9, 7)),
    ):
        pixels = np.random.default_rng(1).integers(0, 256, (12, 12), np.uint8)
        Image.fromarray(pixels).resize(size).save(tmp_path / name)
        made = photographs.made_by_card(tmp_path / name, card)
        np.testing.assert_array_equal(made, again.read([tmp_path / name])[0])


def test_a_saved_network_of_faces_crops_the_files_it_reads(network, tmp_path, monkeypatch):
    monkeypatch.setattr(detection, "detect", photographs.middle_face)
    config = network.settings.copy_and_resolve_references()
    config.data.faces, config.data.folder.invert = True, False
    variables = network.variables["encoder"]
    params = {"encoder": variables["params"], "head": network.variables["head"]}
    of_faces = Network(
        network.model, params, variables["batch_stats"], inputs=inputs_of(config), settings=config,
        decisions={0: Decision(0.25, 2.0, 0.25)},
    )  # fmt: skip
    of_faces.save(tmp_path / "saved")
    Image.fromarray(np.pad(np.full((28, 28), 200, np.uint8), 6)).save(tmp_path / "photo.png")
    again = Network.load(tmp_path / "saved")
    assert again.inputs.faces and again.read([tmp_path / "photo.png"]).min() >= 199
    assert again.fingerprint == of_faces.fingerprint != network.fingerprint
    assert json.loads((export(tmp_path / "saved", tmp_path / "exported") / "card.json").read_text())["images"]["faces"]


@pytest.mark.parametrize("precision,tolerance", [("float32", 0), ("float16", 2e-3)])
def test_a_saved_network_is_the_same_network(network, drawing, tmp_path, precision, tolerance):
    network.save(tmp_path / "saved", precision=precision)
    again = Network.load(tmp_path / "saved")
    images = again.read([drawing])
    np.testing.assert_array_equal(images, network.read([drawing]))
    np.testing.assert_allclose(again.embed(images), network.embed(images), atol=tolerance)
    assert again.decision == network.decision and again.inputs == network.inputs
    assert (again.fingerprint == network.fingerprint) == (precision == "float32")
    assert Network.load(tmp_path / "saved", copies=3).decision.threshold == 0.5
    moved = Network.load(tmp_path / "saved", threshold=9.0)
    assert moved.decision.threshold == 9.0
    moved.save(tmp_path / "moved")
    assert Network.load(tmp_path / "moved").decision == moved.decision


def test_files_of_others_are_not_mixed_with_what_is_saved_or_exported(network, tmp_path, capsys):
    (tmp_path / "people" / "ann").mkdir(parents=True)
    (tmp_path / "people" / "SHA256SUMS").write_text("0  a.zip\n")
    place = str(tmp_path / "people")
    assert cli.main(["export", "omniglot-fast", "-o", place]) == 2
    told = capsys.readouterr().err
    assert f"{place} has other files in it ('SHA256SUMS', ...); name a new or empty folder for an export" in told
    with pytest.raises(ValueError, match="people has other files in it .*folder for a saved network"):
        network.save(place)
    (tmp_path / "ten.py").touch()
    with pytest.raises(OSError, match="ten.py is a file; choose another folder"):
        network.save(tmp_path / "ten.py")
    assert len(list((tmp_path / "people").iterdir())) == 2
    for _ in range(2):  # What was saved or exported is replaced, also among notes that were put there since.
        network.save(tmp_path / "saved")
        (tmp_path / "saved" / "notes.txt").touch()


def test_an_export_is_replaced_and_lists_what_it_wrote(tmp_path, capsys):
    export("omniglot-fast", tmp_path / "out")
    (tmp_path / "out" / "notes.txt").touch()
    (tmp_path / "out" / "head.stablehlo").unlink()  # As if it had been killed.
    assert cli.main(["export", "omniglot-fast", "-o", str(tmp_path / "out")]) == 0
    names = {"encoder.stablehlo", "head.stablehlo", "weights.safetensors", "card.json", "SHA256SUMS"}
    listed = [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == sorted(str(tmp_path / "out" / name) for name in names)
    check(tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").exists()
    for name in ("embed.onnx", "score.onnx"):  # As if one to ONNX had been killed after its digests.
        (tmp_path / "out" / name).touch()
    export("omniglot-fast", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"notes.txt"}


def test_a_damaged_file_is_named(network, tmp_path):
    network.save(tmp_path)
    content = (tmp_path / "network.safetensors").read_bytes()
    (tmp_path / "network.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"network.safetensors is damaged, or of another version"):
        Network.load(tmp_path)


def test_a_network_without_decision_inputs_or_settings_embeds(network, drawing):
    bare = Network(
        network.model,
        {"encoder": network.variables["encoder"]["params"], "head": network.variables["head"]},
        network.variables["encoder"]["batch_stats"],
    )
    images = network.read([drawing])
    np.testing.assert_array_equal(bare.embed(images), network.embed(images))
    for use, message in ((lambda: bare.decision, "no threshold"), (lambda: bare.read([drawing]), "without inputs")):
        with pytest.raises(ValueError, match=message):
            use()
    with pytest.raises(ValueError, match="without settings"):
        bare.save("nowhere")


def test_a_shipped_network_verifies_enrolls_identifies_and_exports(drawing, tmp_path, capsys):
    assert cli.main(["verify", "omniglot-fast", str(drawing), str(drawing), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["same"] and answer["probability"] > 0.5
    gallery = siamjax.Gallery(tmp_path / "gallery", "omniglot-fast")
    gallery.enroll([drawing], ["mine"])
    network = Network.load("omniglot-fast", copies=0)
    (found,) = siamjax.Gallery(tmp_path / "gallery").identify(network.read([drawing]))
    assert found.identity == "mine"
    folder = export("omniglot-fast", tmp_path / "out")
    check(folder)
    for _ in faults.flips(folder, 20):
        with pytest.raises((ValueError, FileNotFoundError)):
            check(folder)
    card = json.loads((folder / "card.json").read_text())
    assert card["images"]["shape"] == ["b", 56, 56, 1] and card["decision"]["threshold"] == network.decision.threshold
