"""Omniglot under the splits of the literature, prepared once by TFDS and read without TensorFlow."""

import contextlib
import fcntl
import io
import os
import pathlib
import shutil
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from siamjax.choices import choose
from siamjax.data import longtail, omniglot_builder
from siamjax.data.dataset import Dataset, Images, checked
from siamjax.data.omniglot_builder import BACKGROUND, DRAWERS, EVALUATION, SIDE, SMALL1, SMALL2, Omniglot
from siamjax.progress import Progress

# The evaluation alphabets of Lake's 20 published runs of one-shot trials.
RUN_ALPHABETS = (
    "Atlantean",
    "Ge_ez",
    "Glagolitic",
    "Gurmukhi",
    "Kannada",
    "Malayalam",
    "Manipuri",
    "Old_Church_Slavonic_(Cyrillic)",
    "Tengwar",
    "Tibetan",
)

# Background alphabets kept for choosing models: of several families, none in small1 or small2.
HELD_OUT = ("Armenian", "Bengali", "Futurama", "Hebrew", "Japanese_(hiragana)")

_ALL = range(1, DRAWERS + 1)
_TRAIN = ("background", tuple(a for a in BACKGROUND if a not in HELD_OUT), _ALL)
_CHOOSE = ("background", HELD_OUT, _ALL)
_TEST = ("evaluation", tuple(EVALUATION), _ALL)

# Named split -> part -> (TFDS split, alphabets, drawers).
SPLITS = {
    "koch": {
        "train": ("background", tuple(BACKGROUND), range(1, 13)),
        "validation": ("evaluation", tuple(a for a in EVALUATION if a not in RUN_ALPHABETS), range(13, 17)),
        "test": ("evaluation", RUN_ALPHABETS, range(17, 21)),
        # Four drawings of a character are too few for five shots and a query: here are all of them.
        "few_shot": ("evaluation", RUN_ALPHABETS, _ALL),
    },
    "lake": {"train": _TRAIN, "validation": _CHOOSE, "test": _TEST},
    # To choose a recipe by, without a look at evaluation alphabets.
    "choose": {"train": _TRAIN, "validation": _CHOOSE, "test": _CHOOSE},
    # To train a recipe that was chosen: what it validates on was seen.
    "background": {"train": ("background", tuple(BACKGROUND), _ALL), "validation": _CHOOSE, "test": _TEST},
    "small1": {"train": ("small1", tuple(SMALL1), _ALL), "validation": _CHOOSE, "test": _TEST},
    "small2": {"train": ("small2", tuple(SMALL2), _ALL), "validation": _CHOOSE, "test": _TEST},
}


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other processes out of `folder`; the system lifts the lock of a process that dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ready(builder: Omniglot) -> bool:
    # Asked about a folder that is not there, TFDS would warn.
    return pathlib.Path(builder.data_dir).exists() and builder.is_prepared()


def prepare(data_dir: str | None = None, manual_dir: str | None = None) -> Omniglot:
    """Makes sure that Omniglot stands ready in `data_dir`; what an interrupted preparation left is cleared away.

    Args:
      data_dir: where TFDS keeps its data sets; None stands for TFDS's default, `~/tensorflow_datasets`.
      manual_dir: folder with the four archives, zipped or unpacked; None downloads them from the official address.

    Returns:
      the builder, prepared.

    Raises:
      FileNotFoundError: an archive is not in `manual_dir`, or the download failed.
      ValueError: an archive is damaged, incomplete or not Omniglot.
    """
    builder = Omniglot(data_dir=data_dir or None)
    if _ready(builder):
        return builder
    if manual_dir:
        omniglot_builder.find_archives(manual_dir)
    target = pathlib.Path(builder.data_dir)
    with _alone(target.parent):
        # Another process may have prepared it while this one waited.
        builder = Omniglot(data_dir=data_dir or None)
        if not _ready(builder):
            for rest in [target, *target.parent.glob("incomplete.*")]:
                shutil.rmtree(rest, ignore_errors=True)
            config = tfds.download.DownloadConfig(
                # TFDS's default folder serves all data sets: what lies there is not meant for this one.
                manual_dir=manual_dir or target / "none",
                force_checksums_validation=True,
                try_download_gcs=False,
            )
            source = f"of {manual_dir}" if manual_dir else f"of {omniglot_builder.ADDRESS}, 28 MB"
            tfds.disable_progress_bar()
            print(f"preparing Omniglot {source}, once, in {target}", flush=True)
            # TFDS prints in bold type, and of bars that are as wide as the text in them.
            with Progress("preparing Omniglot", 1), contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(download_config=config, file_format="array_record")
    return builder


def _area_weights(size: int) -> np.ndarray:
    """Row i holds the share of each old pixel in the new pixel i, float32 [size, SIDE]."""
    edges = np.linspace(0, SIDE, size + 1)
    old = np.arange(SIDE)
    overlap = np.minimum(edges[1:, None], old[None] + 1) - np.maximum(edges[:-1, None], old[None])
    return (overlap.clip(0) * size / SIDE).astype(np.float32)


def decode(pngs: list[bytes], size: int) -> np.ndarray:
    """Decodes black drawings on white paper and turns them to ink 255 on paper 0.

    Args:
      pngs: PNG files of 105x105 pixels, of any depth.
      size: side of the result in pixels, 1 to 105; each new pixel is the mean over its area.

    Returns:
      uint8 [n, size, size, 1].

    Raises:
      ValueError: a drawing is not of 105x105 pixels.
      OSError, SyntaxError: a file is no PNG, or is damaged; Pillow raises both.
    """
    images = np.empty((len(pngs), size, size, 1), np.uint8)
    weights = _area_weights(size)
    for i, png in enumerate(pngs):
        with Image.open(io.BytesIO(png), formats=["png"]) as image:
            if image.size != (SIDE, SIDE):
                raise ValueError(f"expected {SIDE}x{SIDE} pixels, found {image.size[0]}x{image.size[1]}")
            ink = 255 - np.asarray(image.convert("L"))
        images[i, :, :, 0] = ink if size == SIDE else np.rint(weights @ ink @ weights.T)
    return images


