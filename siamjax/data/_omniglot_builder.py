"""Omniglot as a TFDS data set: downloaded or taken from archives, prepared once, and decoded."""

import contextlib
import fcntl
import io
import os
import pathlib
import shutil
from collections.abc import Collection, Iterator
from typing import Any, ClassVar

import numpy as np
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.utils import Size

from siamjax import digests, files
from siamjax.data import omniglot_archives as archives
from siamjax.progress import Progress

# Bytes and sha256 of the official zips, which TFDS compares with what it downloads.
_OFFICIAL = {
    "background": (9464212, "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640"),
    "evaluation": (6462886, "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee"),
    "small1": (1319022, "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4"),
    "small2": (1580917, "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f"),
}

_CITATION = """\
@article{lake2015human,
  author = {Lake, Brenden M. and Salakhutdinov, Ruslan and Tenenbaum, Joshua B.},
  title = {Human-level concept learning through probabilistic program induction},
  journal = {Science},
  volume = {350},
  number = {6266},
  pages = {1332--1338},
  year = {2015}
}"""


def _download(manager: Any) -> dict[str, pathlib.Path]:
    addresses = {split: f"{archives.ADDRESS}{name}.zip" for split, (name, _) in archives.ARCHIVES.items()}
    cached = list((manager.download_dir / Omniglot.name).glob("*.zip"))
    try:
        if len(cached) < len(archives.ARCHIVES):
            # TFDS retries for minutes, without a timeout: check first whether the server answers.
            requests.head(addresses["small1"], timeout=10, allow_redirects=True).raise_for_status()
        return manager.download(addresses)
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise FileNotFoundError(
            f"Omniglot is not prepared, and cannot be downloaded from {archives.ADDRESS} ({type(error).__name__}). "
            f"Put {archives.ZIPS} (official or repacked, zipped or unpacked) into one folder, and pass it as "
            "--config.data.manual_dir=FOLDER. Without any file, the built-in data set `glyphs` works: "
            "--config configs/quickstart.py"
        ) from error
    except NonMatchingChecksumError as error:
        raise ValueError(
            f"Omniglot: a file downloaded from {archives.ADDRESS} is not the official one. Run again; if that does not "
            f"help, fetch {archives.ZIPS} by other means, and pass their folder as --config.data.manual_dir=FOLDER. "
            f"{error}"
        ) from error


