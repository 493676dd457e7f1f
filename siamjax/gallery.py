"""Who is this? Known identities in a folder, which images can be asked for and added to with no training.

A gallery folder holds `gallery.json`, which says what counts, and the parts that it names: embeddings and identities,
each part as it was enrolled; and thumbnails. What is written gets its name when it is whole, `gallery.json` last: a
reader, or a process killed at any moment, finds the old gallery or the new one. Writers take turns by a lock.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import uuid
import zipfile
from collections.abc import Sequence

import filelock
import numpy as np
from PIL import Image

from siamjax import files
from siamjax.data.folder import upright
from siamjax.verifier import Verifier

_FORMAT = 1
_THUMBNAIL = 96  # pixels


@dataclasses.dataclass(frozen=True)
class Match:
    """An enrolled image that was found: its `identity`, the `path` that it had, its `score` against the query, the
    calibrated `probability` that the two are the same, and its `thumbnail` file."""

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

    def __init__(self, place: str | os.PathLike, run: str | os.PathLike | None = None):
        """Opens the gallery in `place`, or a new one, which needs the network of the `run` folder.

        Raises:
          FileNotFoundError: there is no gallery in `place`, and no `run` is given; or the run is not there.
          ValueError: the gallery is damaged, or was made by another network.
        """
        self.place = pathlib.Path(place).expanduser()
        self._index = self._read_index()
        if self._index is None and run is None:
            raise FileNotFoundError(f"{self.place} holds no gallery; create one with --checkpoint RUNFOLDER")
        self.verifier = Verifier(run or self._index["run"])
        if self._index is None:
            fingerprint = self.verifier.fingerprint
            self._index = {
                "format": _FORMAT,
                "run": str(pathlib.Path(run).resolve()),
                "network": fingerprint,
                "parts": [],
            }
        self._check_network(self._index)
        self._load()

    def __len__(self) -> int:
        """Enrolled images."""
        return len(self._identities)

    def identities(self) -> dict[str, int]:
        """Each identity, in the order of names, with the number of its images."""
        names, counts = np.unique(np.array(self._identities, dtype=object).astype(str), return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    def enroll(self, paths: Sequence[str | os.PathLike], identities: Sequence[str]):
        """Adds image files, each as one image of the identity in its place; all of them, or on an error none.

        Raises:
          FileNotFoundError: an image is not there.
          ValueError: an image cannot be read, or an identity has no name.
        """
        if not paths:
            raise ValueError("there are no images to enroll")
        if not all(identities):
            raise ValueError("an identity needs a name")
        embeddings = self.verifier.embed(self.verifier.read(paths), "enrolling" if len(paths) > 500 else "")
        thumbnails = [_thumbnail(path) for path in paths]
        with self._alone():
            self._catch_up()
            names = [self._keep(f"thumbnails/{hashlib.sha256(data).hexdigest()[:32]}.jpg", data) for data in thumbnails]
            rows = [
                {"identity": identity, "path": files.shown(os.path.abspath(path)), "thumbnail": name}
                for identity, path, name in zip(identities, paths, names, strict=True)
            ]
            self._commit([*self._index["parts"], self._write_part(embeddings, rows)])

    def remove(self, identity: str) -> int:
        """Takes all images of an identity out; returns their number.

        Raises:
          ValueError: the identity is not in the gallery.
        """
        with self._alone():
            self._catch_up()
            kept = [number for number, name in enumerate(self._identities) if name != identity]
            removed = len(self) - len(kept)
            if not removed:
                raise ValueError(
                    f"{self.place} holds no identity {identity!r}; `siamjax list` shows those that it holds"
                )
            rows = [self._rows[number] for number in kept]
            self._commit([self._write_part(self._embeddings[kept], rows)] if kept else [])
        return removed

    def search(self, images: np.ndarray, k: int) -> list[list[Match]]:
        """The `k` enrolled images most like each of `images`, uint8 [n, h, w, c], best first."""
        scores = self._scores(images)
        return [[self._match(number, row) for number in np.argsort(-row, kind="stable")[:k]] for row in scores]

    def identify(self, images: np.ndarray, k: int = 5) -> list[Identified]:
        """Who is in each of `images`, uint8 [n, h, w, c]: an identity is as like as the most like of its images."""
        found = []
        for row in self._scores(images):
            best = {}
            for number in np.argsort(-row, kind="stable"):
                if len(best) == k:
                    break
                if self._identities[number] not in best:
                    best[self._identities[number]] = self._match(number, row)
            ranked = tuple(best.values())
            known = self.verifier.decision.same(ranked[0].score)
            found.append(Identified(ranked[0].identity if known else None, ranked))
        return found

    def _scores(self, images):
        if not len(self):
            raise ValueError(f"{self.place} is empty; enroll images first")
        return self.verifier.score_all(self.verifier.embed(images), self._embeddings)

    def _match(self, number, scores):
        row, score = self._rows[number], float(scores[number])
        probability = float(self.verifier.decision.probability(score))
        return Match(row["identity"], row["path"], score, probability, self.place / row["thumbnail"])

    def _read_index(self):
        path = self.place / "gallery.json"
        if self.place.exists() and not self.place.is_dir():
            raise ValueError(f"{self.place} is a file; name a folder for the gallery")
        if not path.exists():
            return None
        try:
            index = json.loads(path.read_text())
            if index["format"] != _FORMAT:
                raise ValueError(f"format {index['format']}, expected {_FORMAT}")
            return index
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged, or of another version ({error})") from error

    def _check_network(self, index):
        if index["network"] != self.verifier.fingerprint:
            raise ValueError(
                f"{self.place} was made by another network, whose embeddings this one cannot read; use the run in "
                f"{index['run']} as it was, or enroll the images into a new gallery"
            )

    def _load(self):
        try:
            self._load_parts()
        except FileNotFoundError:
            # A writer has put others in their place since the index was read.
            self._index = self._read_index()
            self._load_parts()

    def _load_parts(self):
        embeddings, self._rows = [], []
        for part in self._index["parts"]:
            try:
                with np.load(self.place / part["file"]) as file:
                    embeddings.append(file["embeddings"])
                    self._rows += json.loads(file["rows"].tobytes())
            except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                raise ValueError(f"{self.place / part['file']} is damaged ({error})") from error
        self._embeddings = np.concatenate(embeddings) if embeddings else None
        self._identities = [row["identity"] for row in self._rows]

    @contextlib.contextmanager
    def _alone(self):
        self.place.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.place / ".lock"):
            yield

    def _catch_up(self):
        """Reads what another process wrote since."""
        index = self._read_index()
        if index is not None and index != self._index:
            self._check_network(index)
            self._index = index
            self._load()

    def _write_part(self, embeddings, rows):
        buffer = io.BytesIO()
        np.savez(buffer, embeddings=embeddings, rows=np.frombuffer(json.dumps(rows).encode(), np.uint8))
        return {"file": self._keep(f"part-{uuid.uuid4().hex}.npz", buffer.getvalue()), "images": len(rows)}

    def _commit(self, parts):
        index = self._index | {"parts": parts}
        self._keep("gallery.json", json.dumps(index, indent=1).encode())
        self._index = index
        self._load()
        # What no gallery names any more: of parts that were written anew, and of writers that were killed.
        used = {part["file"] for part in self._index["parts"]} | {row["thumbnail"] for row in self._rows}
        for pattern in ("part-*", "thumbnails/*", "*.partial"):
            for path in self.place.glob(pattern):
                if str(path.relative_to(self.place)) not in used:
                    path.unlink(missing_ok=True)

    def _keep(self, name, content):
        """Writes a file of the gallery; returns its name."""
        files.write(self.place / name, content)
        return name


def _thumbnail(path):
    with Image.open(path) as image:
        image = upright(image, "RGB", 2 * _THUMBNAIL)
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=85)
    return buffer.getvalue()
