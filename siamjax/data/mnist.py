"""MNIST, to test on: ten digits that a network trained on characters never saw."""

import gzip
import pathlib
import zlib

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from siamjax.data import download, glyphs
from siamjax.data.dataset import Dataset, checked
from siamjax.data.types import Datasets, Source

ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FILES = {
    "validation": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 60_000),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 10_000),
}


def load(data_dir: str | None, manual_dir: str | None, size: int) -> dict[str, Dataset]:
    """Loads MNIST's last 10,000 training images as "validation", to fit a threshold on, and its test images as "test".

    Koch, Zemel, Salakhutdinov (2015), section 4.3, ask a network trained on Omniglot for digits, with no more training.

    Args:
      data_dir: where a download is kept; None stands for TFDS's default, `~/tensorflow_datasets`.
      manual_dir: folder with the four files `t10k-images-idx3-ubyte.gz` and so on, packed or not, or with the two test
        files alone; None downloads them.
      size: side of the images in pixels; they have 28, and are resized bilinearly to others.

    Returns:
      "validation" and "test": ink 255 on paper 0, each digit an identity, all of one group, each image its own source.
      No "validation" where `manual_dir` has neither of the training files.

    Raises:
      FileNotFoundError: a file is not in `manual_dir`, or the download failed.
      ValueError: a file is damaged.
    """
    cache = pathlib.Path(data_dir or "~/tensorflow_datasets").expanduser() / "downloads" / "mnist"
    folder = pathlib.Path(manual_dir).expanduser() if manual_dir else None
    parts = {part: names for part, names in _FILES.items() if part == "test" or not folder or _any(folder, names)}
    return {part: checked(_dataset(folder, cache, size, *names), f"mnist {part}") for part, names in parts.items()}


def _any(folder, names):
    return any((folder / f"{name}{ending}").is_file() for name in names[:2] for ending in ("", ".gz"))


def _dataset(folder, cache, size, images, labels, count):
    images = _numbers(folder, cache, images, 16, (count, 28, 28))[-10_000:]
    labels = _numbers(folder, cache, labels, 8, (count,))[-10_000:]
    if size != 28:
        images = np.stack([Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in images])
    source = np.arange(len(images), dtype=np.int32)
    return Dataset(images[..., None], labels.astype(np.int32), np.zeros_like(source), source, ("digits",))


def _numbers(folder, cache, name, header, shape):
    """The numbers of one of MNIST's files: bytes behind a header."""
    path = _find(folder, cache, name)
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise ValueError(
            f"{path} is damaged, or not MNIST's ({error}); fetch it anew from {ADDRESS}{name}.gz"
        ) from error


def _find(folder, cache, name):
    """The file called `name`, packed or not, in `folder` if that is given, else in `cache`, downloaded if need be."""
    for path in ((folder or cache) / name, (folder or cache) / f"{name}.gz"):
        if path.is_file():
            return path
    if folder:
        raise FileNotFoundError(f"{folder} holds neither {name} nor {name}.gz; put them there from {ADDRESS}")
    path = cache / f"{name}.gz"
    try:
        download.fetch(ADDRESS + path.name, path, timeout=30)
    except download.FAILURES as error:
        raise FileNotFoundError(
            f"{path} is not there, and cannot be downloaded from {ADDRESS} ({error}); put MNIST's four files into a "
            "folder and pass it as --config.data.manual_dir=FOLDER"
        ) from error
    return path


def _load(config: ConfigDict, train: bool) -> Datasets:
    del train
    return load(config.data_dir, config.manual_dir, config.size)


SOURCE = Source(
    _load, title=lambda config: "mnist", evaluators=lambda config: glyphs.EVALUATORS, ways=(10,), trains=False
)
