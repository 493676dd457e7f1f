"""Images of another kind than the decision was fitted to are told, and those of the same kind are not."""

import json

import numpy as np
import pytest
from PIL import Image

import siamjax
from siamjax import cli
from siamjax.data import glyphs
from siamjax.decision import Decision
from siamjax.familiar import Familiar, statistics
from siamjax.run import settings


@pytest.fixture(scope="module")
def drawings():
    """uint8 [n, 28, 28, 1], generated characters."""
    return glyphs.SOURCE.load(settings.default().data, False)["test"].images


def photographs(count, side=28, channels=1):
    """Smooth shades with noise, uint8 [count, side, side, channels]."""
    rng = np.random.default_rng(0)
    shade = np.linspace(60, 190, side)[None, :, None, None] + rng.uniform(-30, 30, (count, 1, 1, channels))
    return (shade + rng.normal(0, 8, (count, side, side, channels))).clip(0, 255).astype(np.uint8)


def test_drawings_by_others_are_familiar_and_photographs_negatives_and_empty_paper_are_not(drawings):
    half = len(drawings) // 2
    known = Familiar.of(drawings[np.arange(half)])
    rest = drawings[np.arange(half, len(drawings))]
    assert known.knows(rest).mean() > 0.99
    assert not known.knows(photographs(50)).any() and not known.knows(255 - rest).any()
    assert not known.knows(np.zeros((1, 28, 28, 1), np.uint8)).any()


@pytest.mark.parametrize("count", [0, 1, 70])
def test_numbers_are_those_of_each_image_however_many_there_are(count):
    """Also beyond a block, of 21 such images."""
    images = np.random.default_rng(count).integers(0, 256, (count, 256, 256, 3)).astype(np.uint8)
    found = statistics(images)
    assert found.shape == (count, 5)
    for image, numbers in zip(images[-2:], found[-2:], strict=True):
        x = image.astype(np.float64) / 255
        steps = np.abs(x[1:] - x[:-1]).mean() / 2 + np.abs(x[:, 1:] - x[:, :-1]).mean() / 2
        expected = x.mean(), x.std(), np.mean((x > 0.25) & (x < 0.75)), steps, np.mean(x.max(2) - x.min(2))
        np.testing.assert_allclose(numbers, expected, rtol=1e-5)


def test_a_network_of_grey_photographs_does_not_know_colours_or_noise():
    known = Familiar.of(np.repeat(photographs(20), 3, axis=3))
    assert known.knows(np.repeat(photographs(60)[20:], 3, axis=3)).all()
    noise = np.random.default_rng(1).integers(0, 256, (5, 28, 28, 1)).astype(np.uint8)
    assert not known.knows(np.repeat(noise, 3, axis=3)).any()
    red = photographs(5, channels=3)
    red[..., 1:] //= 3
    assert not known.knows(red).any()


def test_a_decision_fitted_before_this_was_stored_knows_everything():
    assert (
        Decision.read({"threshold": 0.0, "slope": 1.0, "even": 0.0, "false_accepts": None}).knows(photographs(3)).all()
    )


def test_the_answer_on_photographs_by_a_network_of_drawings_is_called_meaningless(tmp_path, capsys):
    for number, image in enumerate(photographs(2, 60)):
        Image.fromarray(image[..., 0]).save(tmp_path / f"photograph{number}.png")
    first, second = (str(tmp_path / f"photograph{number}.png") for number in (0, 1))
    assert cli.main(["verify", "omniglot-fast", first, second]) in (0, 1)
    error = capsys.readouterr().err
    assert "photograph0.png" in error and "unlike the images that this network's threshold was fitted to" in error
    network = siamjax.Network.load("omniglot-fast")
    assert not network.verify(first, second).familiar
    stroke = np.full((60, 60), 255, np.uint8)
    stroke[10:50, 28:31] = 0
    Image.fromarray(stroke).save(tmp_path / "stroke.png")
    assert network.verify(tmp_path / "stroke.png", tmp_path / "stroke.png").familiar

    gallery = str(tmp_path / "gallery")
    enrol = ["enroll", gallery, "--checkpoint", "omniglot-fast", "--identity", "bar", str(tmp_path / "stroke.png")]
    assert cli.main(enrol) == 0
    (tmp_path / "text.png").write_text("no image")
    capsys.readouterr()
    assert cli.main(["identify", gallery, first, f"{tmp_path}/text.png", f"{tmp_path}/stroke.png", "--json"]) == 2
    printed = capsys.readouterr()
    assert [row.get("familiar") for row in json.loads(printed.out)] == [False, None, True]
    assert "photograph0.png is unlike" in printed.err
    (tmp_path / "pairs.csv").write_text("path_a,path_b,same\nphotograph0.png,stroke.png,0\nstroke.png,stroke.png,1\n")
    assert cli.main(["pairs", "omniglot-fast", str(tmp_path / "pairs.csv")]) == 0
    assert "1 of 2 images are unlike" in capsys.readouterr().err


@pytest.mark.thorough
def test_what_a_training_learned_from_is_familiar_and_stays_so_when_saved(tmp_path):
    colours = np.random.default_rng(0).integers(60, 200, (12, 1, 1, 3))
    x = (colours.repeat(4, 0) + np.random.default_rng(1).integers(-9, 9, (48, 12, 12, 3))).astype(np.uint8)
    y = np.arange(48) // 4
    network = siamjax.fit(x[:24], y[:24], steps=2, embedding=8, validation=(x[24:], y[24:]))
    network.save(tmp_path / "saved")
    decision = siamjax.Network.load(tmp_path / "saved").decision
    assert decision == network.decision and decision.knows(x[24:]).all()
    assert not decision.knows((255 * (x > 130)).astype(np.uint8)).any()
