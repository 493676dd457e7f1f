"""Who is this? Known identities in a folder, which new images or vectors are compared with."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from siamjax import files
from siamjax.gallery import _manifest, _own
from siamjax.gallery._folder import FolderStore, missing
from siamjax.gallery._manifest import Manifest
from siamjax.gallery._names import name_of, names_of
from siamjax.gallery._types import Enrolled, Found, Identified, Match, Metric, Renamed, Store, UnknownIdentity
from siamjax.gallery._vectors import Vectors

if TYPE_CHECKING:
    from siamjax.network import Network

_AT_ONCE = 10_000  # images that are read at a time


class Gallery:
    """The gallery in a folder: gallery.json, thumbnails, and a store of embeddings and names, see `Store`.

    It is read when it is opened; `enroll`, `remove` and `rename` change the folder and this object. A gallery of
    vectors, see `of_vectors`, has no network, and methods of its own: `enroll_vectors`, `search_vectors` and
    `identify_vectors`.

    Attributes:
      folder: of the gallery.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        network: "Network | Vectors | str | os.PathLike[str] | None" = None,
        database: str | None = None,
        *,
        threshold: float | None = None,
        far: float | None = None,
    ):
        """Opens the gallery in `folder`, or a new one, whose first images create the folder.

        Args:
          folder: of the gallery.
          network: as `Network.load` takes it, or a network. Needed for a new gallery; an existing one knows its own,
            and is told here where that was moved. One of vectors has none.
          database: of a new gallery, the address of a LanceDB database (a folder, or such as "s3://bucket/folder")
            for embeddings and names: for more than memory holds, or for several machines. All galleries of one
            network in one database have the same images.
          threshold, far: see `Network.load`; of vectors, `threshold` is a score, see `of_vectors`.

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
        self._scorer = _scorer(self.folder, stored, network, threshold, far)
        metric = self._scorer.metric if isinstance(self._scorer, Vectors) else None
        manifest = Manifest(self._scorer.place, self._scorer.fingerprint, _manifest.address(database), vectors=metric)
        if stored is not None:
            if self._scorer.matches(stored.fingerprint):  # Perhaps by a version whose fingerprints were others.
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

    @classmethod
    def of_vectors(
        cls,
        folder: str | os.PathLike[str],
        metric: Metric = "cosine",
        database: str | None = None,
        *,
        threshold: float | None = None,
    ) -> Self:
        """A gallery of vectors that come from elsewhere, with no network: a new one, or the one in `folder`.

        Args:
          folder: of the gallery; its first vectors create it. `Gallery(folder)` opens it again.
          metric: "cosine", scores are the cosine of the angle between two vectors, −1..1; or "l2", scores are minus
            their Euclidean distance.
          database: see `__init__`; but each new gallery has a table of its own.
          threshold: the score above which `identify_vectors` takes two vectors for the same identity. It is not stored.

        Raises:
          ImportError: as `__init__` does.
          ValueError: the metric is not known; or the gallery in `folder` is damaged, has another metric, or images.
        """
        return cls(folder, Vectors(pathlib.Path(folder).expanduser(), metric, threshold), database)

    def _opened(self, manifest) -> Store:
        if manifest.database is None:
            return FolderStore(self.folder, manifest, self._scorer, self._scorer.metric)
        from siamjax.gallery._database import DatabaseStore

        return DatabaseStore(self.folder, manifest, self._scorer, self._scorer.metric)

    @property
    def network(self) -> "Network":
        """The network that its images were embedded by.

        Raises:
          ValueError: it is a gallery of vectors.
        """
        if isinstance(self._scorer, Vectors):
            raise ValueError(
                f"{self.folder} holds vectors, and has no network for images; use enroll_vectors, search_vectors and "
                "identify_vectors"
            )
        return self._scorer

    @property
    def verifier(self) -> "Network":
        """The `network`, by its former name."""
        return self.network

    def __len__(self) -> int:
        """The number of enrolled images or vectors."""
        return len(self._store)

    def identities(self) -> dict[str, int]:
        """The number of images of each identity, sorted by name."""
        return self._store.identities()

    def enroll(
        self,
        images: Sequence[str | os.PathLike[str]] | np.ndarray,
        identities: Sequence[object],
        skip_unreadable: bool = False,
    ) -> dict[int, str]:
        """Adds images, each to the identity at the same position: all of them, or on an error none.

        Args:
          images: n files; or inputs of the network, an array [n, ...], see `Network.embed`, which are not shown in
            pictures.
          identities: n names; two that differ only in blanks around or how Unicode writes an accent are the same.
          skip_unreadable: leaves out files that cannot be read; otherwise the error names the first ten of them.

        Returns:
          For the position of each file that was left out, the reason.

        Raises:
          FileNotFoundError: files are missing.
          OSError: the gallery cannot be written to.
          ValueError: files cannot be read as images, inputs do not fit the network, an identity has no name, or it is
            a gallery of vectors.
        """
        network, names = self.network, names_of(identities, len(images), "images")
        _manifest.check_writable(self.folder)  # Before images are embedded, which takes long.
        if not isinstance(images[0], str | bytes | os.PathLike):
            embeddings = network.embed(np.asarray(images), "enrolling" if len(images) > 500 else "")
            with self._store.changing():
                self._store.add(embeddings, [Enrolled(name, "", "") for name in names])
            return {}
        return self._enroll_files(network, images, names, skip_unreadable)

    def _enroll_files(self, network, paths, names, skip_unreadable):
        from siamjax.gallery import _files

        embeddings, images, thumbnails, unreadable = [], [], {}, {}
        for start in range(0, len(paths), _AT_ONCE):
            pixels = []
            for position, result in enumerate(_files.read(network, paths[start : start + _AT_ONCE]), start):
                if isinstance(result, Exception):
                    unreadable[position] = result
                    continue
                file = _own.thumbnail(result[1])
                thumbnails[file] = result[1]
                pixels.append(result[0])
                path = files.shown(os.path.abspath(paths[position]))
                images.append(Enrolled(names[position], path, file))
            if pixels and (skip_unreadable or not unreadable):
                embeddings.append(network.embed(np.stack(pixels), "enrolling" if len(pixels) > 500 else ""))
        if unreadable and not (skip_unreadable and images):
            raise _files.refused(list(unreadable.values()), len(paths))
        with self._store.changing():
            _own.check_thumbnails(self.folder)
            for file, content in thumbnails.items():
                files.write(self.folder / file, content, private=True)
            self._store.add(np.concatenate(embeddings), images)
        return {position: str(error) for position, error in unreadable.items()}

    def enroll_vectors(
        self, vectors: npt.ArrayLike, identities: Sequence[object], names: Sequence[object] | None = None
    ) -> None:
        """Adds vectors to a gallery of vectors, each to the identity at the same position: all, or on an error none.

        Args:
          vectors: numbers [n, d], stored as float32. All vectors of a gallery have the same d.
          identities: n names; numbers are stored as texts.
          names: n texts to tell vectors from one another, such as file names, which matches have as `path`.

        Raises:
          OSError: the gallery cannot be written to.
          ValueError: the vectors are not numbers [n, d], or not finite, or by cosine zero; an identity has no name; or
            it is a gallery of images.
        """
        scorer = self._of_vectors()
        count = len(scorer.checked(vectors, None))
        of_each = names_of(identities, count, "vectors")
        if names is not None and len(names) != count:
            raise ValueError(f"names: found {len(names)}, expected one for each of {count} vectors")
        paths = [""] * count if names is None else map(files.shown, names)
        with self._store.changing():
            # Others may have enrolled the first vectors since it was opened.
            checked = scorer.checked(vectors, self._store.dimension())
            self._store.add(checked, [Enrolled(*both, "") for both in zip(of_each, paths, strict=True)])

    def folders(self, identities: Collection[str]) -> dict[str, set[str]]:
        """For each of these identities that has images, the folders that they were enrolled from."""
        found = collections.defaultdict(set)
        for image in self._store.images({files.named(identity) for identity in identities}):
            found[image.identity].add(os.path.dirname(image.path))
        return dict(found)

    def thumbnails(self, identities: Collection[str]) -> dict[str, pathlib.Path]:
        """For each of these identities that has one, the thumbnail of an image of it."""
        images = self._store.images({files.named(identity) for identity in identities})
        return {each.identity: self.folder / each.thumbnail for each in images if _own.is_thumbnail(each.thumbnail)}

    def remove(self, identity: str) -> int:
        """Removes all images of an identity; returns their number.

        Raises:
          UnknownIdentity: a ValueError; the identity is not in the gallery.
        """
        with self._store.changing():
            removed = self._store.remove(files.named(identity))
        if not removed:
            raise self._unknown(identity)
        return removed

    def rename(self, identity: str, to: object) -> Renamed:
        """Gives an identity the name `to`; if another one has it, the two are merged.

        Raises:
          UnknownIdentity: a ValueError; the identity is not in the gallery.
          ValueError: `to` is empty, or the name that the identity has already.
        """
        before, name = files.named(identity), name_of(to, "to")
        with self._store.changing():
            there = len(self._store.images([name]))
            if there and name == before:
                raise ValueError(f"to={to!r} is the name that this identity has already; give it another one")
            renamed = self._store.rename(before, name)
        if not renamed:
            raise self._unknown(identity)
        return Renamed(name, renamed, merged=there > 0)

    def _unknown(self, identity):
        return UnknownIdentity(f"{self.folder} has no identity {identity!r}; `siamjax list` shows those that it has")

    def search(self, images: np.ndarray, k: int, by: "Network | None" = None) -> list[list[Match]]:
        """The `k` enrolled images most similar to each of `images` [n, ...], see `Network.embed`, best first.

        `by` embeds them, where that is not the gallery's network but its other tower; see `Network.tower`.
        """
        own = self.network
        return self._search((by or own).embed(images), k)

    def search_vectors(self, vectors: npt.ArrayLike, k: int) -> list[list[Match]]:
        """The `k` enrolled vectors most similar to each of `vectors` [n, d], best first; raises as `enroll_vectors`."""
        return self._search(self._of_vectors().checked(vectors, self._store.dimension()), k)

    def identify(self, images: np.ndarray, k: int = 5, by: "Network | None" = None) -> list[Identified]:
        """Who is in each of `images` [n, ...], see `Network.embed`, with `k` identities ranked by their best image.

        `by` as in `search`.
        """
        own = self.network
        return self._identify((by or own).embed(images), k)

    def identify_vectors(self, vectors: npt.ArrayLike, k: int = 5) -> list[Identified]:
        """Whose each of `vectors` [n, d] is, with `k` identities ranked by their most similar vector.

        Raises:
          ValueError: the gallery was opened without a threshold; or as `enroll_vectors`.
        """
        scorer = self._of_vectors()
        if np.isnan(scorer.decision.threshold):
            raise ValueError(
                f"{self.folder} has no threshold to decide by; open it with one, Gallery(folder, threshold=SCORE), or "
                "use search_vectors"
            )
        return self._identify(scorer.checked(vectors, self._store.dimension()), k)

    def _search(self, embeddings, k):
        self._check_search(k)
        return [self._matches(found) for found in self._store.best(embeddings, k)]

    def _identify(self, embeddings, k):
        self._check_search(k)
        count, total = 8 * k, len(embeddings)
        answers: dict[int, Identified] = {}
        while len(answers) < total:
            if count > 8 * k:
                k = min(k, len(self.identities()))
            waiting = [number for number in range(total) if number not in answers]
            for number, found in zip(waiting, self._store.best(embeddings[waiting], count), strict=True):
                best = {match.identity: match for match in reversed(self._matches(found))}
                ranked = sorted(best.values(), key=lambda match: -match.score)
                if len(ranked) >= k or count >= len(self):
                    same = self._scorer.decision.same(np.array(ranked[0].score))
                    answers[number] = Identified(ranked[0].identity if same else None, tuple(ranked[:k]))
            count *= 4  # All images found so far are of fewer than k identities.
        return [answers[number] for number in range(total)]

    def _check_search(self, k):
        if k < 1:
            raise ValueError(f"k={k}: expected 1 or more")
        if not len(self):
            raise ValueError(f"{self.folder} is empty; enroll something first")

    def _of_vectors(self) -> Vectors:
        if not isinstance(self._scorer, Vectors):
            raise ValueError(
                f"{self.folder} holds images, which its network embeds; use enroll, search and identify. "
                "Gallery.of_vectors(NEW_FOLDER) makes a gallery of vectors"
            )
        return self._scorer

    def _matches(self, found: Found) -> list[Match]:
        probabilities = self._scorer.probability(found.scores)
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


def _scorer(folder, stored: Manifest | None, network, threshold, far) -> "Network | Vectors":
    """The network that is given, or what the manifest `stored` names."""
    if isinstance(network, Vectors):
        return network
    if stored is not None and stored.vectors is not None:
        if network is not None or far is not None:
            given = "network" if network is not None else "far"
            raise ValueError(f"{folder} holds {stored.content}, without a network; open it without {given}=")
        return Vectors(folder, stored.vectors, threshold)
    from siamjax.network import Network  # Not needed to list identities.

    if isinstance(network, Network):
        if threshold is not None or far is not None:
            raise ValueError("threshold and far are of a network that the gallery loads; give them to Network.load")
        return network
    if network is None:
        network = stored.network if stored else ""
        if not network or (os.path.isabs(network) and not os.path.exists(network)):
            which = f"in {network}, which was not found" if network else "of its images, which was never saved"
            raise FileNotFoundError(
                f"{folder} needs the network {which}; name it with --checkpoint, or Gallery(FOLDER, NETWORK)"
            )
    return Network.load(network, threshold=threshold, far=far)
