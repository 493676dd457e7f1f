"""A disk that is really full, or read-only: a small in-memory file system, on systems that allow mounting one."""

import os
import subprocess

import numpy as np
import pytest
from PIL import Image

from configs import default
from siamjax import cli, files
from siamjax.data import folder, image_cache
from siamjax.evaluate import evaluate
from siamjax.gallery import Gallery
from siamjax.train import train

pytestmark = pytest.mark.thorough


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("cannot mount a tmpfs on this system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_file_that_does_not_fit_does_not_damage_the_old_one(small_disk):
    path = small_disk / "gallery.json"
    files.write(path, b"old")
    with pytest.raises(OSError, match=r"gallery.json cannot be written \(No space left on device\)"):
        files.write(path, os.urandom(2**20))
    assert path.read_bytes() == b"old" and os.listdir(small_disk) == ["gallery.json"]


def test_a_gallery_holds_what_was_enrolled_before_the_disk_was_full(small_disk):
    gallery, held = Gallery.of_vectors(small_disk / "people"), {}
    with pytest.raises(OSError, match="No space left on device"):
        while True:
            gallery.enroll_vectors(np.random.default_rng(len(held)).normal(size=(1, 500)), [f"person {len(held):04d}"])
            held[f"person {len(held):04d}"] = 1
    assert len(held) > 20 and gallery.identities() == Gallery(small_disk / "people").identities() == held
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    gallery.enroll_vectors(np.ones((1, 500)), ["person x"])
    assert Gallery(small_disk / "people").identities() == held | {"person x": 1}


def test_images_that_cannot_be_stored_leave_no_files(small_disk, tmp_path):
    for number in range(12):
        (tmp_path / "people" / str(number)).mkdir(parents=True)
        image = np.random.default_rng(number).integers(0, 256, (300, 300), np.uint8)
        Image.fromarray(image).save(tmp_path / "people" / str(number) / "1.png")
    with pytest.raises(OSError, match="No space left on device"):
        folder.prepare(tmp_path / "people", image_cache.Preparation(small_disk, 200))
    assert not [name for name in os.listdir(small_disk) if not name.endswith(".lock")]
    prepared = folder.prepare(tmp_path / "people", image_cache.Preparation(tmp_path / "cache", 200))
    assert len(prepared.files) == 12


def test_a_run_resumes_once_the_disk_has_room(small_disk):
    config = default.get_config()
    config.batch.update(identities=4, per_identity=2)
    config.data.glyphs.update(alphabets=1, characters=20, test_alphabets=1)
    config.train.update(steps=3, validate_every=1)
    config.evaluation.update(trials=20, validation_trials=20, pairs=20)
    with pytest.raises(
        OSError, match=r"checkpoints cannot be written in .*run/checkpoints \(No space left on device\)"
    ):
        train(config, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    train(config, small_disk / "run")
    assert (small_disk / "run" / "results.json").exists()


def test_a_place_that_is_read_only_is_refused_in_words_before_any_work(small_disk, capsys):
    Gallery.of_vectors(small_disk / "people").enroll_vectors(np.eye(2), ["ann", "bob"])
    (small_disk / "run" / "checkpoints").mkdir(parents=True)
    Image.new("L", (20, 20)).save(small_disk / "a.png")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    place = str(small_disk / "people")
    for arguments in (
        ["rename", place, "ann", "eve"],
        ["remove", place, "ann"],
        ["enroll", str(small_disk / "new"), "--checkpoint", "omniglot-fast", str(small_disk / "a.png")],
        ["export", "omniglot-fast", "-o", str(small_disk / "exported")],
        ["embed", "nothing is loaded", "nothing is read", "-o", str(small_disk / "e.npz")],
        ["pairs", "nothing is loaded", "nothing is read", "-o", str(small_disk / "e.csv")],
    ):
        assert cli.main(arguments) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"siamjax {arguments[0]}: {small_disk}") and len(told.splitlines()) == 1
        assert "is not writable; choose another folder" in told and "Errno" not in told and "partial" not in told
    with pytest.raises(ValueError, match="run: .*run is not writable; choose another folder"):
        evaluate(default.get_config(), small_disk / "run")
    assert Gallery(place).identities() == {"ann": 1, "bob": 1}
