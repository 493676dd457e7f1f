"""Where a gallery keeps embeddings and names, and how it finds the likest: in its folder; or see `database.py`.

A store is asked for the `best` of what it holds; it answers with the head's own scores, whatever found them.
"""

import contextlib
import dataclasses
import io
import json
import pathlib
import uuid
import zipfile

import filelock
import numpy as np

from siamjax import files, lookup

# Up to so many images all are scored, in JAX; then the nearest are looked up by FAISS: compared one by one, through a
# graph (HNSW), and, compressed, through a graph of cells. See docs/gallery.md for what each costs.
_ALL, _FLAT, _GRAPH = 20_000, 50_000, 2_000_000
LOOK_UP = 4  # times as many are looked up as are asked for, and then scored
_LEFT = 1000  # images that may be missing in an index, or be in it though they are gone
_NOTHING = {"last": -1}
COLUMNS = ("identity", "path", "thumbnail")

FORMAT = 2  # of gallery.json


@dataclasses.dataclass(frozen=True)
class Best:
    """What one query found: `scores` float [m], highest first, and the `rows`, m times identity, path, thumbnail."""

    scores: np.ndarray
    rows: list[dict[str, str]]


class FolderStore:
    """In the gallery's folder: `gallery.json` names what counts, parts as they were added, and the index of FAISS.

    What is written gets its name when it is whole, `gallery.json` last: a reader, or a process that is killed at any
    moment, finds the old gallery or the new one. Writers take turns by a lock.
    """

    def __init__(self, place: pathlib.Path, about: dict, scorer, metric: str | None):
        """Opens what lies in `place`, or nothing yet.

        Args:
          place: the gallery's folder.
          about: what `gallery.json` says of the gallery, whatever is in it.
          scorer: with the methods `score_pairs` and `score_all` of `Verifier`.
          metric: "l2" or "cosine", where the nearest by it are those with the highest scores; None where no metric
            says, and all are scored whatever their number.
        """
        self._place, self._about, self._scorer, self._metric = place, about, scorer, metric
        self._start()

    def _start(self):
        self._index = read_index(self._place) or self._about | {"parts": [], "next": 0, "lookup": None}
        self._opened = None, None  # the file of an index of FAISS, and the index
        self._load()

    def __len__(self) -> int:
        return len(self._numbers)

    def identities(self) -> dict[str, int]:
        """Each identity, in the order of names, with the number of its images."""
        return counted(self._columns["identity"])

    @contextlib.contextmanager
    def changing(self):
        """Alone with the folder, and with all that others wrote before."""
        with alone(self._place):
            index = read_index(self._place)
            if index is not None and index != self._index:
                check_same(self._place, index, self._about)
                self._index = index
                self._load()
            try:
                yield
            except BaseException:
                # What was not written whole is not there; what was, is.
                self._start()
                self._tidy()
                raise

    def add(self, embeddings: np.ndarray, rows: list[dict[str, str]]):
        """Adds embeddings [n, d], each with its row; to be called while `changing`."""
        first = self._index["next"]
        numbers = np.arange(first, first + len(rows))
        columns = {name: [row[name] for row in rows] for name in COLUMNS}
        part = self._write(numbers, embeddings, columns)
        self._append(numbers, embeddings, columns)
        self._commit([*self._index["parts"], part], first + len(rows))

    def remove(self, identity: str) -> int:
        """Takes an identity out, and the files that nothing needs; to be called while `changing`."""
        kept = np.array([name != identity for name in self._columns["identity"]], bool)
        removed = int(np.sum(~kept))
        if removed:
            self._numbers, self._embeddings = self._numbers[kept], self._embeddings[kept]
            for name, values in self._columns.items():
                self._columns[name] = [value for value, keep in zip(values, kept, strict=True) if keep]
            parts = [self._write(self._numbers, self._embeddings, self._columns)] if kept.any() else []
            self._commit(parts, self._index["next"])
            self._tidy()
        return removed

    def best(self, queries: np.ndarray, count: int) -> list[Best]:
        """The `count` that score highest against each of `queries` [q, d], or all that there are."""
        if not self._lookups:
            scores = self._scorer.score_all(queries, self._embeddings)
            chosen = np.broadcast_to(np.arange(len(self)), scores.shape)
        else:
            chosen, there = self._nearest(queries, count)
            scores = score_each(self._scorer, queries, self._embeddings[chosen])
            scores[~there] = -np.inf
        return [self._sorted(row, numbers, count) for row, numbers in zip(scores, chosen, strict=True)]

    def _nearest(self, queries, count):
        """Numbers int [q, m] of the rows that FAISS finds, and bool [q, m] which count: `count` at least, or all."""
        vectors, look_up = lookup.for_metric(queries, self._metric), LOOK_UP * count
        while True:
            look_up = min(look_up, len(self))
            found = np.concatenate([index.search(vectors, look_up)[1] for index in self._lookups], axis=1)
            position = np.searchsorted(self._numbers, found).clip(max=len(self) - 1)
            there = self._numbers[position] == found  # Others were removed since, or fewer were found.
            if look_up == len(self) or np.all(there.sum(axis=1) >= count):
                return np.where(there, position, 0), there
            look_up *= LOOK_UP

    def _sorted(self, scores, chosen, count):
        if count < len(scores):
            some = np.sort(np.argpartition(-scores, count - 1)[:count])
            scores, chosen = scores[some], chosen[some]
        order = [number for number in np.argsort(-scores, kind="stable") if np.isfinite(scores[number])]
        rows = [{name: self._columns[name][chosen[number]] for name in COLUMNS} for number in order]
        return Best(scores[order], rows)

    def _load(self):
        try:
            self._load_parts()
        except FileNotFoundError:
            # A writer has put others in their place since the index was read.
            self._index = read_index(self._place)
            self._load_parts()

    def _load_parts(self):
        self._numbers, self._embeddings = np.zeros(0, np.int64), None
        self._columns = {name: [] for name in COLUMNS}
        for part in self._index["parts"]:
            with reading(self._place / part["file"]) as file:
                self._append(file["numbers"], file["embeddings"], json.loads(file["columns"].tobytes()))
        self._look_up(self._index["lookup"])

    def _append(self, numbers, embeddings, columns):
        self._numbers = np.concatenate([self._numbers, numbers])
        known = [] if self._embeddings is None else [self._embeddings]
        self._embeddings = np.concatenate([*known, embeddings])
        for name in COLUMNS:
            self._columns[name] += columns[name]

    def _write(self, numbers, embeddings, columns):
        buffer = io.BytesIO()
        text = np.frombuffer(json.dumps(columns).encode(), np.uint8)
        np.savez(buffer, numbers=numbers, embeddings=embeddings, columns=text)
        name = f"part-{uuid.uuid4().hex}.npz"
        files.write(self._place / name, buffer.getvalue())
        return {"file": name, "images": len(numbers)}

    def _commit(self, parts, following):
        index = self._index | {"run": self._about["run"], "parts": parts, "next": following}
        index["lookup"] = self._covered()
        self._look_up(index["lookup"])
        files.write(self._place / "gallery.json", json.dumps(index, indent=1).encode())
        replaced, self._index = index["lookup"] != self._index["lookup"], index
        if replaced:
            self._tidy()

    def _tidy(self):
        """Deletes what nothing names any more: parts that were written anew, and of writers that were killed."""
        used = {part["file"] for part in self._index["parts"]} | set(self._columns["thumbnail"])
        used.add((self._index["lookup"] or {}).get("file"))
        for pattern in ("part-*", "lookup-*", "thumbnails/*", "*.partial"):
            for path in self._place.glob(pattern):
                if str(path.relative_to(self._place)) not in used:
                    path.unlink(missing_ok=True)

    def _faiss(self):
        """FAISS, where it is of use: None with few images, with a head that no metric follows, or where it is not."""
        if self._metric is None or len(self) <= _ALL:
            return None
        try:
            import faiss
        except ImportError:
            return None
        return faiss

    def _look_up(self, entry):
        """Opens the index that `gallery.json` has an `entry` of, and makes one of all that came after it."""
        faiss, self._lookups = self._faiss(), []
        if faiss is None:
            return
        if entry:
            if entry["file"] != self._opened[0]:
                self._opened = entry["file"], lookup.read(faiss, self._place / entry["file"])
            self._lookups.append(self._opened[1])
        after = self._numbers > (entry or _NOTHING)["last"]
        if after.any():
            self._lookups.append(
                lookup.make(faiss, self._numbers[after], self._embeddings[after], self._metric, "flat")
            )

    def _covered(self):
        """The entry in `gallery.json` of an index that holds most images, and few that are gone: as it was, with more
        in it, or new. None while all can be compared one by one."""
        faiss, entry, kind = self._faiss(), self._index["lookup"], _kind(len(self))
        if faiss is None or kind == "flat":
            return None
        after = self._numbers > (entry or _NOTHING)["last"]
        held = self._opened[1].ntotal if entry else 0
        gone = held - int(np.sum(~after))
        if entry is None or entry["kind"] != kind or gone > _LEFT + held // 10:
            index = lookup.make(faiss, self._numbers, self._embeddings, self._metric, kind)
        elif np.sum(after) > _LEFT + held // 100:
            index = self._opened[1]
            index.add_with_ids(lookup.for_metric(self._embeddings[after], self._metric), self._numbers[after])
        else:
            return entry
        name = f"lookup-{uuid.uuid4().hex}.faiss"
        files.write(self._place / name, faiss.serialize_index(index))
        self._opened = name, index
        return {"file": name, "kind": kind, "last": int(self._numbers[-1])}


