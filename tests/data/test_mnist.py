"""MNIST's file format, with made-up content."""

import gzip

import numpy as np
import pytest

from siamjax.data import mnist

COUNTS = {"train": 60_000, "t10k": 10_000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist")
    for part, count in COUNTS.items():
        digit = np.arange(count) % 10
        images = np.zeros((count, 28, 28), np.uint8)
        images[np.arange(count), digit, 5] = 200
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + images.tobytes(), 1))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(bytes(8) + digit.astype(np.uint8).tobytes())
    return folder


def test_digits_are_identities_of_one_group(folder):
    parts = mnist.load(None, str(folder), 28)
    assert {part: len(dataset) for part, dataset in parts.items()} == {"validation": 10_000, "test": 10_000}
    test = parts["test"]
    np.testing.assert_array_equal(test.images[..., 0].argmax(axis=1)[:, 5], test.label)
    assert set(test.group) == {0} and len(set(test.source)) == 10_000
    assert mnist.load(None, str(folder), 14)["test"].images.shape == (10_000, 14, 14, 1)


def test_the_two_test_files_are_enough(folder, tmp_path):
    for path in folder.glob("t10k-*"):
        (tmp_path / path.name).symlink_to(path)
    assert mnist.load(None, str(tmp_path), 28).keys() == {"test"}
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(bytes(60_008))
    with pytest.raises(FileNotFoundError, match="neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz"):
        mnist.load(None, str(tmp_path), 28)


def test_errors_name_a_damaged_or_missing_file(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    labels.unlink()
    labels.write_bytes(bytes(100))
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte is damaged.*download it again"):
        mnist.load(None, str(tmp_path), 28)
    labels.unlink()
    packed = tmp_path / "t10k-labels-idx1-ubyte.gz"
    packed.write_bytes(gzip.compress(bytes(10_008))[:20] + bytes(40))
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte.gz is damaged"):
        mnist.load(None, str(tmp_path), 28)
    packed.unlink()
    with pytest.raises(FileNotFoundError, match="neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz"):
        mnist.load(None, str(tmp_path), 28)
