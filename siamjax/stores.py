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
from collections.abc import Collection

import filelock
import numpy as np

from siamjax import files, lookup

# Up to so many images all are scored, in JAX; then the nearest are looked up by FAISS: compared one by one, through a
# graph (HNSW), and, compressed, through a graph of cells. See docs/gallery.md for what each costs.
_ALL, _FLAT, _GRAPH = 20_000, 50_000, 2_000_000
LOOK_UP = 4  # times as many are looked up as are asked for, and then scored
_LEFT = 1000  # embeddings that may be missing in an index, or be in it though they are gone
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
        keys = lookup.keys(embeddings)
        part = self._write(numbers, embeddings, keys, columns)
        self._append(numbers, embeddings, keys, columns)
        self._commit([*self._index["parts"], part], first + len(rows))

    def remove(self, identity: str) -> int:
        """Takes an identity out, and the files that nothing needs; to be called while `changing`."""
        kept = np.array([files.named(name) != identity for name in self._columns["identity"]], bool)
        removed = int(np.sum(~kept))
        if removed:
            self._numbers, self._keys = self._numbers[kept], self._keys[kept]
            self._embeddings = self._embeddings[kept]
            for name, values in self._columns.items():
                self._columns[name] = [value for value, keep in zip(values, kept, strict=True) if keep]
            parts = [self._write(self._numbers, self._embeddings, self._keys, self._columns)] if kept.any() else []
            self._commit(parts, self._index["next"])
            self._tidy()
        return removed

    def paths(self, identities: Collection[str]) -> list[tuple[str, str]]:
        """The identity and the path of each image of these identities."""
        known = zip(map(files.named, self._columns["identity"]), self._columns["path"], strict=True)
        return [(identity, path) for identity, path in known if identity in identities]

    def best(self, queries: np.ndarray, count: int) -> list[Best]:
        """The `count` that score highest against each of `queries` [q, d], or all that there are."""
        found = self._nearest(queries, count) if self._lookups and LOOK_UP * count < len(self) else None
        if found is None:
            scores, everything = self._scorer.score_all(queries, self._embeddings), np.arange(len(self))
            return [self._sorted(row, everything, count) for row in scores]
        numbers, there = found
        scores = score_each(self._scorer, queries, self._embeddings[self._different[numbers]])
        scores[~there] = -np.inf
        return [self._with_copies(row, of, count) for row, of in zip(scores, numbers, strict=True)]

    def _nearest(self, queries, count):
        """What FAISS finds: numbers int [q, m] of different embeddings, and bool [q, m] which count; with their copies
        `count` images at least. None where the indexes do not lead to as many."""
        vectors, look_up = lookup.for_metric(queries, self._metric), LOOK_UP * count
        most = max(index.ntotal for index in self._lookups)
        while True:
            found = np.concatenate([index.search(vectors, min(look_up, most))[1] for index in self._lookups], axis=1)
            numbers = np.searchsorted(self._known, found).clip(max=len(self._known) - 1)
            there = self._known[numbers] == found  # Others were removed since, or fewer were found.
            if np.all(np.sum(self._copies[numbers] * there, axis=1) >= count):
                return numbers, there
            if look_up >= most:
                return None
            look_up *= LOOK_UP

    def _with_copies(self, scores, numbers, count):
        """The best of the different embeddings `numbers`, each with all images that have it, or `count` of them."""
        each = np.minimum(self._copies[numbers], count)
        images = [self._order[start : start + some] for start, some in zip(self._starts[numbers], each, strict=True)]
        return self._sorted(np.repeat(scores, each), np.concatenate(images), count)

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
        self._numbers, self._keys, self._embeddings = np.zeros(0, np.int64), np.zeros(0, np.int64), None
        self._columns = {name: [] for name in COLUMNS}
        for part in self._index["parts"]:
            with reading(self._place / part["file"]) as file:
                embeddings = file["embeddings"]
                keys = file["keys"] if "keys" in file else lookup.keys(embeddings)
                self._append(file["numbers"], embeddings, keys, json.loads(file["columns"].tobytes()))
        self._group()
        self._look_up(self._index["lookup"])

    def _append(self, numbers, embeddings, keys, columns):
        self._numbers = np.concatenate([self._numbers, numbers])
        self._keys = np.concatenate([self._keys, keys])
        known = [] if self._embeddings is None else [self._embeddings]
        self._embeddings = np.concatenate([*known, embeddings])
        for name in COLUMNS:
            self._columns[name] += columns[name]

    def _group(self):
        """Finds the copies: `_order` numbers the images, those of one embedding together; `_known` are the different
        keys, in that order, `_starts` where each begins, `_copies` its images, and `_different` the first of them."""
        if self._faiss() is not None:
            self._order = np.argsort(self._keys, kind="stable")
            ordered = self._keys[self._order]
            self._known, self._starts, self._copies = np.unique(ordered, return_index=True, return_counts=True)
            self._different = self._order[self._starts]

    def _write(self, numbers, embeddings, keys, columns):
        buffer = io.BytesIO()
        text = np.frombuffer(json.dumps(columns).encode(), np.uint8)
        np.savez(buffer, numbers=numbers, embeddings=embeddings, keys=keys, columns=text)
        name = f"part-{uuid.uuid4().hex}.npz"
        files.write(self._place / name, buffer.getvalue())
        return {"file": name, "images": len(numbers)}

    def _commit(self, parts, following):
        index = self._index | {"run": self._about["run"], "parts": parts, "next": following}
        self._group()
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
        after = self._missing(faiss, entry)
        if len(after):
            self._lookups.append(lookup.make(faiss, self._keys[after], self._embeddings[after], self._metric, "flat"))

    def _missing(self, faiss, entry):
        """Numbers of the different embeddings that the opened index, if there is an `entry` of it, does not hold."""
        if not entry:
            return self._different
        held = lookup.held(faiss, self._opened[1])
        return self._different[~np.isin(self._known, held, assume_unique=True)]

    def _covered(self):
        """The entry in `gallery.json` of the index of FAISS to use after a change: kept, extended, or rebuilt, so that
        it holds most embeddings, and few that are gone. None while all can be compared one by one."""
        faiss, entry = self._faiss(), self._index["lookup"]
        kind = None if faiss is None else _kind(len(self._different))
        if kind in (None, "flat"):
            return None
        after = self._missing(faiss, entry)
        held = self._opened[1].ntotal if entry else 0
        gone = held - (len(self._different) - len(after))
        if entry is None or entry["kind"] != kind or gone > _LEFT + held // 10:
            index = lookup.make(faiss, self._known, self._embeddings[self._different], self._metric, kind)
        elif len(after) > _LEFT + held // 100:
            index = self._opened[1]
            index.add_with_ids(lookup.for_metric(self._embeddings[after], self._metric), self._keys[after])
        else:
            return entry
        name = f"lookup-{uuid.uuid4().hex}.faiss"
        files.write(self._place / name, faiss.serialize_index(index))
        self._opened = name, index
        return {"file": name, "kind": kind}


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
        if "last" in (index.get("lookup") or {}):
            index["lookup"] = None  # Of an older siamjax: it holds every copy of an image, and is rebuilt.
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
    names, counts = np.unique(
        np.array([files.named(name) for name in identities], dtype=object).astype(str), return_counts=True
    )
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