class Omniglot(tfds.core.GeneratorBasedBuilder):
    """1623 handwritten characters of 50 alphabets, each drawn once by 20 people, with the drawer of each."""

    # TFDS's own `omniglot` has no drawers.
    name = "siamjax_omniglot"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Initial release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put {archives.ZIPS}, zipped or unpacked, into one folder."
    url_infos: ClassVar = {
        f"{archives.ADDRESS}{archives.ARCHIVES[split][0]}.zip": checksums.UrlInfo(
            size=Size(size), checksum=checksum, filename=f"{archives.ARCHIVES[split][0]}.zip"
        )
        for split, (size, checksum) in _OFFICIAL.items()
    }

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(archives.SIDE, archives.SIDE, 1), encoding_format="png"),
                    "alphabet": tfds.features.ClassLabel(names=list(archives.FIRST_LABEL)),
                    "character": np.int32,
                    "label": np.int32,
                    "drawer": np.int32,
                }
            ),
            homepage="https://github.com/brendenlake/omniglot",
            license="MIT",
            citation=_CITATION,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        try:
            folder = dl_manager.manual_dir
        except AssertionError:  # TFDS's way of saying that the folder is absent or empty.
            folder = None
        paths = archives.find_archives(str(folder)) if folder else _download(dl_manager)
        # Everything is checked before anything is written.
        found = {split: archives.read_archive(pathlib.Path(paths[split]), split) for split in archives.ARCHIVES}
        return {split: self._generate_examples(drawings) for split, drawings in found.items()}

    def _generate_examples(self, drawings: archives.Drawings) -> Iterator[tuple[int, dict]]:
        for index, ((alphabet, character, drawer), png) in enumerate(drawings.items()):
            yield (
                index,
                {
                    "image": png,
                    "alphabet": alphabet,
                    "character": character,
                    "label": archives.FIRST_LABEL[alphabet] + character - 1,
                    "drawer": drawer,
                },
            )


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    """Locks `folder` against other processes; the system releases the lock of a process that dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ready(builder: Omniglot) -> bool:
    # For a missing folder, TFDS would warn.
    return pathlib.Path(builder.data_dir).exists() and builder.is_prepared()


class Damaged(ValueError):
    """The prepared data, in `folder`, cannot be read as it was written."""

    def __init__(self, folder: pathlib.Path, error: object):
        super().__init__(f"Omniglot: the prepared data in {folder} is damaged ({' '.join(str(error).split())[:100]})")
        self.folder = folder


def _builder(data_dir):
    try:
        return Omniglot(data_dir=data_dir or None)
    except OSError:
        raise
    except Exception as error:  # Whatever TFDS raises on damaged descriptions of the data.
        root = pathlib.Path(data_dir or "~/tensorflow_datasets").expanduser()
        raise Damaged(root / Omniglot.name / str(Omniglot.VERSION), error) from error


def drawings(data_dir: str | None, manual_dir: str | None, splits: Collection[str], size: int) -> dict[str, np.ndarray]:
    """The drawings of some splits of TFDS, see `decoded`; prepares Omniglot first where needed, or if it is damaged.

    Args, raises: as in `prepare`.
    """
    try:
        return _drawings(data_dir, manual_dir, splits, size)
    except Damaged as error:
        print(f"{error}: it is prepared again", flush=True)
        aside = error.folder.with_name(f"damaged-{error.folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(error.folder, aside)
        try:
            return _drawings(data_dir, manual_dir, splits, size)
        except BaseException:
            shutil.rmtree(error.folder, ignore_errors=True)
            os.rename(aside, error.folder)  # What is left of it may still serve other splits.
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _drawings(data_dir, manual_dir, splits, size):
    prepared = prepare(data_dir, manual_dir)
    return {split: decoded(prepared, split, size) for split in splits}


def prepare(data_dir: str | None = None, manual_dir: str | None = None) -> Omniglot:
    """Prepares Omniglot in `data_dir` unless it is prepared; removes what an interrupted preparation left.

    Args:
      data_dir: where TFDS stores its data sets; None for TFDS's default, `~/tensorflow_datasets`.
      manual_dir: folder with the four archives, zipped or unpacked; None downloads them from the official address.

    Returns:
      The prepared builder.

    Raises:
      FileNotFoundError: an archive is not in `manual_dir`, or the download failed.
      ValueError: an archive is damaged, incomplete or not Omniglot; or the prepared data is.
    """
    builder = _builder(data_dir)
    if _ready(builder):
        return builder
    if manual_dir:
        archives.find_archives(manual_dir)
    target = pathlib.Path(builder.data_dir)
    with _alone(target.parent):
        # Another process may have prepared it in the meantime.
        builder = _builder(data_dir)
        if not _ready(builder):
            for rest in [target, *target.parent.glob("incomplete.*")]:
                shutil.rmtree(rest, ignore_errors=True)
            config = tfds.download.DownloadConfig(
                # TFDS's default folder is shared by all data sets: its files may belong to others.
                manual_dir=manual_dir or target / "none",
                force_checksums_validation=True,
                try_download_gcs=False,
            )
            source = manual_dir or f"{archives.ADDRESS} (28 MB)"
            tfds.disable_progress_bar()
            print(f"preparing Omniglot from {source} in {target}, once", flush=True)
            # TFDS's own output has bold type, and progress bars of changing width.
            with Progress("preparing Omniglot", 1), contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(download_config=config, file_format="array_record")
    return builder


def decoded(builder: Omniglot, split: str, size: int) -> np.ndarray:
    """All drawings of a split of TFDS: rows of "image" uint8 [size, size, 1], "label", "alphabet" and "drawer" int32.

    They are stored decoded beside the prepared data, with a digest that is checked on opening, and mapped into memory.

    Raises:
      Damaged: the prepared data is damaged.
    """
    folder = pathlib.Path(builder.data_dir)
    path = folder / "decoded" / f"{split}_{size}.npy"
    kind = np.dtype(
        [("image", np.uint8, (size, size, 1)), ("label", np.int32), ("alphabet", np.int32), ("drawer", np.int32)]
    )
    # A file that is unreadable or damaged is written again.
    with contextlib.suppress(OSError, ValueError, EOFError):
        rows = np.load(path, mmap_mode="r")
        if rows.dtype == kind and digests.of([rows]) == path.with_suffix(".sha256").read_text():
            return rows
    prepared: Any = builder  # TFDS's decorators hide the signatures of its methods.
    rows = np.empty(archives.DRAWERS * sum(archives.ARCHIVES[split][1].values()), kind)
    try:
        source = prepared.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        records = source.__getitems__(range(len(source)))
        rows["image"] = archives.decode([record["image"] for record in records], size)
        for name in ("label", "alphabet", "drawer"):
            rows[name] = [record[name] for record in records]
    except PermissionError:
        raise
    except Exception as error:  # Whatever TFDS and ArrayRecord raise on damaged data.
        raise Damaged(folder, error) from error
    # Where nothing can be written, it is decoded on every call.
    with contextlib.suppress(OSError), _alone(path.parent):
        partial = path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                np.save(file, rows)
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        files.write(path.with_suffix(".sha256"), digests.of([rows]).encode())
        return np.load(path, mmap_mode="r")
    return rows
