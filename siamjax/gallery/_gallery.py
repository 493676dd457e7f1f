"""Who is this? Known identities in a folder, which new images are compared with."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from siamjax import files
from siamjax.gallery import _manifest, _own
from siamjax.gallery._folder import FolderStore, missing
from siamjax.gallery._manifest import Manifest
from siamjax.gallery._types import Enrolled, Found, Identified, Match, Store

if TYPE_CHECKING:
    from siamjax.network import Network

_AT_ONCE = 10_000  # images that are read at a time


class Gallery:
    """The gallery in a folder: gallery.json, thumbnails, and a store of embeddings and names, see `Store`.

    It is read when it is opened; `enroll` and `remove` change the folder and this object.

    Attributes:
      folder: of the gallery.
      network: the network that its images were embedded by.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        network: "Network | str | os.PathLike[str] | None" = None,
        database: str | None = None,
        *,
        threshold: float | None = None,
        far: float | None = None,
    ):
        """Opens the gallery in `folder`, or a new one, whose first images create the folder.

        Args:
          folder: of the gallery.
          network: as `Network.load` takes it, or a network. Needed for a new gallery; an existing one knows its own,
            and is told here where that was moved.
          database: of a new gallery, the address of a LanceDB database (a folder, or such as "s3://bucket/folder")
            for embeddings and names: for more than memory holds, or for several machines. All galleries of one
            network in one database have the same images.
          threshold, far: see `Network.load`.

        Raises:
          FileNotFoundError: there is no gallery in `folder`, and no `network` is given; or the network is not found.
          ImportError: the gallery is in a database, and LanceDB is not installed.
          ValueError: the gallery is damaged, or was made by another network; a new one's folder has other files; or a
            threshold is given for a network that is loaded already.
        """
        self.folder = pathlib.Path(folder).expanduser()
        stored = _manifest.read(self.folder)
        if stored is None:
            _check_new(self.folder, network)
        self.network = _network(self.folder, stored, network, threshold, far)
        manifest = Manifest(self.network.place, self.network.fingerprint, _address(database))
        if stored is not None:
            if self.network.matches(stored.fingerprint):  # Perhaps by a version whose fingerprints were others.
                manifest = dataclasses.replace(manifest, fingerprint=stored.fingerprint)
            manifest = dataclasses.replace(manifest, database=manifest.database or stored.database)
            manifest.check_same(self.folder, stored)
        self._store = self._opened(manifest)

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        network: "Network | str | os.PathLike[str]",
        database: str | None = None,
    ) -> Self:
        """A new gallery, see `__init__`; its first images create the folder.

        Raises:
          ValueError: the folder holds a gallery, or other files.
        """
        if _manifest.read(pathlib.Path(folder).expanduser()) is not None:
            raise ValueError(f"{folder} already holds a gallery; name another folder, or open it without creating it")
        return cls(folder, network, database)

    def _opened(self, manifest) -> Store:
        if manifest.database is None:
            return FolderStore(self.folder, manifest, self.network, self.network.metric)
        from siamjax.gallery._database import DatabaseStore

        return DatabaseStore(self.folder, manifest, self.network, self.network.metric)

    @property
    def verifier(self) -> "Network":
        """The `network`, by its former name."""
        return self.network

    def __len__(self) -> int:
        """The number of enrolled images."""
        return len(self._store)

    def identities(self) -> dict[str, int]:
        """The number of images of each identity, sorted by name."""
        return self._store.identities()

    def enroll(
        self, paths: Sequence[str | os.PathLike[str]], identities: Sequence[str], skip_unreadable: bool = False
    ) -> dict[int, str]:
        """Adds image files, each to the identity at the same position: all of them, or on an error none.

        Args:
          paths: n files.
          identities: n names; two that differ only in how Unicode writes an accent are the same.
          skip_unreadable: leaves out files that cannot be read; otherwise the error names the first ten of them.

        Returns:
          For the position of each file that was left out, the reason.

        Raises:
          FileNotFoundError: files are missing.
          OSError: the gallery cannot be written to.
          ValueError: files cannot be read as images, or an identity has no name.
        """
        if not paths:
            raise ValueError("there are no images to enroll")
        if not all(identities):
            raise ValueError("an identity needs a name")
        from siamjax.gallery import _files

        embeddings, images, thumbnails, unreadable = [], [], {}, {}
        for start in range(0, len(paths), _AT_ONCE):
            pixels = []
            for position, result in enumerate(_files.read(self.network, paths[start : start + _AT_ONCE]), start):
                if isinstance(result, Exception):
                    unreadable[position] = result
                    continue
                file = _own.thumbnail(result[1])
                thumbnails[file] = result[1]
                pixels.append(result[0])
                path = files.shown(os.path.abspath(paths[position]))
                images.append(Enrolled(files.named(identities[position]), path, file))
            if pixels and (skip_unreadable or not unreadable):
                embeddings.append(self.network.embed(np.stack(pixels), "enrolling" if len(pixels) > 500 else ""))
        if unreadable and not (skip_unreadable and images):
            raise _files.refused(list(unreadable.values()), len(paths))
        with self._store.changing():
            _own.check_thumbnails(self.folder)
            for file, content in thumbnails.items():
                files.write(self.folder / file, content, private=True)
            self._store.add(np.concatenate(embeddings), images)
        return {position: str(error) for position, error in unreadable.items()}

    def folders(self, identities: Collection[str]) -> dict[str, set[str]]:
        """For each of these identities that has images, the folders that they were enrolled from."""
        found = collections.defaultdict(set)
        for identity, path in self._store.paths({files.named(identity) for identity in identities}):
            found[identity].add(os.path.dirname(path))
        return dict(found)

    def remove(self, identity: str) -> int:
        """Removes all images of an identity; returns their number.

        Raises:
          ValueError: the identity is not in the gallery.
        """
        with self._store.changing():
            removed = self._store.remove(files.named(identity))
        if not removed:
            raise ValueError(f"{self.folder} has no identity {identity!r}; `siamjax list` shows those that it has")
        return removed

    def search(self, images: np.ndarray, k: int) -> list[list[Match]]:
        """The `k` enrolled images most similar to each of `images`, uint8 [n, h, w, c], best first."""
        return [self._matches(found) for found in self._store.best(self._embedded(images), k)]

    def identify(self, images: np.ndarray, k: int = 5) -> list[Identified]:
        """Who is in each of `images`, uint8 [n, h, w, c], with `k` identities ranked by their most similar image."""
        embeddings, count = self._embedded(images), 8 * k
        answers: dict[int, Identified] = {}
        while len(answers) < len(images):
            if count > 8 * k:
                k = min(k, len(self.identities()))
            waiting = [number for number in range(len(images)) if number not in answers]
            for number, found in zip(waiting, self._store.best(embeddings[waiting], count), strict=True):
                best = {match.identity: match for match in reversed(self._matches(found))}
                ranked = sorted(best.values(), key=lambda match: -match.score)
                if len(ranked) >= k or count >= len(self):
                    same = self.network.decision.same(np.array(ranked[0].score))
                    answers[number] = Identified(ranked[0].identity if same else None, tuple(ranked[:k]))
            count *= 4  # All images found so far are of fewer than k identities.
        return [answers[number] for number in range(len(images))]

    def _embedded(self, images):
        if not len(self):
            raise ValueError(f"{self.folder} is empty; enroll images first")
        return self.network.embed(images)

    def _matches(self, found: Found) -> list[Match]:
        probabilities = self.network.decision.probability(found.scores)
        return [
            Match(
                files.named(image.identity),
                files.shown(image.path),
                float(score),
                float(probability),
                self.folder / (image.thumbnail if _own.is_thumbnail(image.thumbnail) else _own.THUMBNAILS),
            )
            for score, probability, image in zip(found.scores, probabilities, found.images, strict=True)
        ]


def _check_new(folder, network):
    """Refuses to make a gallery without a network, or among other files."""
    if network is None:
        raise FileNotFoundError(missing(folder))
    if others := _own.foreign(folder):
        raise ValueError(
            f"{folder} is no gallery and not empty ({files.shown(others[0])!r}, ...); name a new folder for the gallery"
        )


def _network(folder, stored, network, threshold, far):
    """The network that is given, or that the manifest `stored` names."""
    from siamjax.network import Network  # Not needed to list identities.

    if isinstance(network, Network):
        if threshold is not None or far is not None:
            raise ValueError("threshold and far are of a network that the gallery loads; give them to Network.load")
        return network
    if network is None:
        network = stored.network
        if not network or (os.path.isabs(network) and not os.path.exists(network)):
            which = f"in {network}, which was not found" if network else "of its images, which was never saved"
            raise FileNotFoundError(f"{folder} needs the network {which}; name it with --checkpoint")
    return Network.load(network, threshold=threshold, far=far)


def _address(database):
    """A folder by its full path: the gallery may be opened from elsewhere."""
    if database is None or "://" in database:
        return database
    return str(pathlib.Path(database).expanduser().resolve())