def read_index(place: pathlib.Path) -> dict | None:
    """What `gallery.json` in `place` holds; None where there is none.

    Raises:
      ValueError: it is damaged, or of another version.
    """
    path = place / "gallery.json"
    if place.exists() and not place.is_dir():
        raise ValueError(f"{place} is a file; name a folder for the gallery")
    if not path.exists():
        return None
    try:
        index = json.loads(path.read_text())
        if index["format"] != FORMAT:
            raise ValueError(f"format {index['format']}, expected {FORMAT}: enroll the images anew")
        return index
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged, or of another version ({error})") from error


def identities(place: pathlib.Path) -> dict[str, int]:
    """Each identity of the gallery in `place`, in the order of names, with the number of its images; loads no network.

    Raises:
      FileNotFoundError: there is no gallery.
      ValueError, OSError: the gallery is damaged, or its database cannot be reached.
    """
    index = read_index(place)
    if index is None:
        raise FileNotFoundError(
            f"{place} holds no gallery; create one: siamjax enroll GALLERY --checkpoint RUNFOLDER IMAGES"
        )
    if index["database"] is not None:
        from siamjax.database import DatabaseStore

        return DatabaseStore(place, index, None, "l2").identities()
    names = []
    try:
        for part in index["parts"]:
            with reading(place / part["file"]) as file:
                names += json.loads(file["columns"].tobytes())["identity"]
    except FileNotFoundError:
        if read_index(place) == index:
            raise
        return identities(place)  # A writer has put others in their place since the index was read.
    return counted(names)


