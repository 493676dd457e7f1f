"""A disk that is really full: a small in-memory file system, on systems that allow mounting one."""

import os
import subprocess

import numpy as np
import pytest
from PIL import Image

from configs import default
from siamjax import files
from siamjax.data import folder, image_cache
from siamjax.train import train


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
    with pytest.raises(OSError, match=r"No space left on device: '.*gallery.json'"):
        files.write(path, os.urandom(2**20))
    assert path.read_bytes() == b"old" and os.listdir(small_disk) == ["gallery.json"]


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
