"""The files of a published data set where they are stored: unpacked in a folder, or in a zip file; found by content."""

import collections
import dataclasses
import functools
import io
import itertools
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping

from siamjax import files
from siamjax.data import image_cache
from siamjax.data.finding import File
from siamjax.files import shown

_PACKED = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".rar", ".7z")  # archives that are not read in place
_MOST = 2**29  # bytes of a file
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, RuntimeError, NotImplementedError)


@dataclasses.dataclass(frozen=True)
class Originals:
    """Files in a folder or a zip file.

    Attributes:
      place: the folder or the zip file.
      names: their paths in it, with "/" between folders, sorted.
    """

    place: pathlib.Path
    names: tuple[str, ...]

    @functools.cached_property
    def _zip(self):
        return zipfile.ZipFile(self.place) if self.place.is_file() else None

    def path(self, name: str) -> pathlib.Path:
        """A file for messages: a path that continues within the zip file."""
        return self.place / name

    def opened(self, name: str) -> io.BufferedReader | io.BytesIO:
        """A file, opened; from any thread.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: the zip file is damaged, or it is not a regular file.
        """
        if self._zip is None:
            return files.opened(self.place / name)
        try:
            return io.BytesIO(files.member(self._zip, name, _MOST))
        except _DAMAGE as error:
            raise ValueError(
                f"{shown(self.path(name))} cannot be read ({error}): the zip file is damaged; download it again"
            ) from error

    def text(self, name: str) -> str:
        """The content of a text file; bytes that are not UTF-8 are kept as surrogates."""
        with self.opened(name) as file:
            return file.read().decode("utf-8-sig", "surrogateescape")

    def fingerprint(self, name: str) -> str:
        """Of a file: differs after any change."""
        if self._zip is None:
            return image_cache.fingerprint(self.place / name)
        info = self._zip.getinfo(name)
        return f"{os.path.abspath(self.place)} {name} {info.file_size} {info.CRC}"


def find(place: str, image: str, title: str, example: str, address: str) -> tuple[Originals, dict[str, re.Match[str]]]:
    """Finds the images of a data set.

    Args:
      place: the setting `data.manual_dir`: a folder with the data set or a zip file of it somewhere in it; or the zip.
      image: regular expression of the path of an image; its group "root" is the path of the data set, "" or "a/b/".
      title: of the data set, for errors.
      example: path of an image, for errors.
      address: where it is published, for errors.

    Returns:
      The folder or zip file with the images, and its images with their matches: those of one root, the one with most.

    Raises:
      FileNotFoundError: there is no such folder, or it has no such images.
      ValueError: two places have equally many, which may be two versions of the data set.
    """
    want = f"expected images such as {example}, unpacked or in a zip file; {title} is published at {address}"
    if not place:
        raise ValueError(f"data.manual_dir is empty: name the folder with {title}; {want}")
    root = pathlib.Path(place).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"data.manual_dir={shown(root)} not found; {want}")
    found, notes = [], []
    for originals in _stores(root, notes):
        matches = {name: match for name in originals.names if (match := re.fullmatch(image, name))}
        for start, count in collections.Counter(match["root"] for match in matches.values()).items():
            of_root = {name: match for name, match in matches.items() if match["root"] == start}
            found.append((count, originals, start, of_root))
    if not found:
        raise FileNotFoundError(f"data.manual_dir={shown(root)} has no images of {title}{''.join(notes)}; {want}")
    # What is unpacked comes before zip files of the same.
    found.sort(key=lambda each: (-each[0], each[1].place.is_file()))
    best = [each for each in found if each[0] == found[0][0] and each[1].place.is_file() == found[0][1].place.is_file()]
    if len(best) > 1:
        places = " and ".join(shown(originals.place / start) for _, originals, start, _ in best[:2])
        raise ValueError(
            f"data.manual_dir={shown(root)} has {title} twice, in {places}; remove one of them, or name another folder"
        )
    _, originals, _, matches = best[0]
    return originals, matches


def lines(found: Originals, place: str, ending: str, remedy: str) -> list[tuple[str, str]]:
    """The lines of a text file that belongs to the images: (place in the file, for errors; line), without empty ones.

    Args:
      found: where the images are stored, which comes first; then everything in `place`.
      place: the setting `data.manual_dir`.
      ending: of the file's path, such as "Protocol/Pair_list_F.txt".
      remedy: what to do if there is none.

    Raises:
      FileNotFoundError: there is no such file.
    """
    for store in itertools.chain([found], _stores(pathlib.Path(place).expanduser(), [])):
        for name in store.names:
            if f"/{name}".endswith(f"/{ending}"):
                text = enumerate(store.text(name).splitlines(), start=1)
                return [(f"{shown(store.path(name))}, line {n}", line.strip()) for n, line in text if line.strip()]
    raise FileNotFoundError(f"{ending} not found in {shown(place)}; {remedy}")


def _stores(root: pathlib.Path, notes: list[str]) -> Iterator[Originals]:
    """The folder `root`, and each zip file in it; or the zip file `root`. Adds `notes` on files that are not read."""
    if root.is_dir():
        paths = sorted(
            pathlib.Path(folder, name) for folder, _, names in os.walk(root, followlinks=True) for name in names
        )
        yield Originals(root, _visible(path.relative_to(root).as_posix() for path in paths))
    else:
        paths = [root]
    for path in paths:
        if path.suffix.lower() in _PACKED:
            notes.append(f"; {shown(path)} is not read in place: unpack it")
        elif path.suffix.lower() == ".zip" or path == root:
            try:
                with zipfile.ZipFile(path) as archive:
                    yield Originals(path, _visible(sorted(archive.namelist())))
            except (zipfile.BadZipFile, OSError) as error:
                notes.append(f"; {shown(path)} is no zip file, or damaged ({error}): download it again")


def _visible(names):
    """Without files that macOS and others add, whose names begin with a dot."""
    return tuple(name for name in names if not name.endswith("/") and "/." not in f"/{name}")


def prepare(
    found: Originals, images: Mapping[str, File], how: image_cache.Preparation, title: str
) -> image_cache.Prepared:
    """Prepares images once, and reports on them; a file that cannot be read is an error, as protocols need all images.

    Args:
      found: where they are stored.
      images: name in `found` -> the image's identity, group and source.
      how: how to prepare them.
      title: of the data set, for the report.

    Raises:
      ValueError: images cannot be read; names up to ten of them.
    """
    names = list(images)
    return image_cache.prepare_images(
        [images[name].path for name in names],
        dataclasses.replace(how, all_needed=True),
        describe=lambda number: dataclasses.astuple(images[names[number]])[1:],
        content=lambda number: found.opened(names[number]),
        fingerprints=[f"{found.fingerprint(name)} {images[name]}" for name in names],
        name=title,
        tell=print,
    )