@contextlib.contextmanager
def reading(path: pathlib.Path):
    """The arrays of a part of a gallery.

    Raises:
      ValueError: the file is damaged.
    """
    try:
        with np.load(path) as file:
            yield file
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged ({error})") from error


def check_same(place: pathlib.Path, index: dict, about: dict):
    """Raises ValueError unless the gallery that `index` describes is of the network, and where, `about` says."""
    if index["network"] != about["network"]:
        raise ValueError(
            f"{place} was made by another network, whose embeddings this one cannot read; use the run in "
            f"{index['run']} as it was, or enroll the images into a new gallery"
        )
    if index["database"] != about["database"]:
        raise ValueError(f"{place} keeps its images in {index['database'] or 'its folder'}, not {about['database']}")


@contextlib.contextmanager
def alone(place: pathlib.Path):
    """Keeps other writers out of the folder `place`, which is made if need be."""
    place.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(place / ".lock"):
        yield


def counted(identities: list[str]) -> dict[str, int]:
    """Each identity, in the order of names, with how often it comes."""
    names, counts = np.unique(np.array(identities, dtype=object).astype(str), return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def score_each(scorer, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Scores float [q, m] of each of queries [q, d] with its own candidates [q, m, d]."""
    count, each, dimension = candidates.shape
    together = np.concatenate([queries, candidates.reshape(-1, dimension)])
    second = len(queries) + np.arange(count * each)
    pairs = np.stack([np.repeat(np.arange(count), each), second], 1)
    return np.array(scorer.score_pairs(together, pairs.astype(np.int32))).reshape(count, each)


def _kind(count):
    return "flat" if count <= _FLAT else "hnsw" if count <= _GRAPH else "ivfpq"
