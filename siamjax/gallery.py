"""Who is this? Known identities in a folder, which images can be asked for and added to with no training.

A gallery folder holds `gallery.json`, which says what counts, and thumbnails; embeddings and names lie beside them, or
in a database, see `stores.py`.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import io
import os
import pathlib
from collections.abc import Collection, Sequence

import numpy as np

from siamjax import database as databases
from siamjax import files, stores
from siamjax.data.images import opened, refusal, upright
from siamjax.network import Network as Verifier

_THUMBNAIL = 96  # pixels
_AT_ONCE = 10_000  # images that are read at a time


@dataclasses.dataclass(frozen=True)
class Match:
    """An enrolled image that was found: its `identity`, the `path` that it had, its `score` against the query, the
    calibrated `probability` that the two are the same, of this pair alone (those of several identities do not add up to
    1), and its `thumbnail` file."""

    identity: str
    path: str
    score: float
    probability: float
    thumbnail: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Identified:
    """`identity`, or None where the best score is not above the threshold; and `ranked`, the best match of each of the
    likeliest identities, best first."""

    identity: str | None
    ranked: tuple[Match, ...]


class Gallery:
    """The gallery in a folder, read when it is made; `enroll` and `remove` change the folder and this object."""

    def __init__(
        self,
        place: str | os.PathLike,
        run: str | os.PathLike | None = None,
        database: str | None = None,
        *,
        threshold: float | None = None,
        far: float | None = None,
    ):
        """Opens the gallery in `place`, or a new one, which needs the network of the `run` folder.

        With a `database`, the address of one of LanceDB (a folder, or such as "s3://bucket/folder"), embeddings and
        names are kept there: for more than memory holds, or several machines. All galleries of one network in one
        database are the same. An existing gallery knows its own. `threshold` or `far` are this object's,
        see `Verifier`.

        Raises:
          FileNotFoundError: there is no gallery in `place`, and no `run` is given; or the run is not there.
          ImportError: there is to be a database, and LanceDB is not installed.
          ValueError: the gallery is damaged, or was made by another network.
        """
        self.place = pathlib.Path(place).expanduser()
        index = stores.read_index(self.place)
        if index is None and run is None:
            raise FileNotFoundError(
                f"{self.place} holds no gallery; create one: siamjax enroll GALLERY --checkpoint RUNFOLDER IMAGES"
            )
        if run is None and not pathlib.Path(index["run"]).exists():
            raise FileNotFoundError(
                f"{self.place} needs the network in {index['run']}, which is not there; say where with --checkpoint"
            )
        self.verifier = Verifier.load(run or index["run"], threshold=threshold, far=far)
        about = {
            "format": stores.FORMAT,
            "run": str(pathlib.Path(run).resolve()) if run else index["run"],
            "network": self.verifier.fingerprint,
            "database": _address(database) if database or index is None else index["database"],
        }
        if index is not None:
            stores.check_same(self.place, index, about)
        store = stores.FolderStore if about["database"] is None else databases.DatabaseStore
        self._store = store(self.place, about, self.verifier, self.verifier.metric)

    def __len__(self) -> int:
        """Enrolled images."""
        return len(self._store)

    def identities(self) -> dict[str, int]:
        """Each identity, in the order of names, with the number of its images."""
        return self._store.identities()

    def enroll(
        self, paths: Sequence[str | os.PathLike], identities: Sequence[str], skip_unreadable: bool = False
    ) -> dict[int, str]:
        """Adds image files, each as one image of the identity in its place; all of them, or on an error none.

        Args:
          paths: the files.
          identities: as many names; those that differ only in how Unicode writes an accent are one.
          skip_unreadable: whether to leave out files that cannot be read; otherwise the first ten are named in the
            error.

        Returns:
          Why, for the number in `paths` of each file that was left out.

        Raises:
          FileNotFoundError: images are not there.
          OSError: the gallery cannot be written to.
          ValueError: images cannot be read, or an identity has no name.
        """
        if not paths:
            raise ValueError("there are no images to enroll")
        if not all(identities):
            raise ValueError("an identity needs a name")
        embeddings, rows, thumbnails, unreadable = [], [], {}, {}
        for start in range(0, len(paths), _AT_ONCE):
            part, good = paths[start : start + _AT_ONCE], []
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                found = list(pool.map(self._read, part))
            for number, (path, (image, thumbnail)) in enumerate(zip(part, found, strict=True), start):
                if image is None:
                    unreadable[number] = thumbnail
                    continue
                name = f"thumbnails/{hashlib.sha256(thumbnail).hexdigest()[:32]}.jpg"
                good.append(image)
                thumbnails[name] = thumbnail
                path = files.shown(os.path.abspath(path))
                rows.append({"identity": files.named(identities[number]), "path": path, "thumbnail": name})
            if good and (skip_unreadable or not unreadable):
                embeddings.append(self.verifier.embed(np.stack(good), "enrolling" if len(good) > 500 else ""))
        if unreadable and not (skip_unreadable and rows):
            missing = all(isinstance(error, FileNotFoundError) for error in unreadable.values())
            message = refusal([str(error) for error in unreadable.values()], len(paths), "--skip-unreadable")
            raise (FileNotFoundError if missing else ValueError)(message)
        with self._store.changing():
            for name, data in thumbnails.items():
                files.write(self.place / name, data)
            self._store.add(np.concatenate(embeddings), rows)
        return {number: str(error) for number, error in unreadable.items()}

    def _read(self, path):
        """The image and the thumbnail of a file; or None and the error."""
        try:
            return self.verifier.read([path])[0], _thumbnail(path)
        except (ValueError, OSError) as error:
            return None, error

    def folders(self, identities: Collection[str]) -> dict[str, set[str]]:
        """The folders that the enrolled images of these identities were in; none of an identity that has no images."""
        found = collections.defaultdict(set)
        for identity, path in self._store.paths({files.named(identity) for identity in identities}):
            found[identity].add(os.path.dirname(path))
        return dict(found)

    def remove(self, identity: str) -> int:
        """Takes all images of an identity out; returns their number.

        Raises:
          ValueError: the identity is not in the gallery.
        """
        with self._store.changing():
            removed = self._store.remove(files.named(identity))
        if not removed:
            raise ValueError(f"{self.place} holds no identity {identity!r}; `siamjax list` shows those that it holds")
        return removed

    def search(self, images: np.ndarray, k: int) -> list[list[Match]]:
        """The `k` enrolled images most like each of `images`, uint8 [n, h, w, c], best first."""
        return [self._matches(best) for best in self._store.best(self._embedded(images), k)]

    def identify(self, images: np.ndarray, k: int = 5) -> list[Identified]:
        """Who is in each of `images`, uint8 [n, h, w, c]: an identity is as like as the most like of its images."""
        embeddings, count = self._embedded(images), 8 * k
        found: list[Identified | None] = [None] * len(images)
        while None in found:
            if count > 8 * k:
                k = min(k, len(self.identities()))
            asked = [number for number, one in enumerate(found) if one is None]
            for number, best in zip(asked, self._store.best(embeddings[asked], count), strict=True):
                ranked = {match.identity: match for match in reversed(self._matches(best))}
                ranked = sorted(ranked.values(), key=lambda match: -match.score)
                if len(ranked) >= k or count >= len(self):
                    known = self.verifier.decision.same(ranked[0].score)
                    found[number] = Identified(ranked[0].identity if known else None, tuple(ranked[:k]))
            count *= 4  # All that were found are of a few identities.
        return found

    def _embedded(self, images):
        if not len(self):
            raise ValueError(f"{self.place} is empty; enroll images first")
        return self.verifier.embed(images)

    def _matches(self, best):
        probabilities = self.verifier.decision.probability(best.scores)
        return [
            Match(
                files.named(row["identity"]),
                row["path"],
                float(score),
                float(probability),
                self.place / row["thumbnail"],
            )
            for score, probability, row in zip(best.scores, probabilities, best.rows, strict=True)
        ]


def _address(database):
    """A folder by its full path: the gallery may be opened from elsewhere."""
    if database is None or "://" in database:
        return database
    return str(pathlib.Path(database).expanduser().resolve())


def _thumbnail(path):
    with opened(path) as image:
        image = upright(image, "RGB", 2 * _THUMBNAIL)
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=85)
    return buffer.getvalue()