def _drawings(builder: Omniglot, split: str, size: int) -> np.ndarray:
    """All drawings of a split with their labels, as rows of a file in the prepared data; made when first asked for."""
    folder = pathlib.Path(builder.data_dir)
    path = folder / "decoded" / f"{split}_{size}.npy"
    kind = np.dtype(
        [("image", np.uint8, (size, size, 1)), ("label", np.int32), ("alphabet", np.int32), ("drawer", np.int32)]
    )
    # What cannot be read, or is damaged, is made anew.
    with contextlib.suppress(OSError, ValueError, EOFError):
        drawings = np.load(path, mmap_mode="r")
        if drawings.dtype == kind and len(drawings) == builder.info.splits[split].num_examples:
            return drawings
    try:
        source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        records = source.__getitems__(range(len(source)))
    except RuntimeError as error:
        raise ValueError(
            f"Omniglot: the prepared data in {folder} is damaged: delete this folder and run again ({error})"
        ) from error
    drawings = np.empty(len(records), kind)
    drawings["image"] = decode([record["image"] for record in records], size)
    for name in ("label", "alphabet", "drawer"):
        drawings[name] = [record[name] for record in records]
    # Where nothing can be written, it is decoded every time.
    with contextlib.suppress(OSError), _alone(path.parent):
        partial = path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                np.save(file, drawings)
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        return np.load(path, mmap_mode="r")
    return drawings


def _dataset(drawings, alphabets: tuple[str, ...], drawers: range, size: int, stream: bool) -> Dataset:
    """Of all drawings, those by these drawers in these alphabets."""
    group_of = {list(omniglot_builder.FIRST_LABEL).index(name): g for g, name in enumerate(alphabets)}
    chosen = np.flatnonzero(np.isin(drawings["alphabet"], list(group_of)) & np.isin(drawings["drawer"], drawers))

    def read(numbers):
        return drawings["image"][chosen[numbers]]

    _, label = np.unique(drawings["label"][chosen], return_inverse=True)
    return Dataset(
        images=Images(read, (len(chosen), size, size, 1)) if stream else read(np.arange(len(chosen))),
        label=label.astype(np.int32),
        group=np.array([group_of[alphabet] for alphabet in drawings["alphabet"][chosen]], np.int32),
        source=drawings["drawer"][chosen] - 1,
        group_names=alphabets,
    )


def load(
    data_dir: str | None, manual_dir: str | None, splits: str, size: int, train: bool = True, stream: bool = False
) -> dict[str, Dataset]:
    """Loads the training, validation and test images of a named split, preparing Omniglot first where it is not.

    - `koch` trains on the 30 background alphabets by drawers 1-12, validates on the 10 evaluation alphabets outside
      Lake's runs by drawers 13-16, and tests on the 10 alphabets of the runs by drawers 17-20. Koch et al. (2015),
      https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf
    - `lake` trains on 25 background alphabets, validates on the other 5 (`HELD_OUT`), and tests on the 20 evaluation
      alphabets, all drawers. Lake et al. (2019), https://arxiv.org/abs/1902.03477
    - `choose` is `lake` with its validation alphabets as the test, too: to choose a recipe by, without a look at
      evaluation alphabets.
    - `background` trains on all 30 background alphabets, those of `lake`'s validation among them: for a recipe that was
      chosen, and trains for a fixed length.
    - `longtail` takes few drawings each of most of the 964 background characters, and asks whose others are, see
      `longtail.cut`.
    - `small1` and `small2`, the minimal settings, train on 5 background alphabets; the rest is as in `lake`.

    Args:
      data_dir: where TFDS keeps its data sets; None stands for TFDS's default, `~/tensorflow_datasets`.
      manual_dir: folder with the four archives, zipped or unpacked; None downloads them from the official address.
      splits: a key of `SPLITS`, or "longtail".
      size: side of the images in pixels, 1 to 105; below 105 each new pixel is the mean over its area.
      train: whether to load the training images too.
      stream: whether training images are read only when they are asked for.

    Returns:
      "train" (if wanted), "validation" and "test", for koch "few_shot", the test characters by all drawers, and for
      longtail "gallery"; ink 255 on paper 0; `source` is the drawer's number less one.

    Raises:
      FileNotFoundError: an archive is not in `manual_dir`, or the download failed.
      ValueError: `splits` or `size` is unknown, an archive is damaged, or the prepared data is.
    """
    parts = choose("data.splits", splits, SPLITS | {"longtail": {}})
    parts = {part: images for part, images in parts.items() if train or part != "train"}
    if not 1 <= size <= SIDE:
        raise ValueError(f"data.size={size}: Omniglot's images are {SIDE} pixels wide; expected 1 to {SIDE}")
    builder = prepare(data_dir, manual_dir)
    if splits == "longtail":
        everything = _dataset(_drawings(builder, "background", size), tuple(BACKGROUND), _ALL, size, stream)
        return {
            part: checked(dataset, f"omniglot {splits} {part}")
            for part, dataset in longtail.cut(everything).items()
            if train or part != "train"
        }
    drawings = {split: _drawings(builder, split, size) for split in sorted({split for split, _, _ in parts.values()})}
    return {
        part: checked(
            _dataset(drawings[split], alphabets, drawers, size, stream and part == "train"), f"omniglot {splits} {part}"
        )
        for part, (split, alphabets, drawers) in parts.items()
    }
