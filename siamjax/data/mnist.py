"""MNIST, for evaluation: ten digits that a network trained on characters has never seen."""

import gzip
import math
import pathlib
import zlib

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from siamjax import files
from siamjax.data import download, glyphs
from siamjax.data.dataset import Dataset, checked
from siamjax.data.types import Datasets, Source

ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FILES = {
    "validation": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 60_000),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 10_000),
}


# Bytes and sha256 of the files, as TFDS has published them.
_OFFICIAL = {
    "train-images-idx3-ubyte.gz": (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    "train-labels-idx1-ubyte.gz": (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    "t10k-images-idx3-ubyte.gz": (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    "t10k-labels-idx1-ubyte.gz": (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
}


def load(data_dir: str | None, manual_dir: str | None, size: int) -> Datasets:
    """Loads MNIST's test images as "test", and its last 10,000 training images as "validation" for a threshold.

    Koch, Zemel, Salakhutdinov (2015), section 4.3, evaluate a network trained on Omniglot on MNIST, without
    further training.

    Args:
      data_dir: folder for downloads; None for TFDS's default, `~/tensorflow_datasets`.
      manual_dir: folder with the four files `t10k-images-idx3-ubyte.gz` and so on, compressed or not, or with only the
        two test files; None downloads them.
      size: side of the images in pixels; MNIST has 28, other sizes are interpolated bilinearly.

    Returns:
      "validation" and "test": ink 255 on paper 0, each digit an identity, all in one group, each image its own source.
      Without "validation" if `manual_dir` has neither of the training files.

    Raises:
      FileNotFoundError: a file is not in `manual_dir`, or the download failed.
      ValueError: a file is damaged.
    """
    cache = pathlib.Path(data_dir or "~/tensorflow_datasets").expanduser() / "downloads" / "mnist"
    folder = pathlib.Path(manual_dir).expanduser() if manual_dir else None
    parts = {part: names for part, names in _FILES.items() if part == "test" or not folder or _any(folder, names)}
    return {part: checked(_dataset(folder, cache, size, *names), f"mnist {part}") for part, names in parts.items()}


def _any(folder: pathlib.Path, names: tuple[str, str, int]) -> bool:
    return any((folder / f"{name}{ending}").is_file() for name in names[:2] for ending in ("", ".gz"))


def _dataset(
    folder: pathlib.Path | None, cache: pathlib.Path, size: int, image_file: str, label_file: str, count: int
) -> Dataset:
    images = _numbers(folder, cache, image_file, 16, (count, 28, 28))[-10_000:]
    labels = _numbers(folder, cache, label_file, 8, (count,))[-10_000:]
    if size != 28:
        resized = (Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in images)
        images = np.stack([np.asarray(image) for image in resized])
    source = np.arange(len(images), dtype=np.int32)
    return Dataset(images[..., None], labels.astype(np.int32), np.zeros_like(source), source, ("digits",))


def _numbers(
    folder: pathlib.Path | None, cache: pathlib.Path, name: str, header: int, shape: tuple[int, ...]
) -> np.ndarray:
    """The bytes of one of MNIST's files after a header of `header` bytes, uint8."""
    path = _find(folder, cache, name)
    try:
        with files.opened(path) as file:
            most = header + math.prod(shape) + 1  # No more than it should have: a few bytes can unpack to many.
            content = (gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file).read(most)
        return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise ValueError(
            f"{path} is damaged, or not MNIST's ({error}); download it again from {ADDRESS}{name}.gz"
        ) from error


def _find(folder: pathlib.Path | None, cache: pathlib.Path, name: str) -> pathlib.Path:
    """The file `name`, compressed or not, in `folder` if given, else in `cache`, downloaded if necessary."""
    for path in ((folder or cache) / name, (folder or cache) / f"{name}.gz"):
        if path.is_file():
            return path
    if folder:
        raise FileNotFoundError(f"{folder} has neither {name} nor {name}.gz; download them to it from {ADDRESS}")
    path = cache / f"{name}.gz"
    try:
        size, sha256 = _OFFICIAL[path.name]
        download.fetch(ADDRESS + path.name, path, timeout=30, size=size, sha256=sha256)
    except download.FAILURES as error:
        raise FileNotFoundError(
            f"{path} not found, and cannot be downloaded from {ADDRESS} ({error}); put MNIST's four files into a "
            "folder and pass it as --config.data.manual_dir=FOLDER"
        ) from error
    return path


def _load(config: ConfigDict, train: bool) -> Datasets:
    del train
    return load(config.data_dir, config.manual_dir, config.size)


SOURCE = Source(
    _load,
    title=lambda config: "mnist",
    evaluators=lambda config: glyphs.EVALUATORS,
    ways=(10,),
    square=True,
    trains=False,
)
