"""Where a gallery keeps embeddings and names, and how it finds the nearest: in its folder, or in a database.

A store is asked for the `best` of what it holds; it answers with the head's own scores, whatever found them.
"""

import contextlib
import dataclasses
import datetime
import io
import json
import pathlib
import uuid
import zipfile

import filelock
import numpy as np

from siamjax import files

# Up to so many images all are scored, in JAX; then the nearest are looked up by FAISS: compared one by one, through a
# graph (HNSW), and, compressed, through a graph of cells. See docs/gallery.md for what each costs.
_ALL, _FLAT, _GRAPH = 20_000, 50_000, 2_000_000
_LOOK_UP = 4  # times as many are looked up as are asked for, and then scored
_LEFT = 1000  # images that may be missing in an index, or be in it though they are gone
_NOTHING = {"last": -1}
_COLUMNS = ("identity", "path", "thumbnail")

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
        columns = {name: [row[name] for row in rows] for name in _COLUMNS}
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
        vectors, look_up = _for_metric(queries, self._metric), _LOOK_UP * count
        while True:
            look_up = min(look_up, len(self))
            found = np.concatenate([lookup.search(vectors, look_up)[1] for lookup in self._lookups], axis=1)
            position = np.searchsorted(self._numbers, found).clip(max=len(self) - 1)
            there = self._numbers[position] == found  # Others were removed since, or fewer were found.
            if look_up == len(self) or np.all(there.sum(axis=1) >= count):
                return np.where(there, position, 0), there
            look_up *= _LOOK_UP

    def _sorted(self, scores, chosen, count):
        if count < len(scores):
            some = np.sort(np.argpartition(-scores, count - 1)[:count])
            scores, chosen = scores[some], chosen[some]
        order = [number for number in np.argsort(-scores, kind="stable") if np.isfinite(scores[number])]
        rows = [{name: self._columns[name][chosen[number]] for name in _COLUMNS} for number in order]
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
        self._columns = {name: [] for name in _COLUMNS}
        for part in self._index["parts"]:
            path = self._place / part["file"]
            try:
                with np.load(path) as file:
                    self._append(file["numbers"], file["embeddings"], json.loads(file["columns"].tobytes()))
            except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                raise ValueError(f"{path} is damaged ({error})") from error
        self._look_up(self._index["lookup"])

    def _append(self, numbers, embeddings, columns):
        self._numbers = np.concatenate([self._numbers, numbers])
        known = [] if self._embeddings is None else [self._embeddings]
        self._embeddings = np.concatenate([*known, embeddings])
        for name in _COLUMNS:
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
                self._opened = entry["file"], _read_lookup(faiss, self._place / entry["file"])
            self._lookups.append(self._opened[1])
        after = self._numbers > (entry or _NOTHING)["last"]
        if after.any():
            self._lookups.append(new_lookup(faiss, self._numbers[after], self._embeddings[after], self._metric, "flat"))

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
            lookup = new_lookup(faiss, self._numbers, self._embeddings, self._metric, kind)
        elif np.sum(after) > _LEFT + held // 100:
            lookup = self._opened[1]
            lookup.add_with_ids(_for_metric(self._embeddings[after], self._metric), self._numbers[after])
        else:
            return entry
        name = f"lookup-{uuid.uuid4().hex}.faiss"
        files.write(self._place / name, faiss.serialize_index(lookup))
        self._opened = name, lookup
        return {"file": name, "kind": kind, "last": int(self._numbers[-1])}


class DatabaseStore:
    """In a table of LanceDB, on disk or in an object store: memory holds none of it, and several machines may share it.

    The table is called after the network, so that networks do not mix. `gallery.json` says where the database is;
    thumbnails lie beside it.
    """

    _SEARCHED = 100_000  # images from which on an index of the table (IVF-PQ) leads the search

    def __init__(self, place: pathlib.Path, about: dict, scorer, metric: str | None):
        """Opens the table in the database that `about` names; arguments as for `FolderStore`.

        Raises:
          ImportError: LanceDB is not installed.
          OSError: the database cannot be reached, or what was enrolled is not in it.
          ValueError: no metric follows the head's scores.
        """
        if metric is None:
            raise ValueError(
                "a database finds the nearest by a metric, which this network's head has not: train with head.name="
                "'distance' (euclidean, squared_euclidean or cosine), or keep the gallery in its folder"
            )
        try:
            import lancedb
        except ImportError as error:
            raise ImportError("a gallery in a database needs LanceDB: pip install 'siamjax[gallery]'") from error
        self._place, self._about, self._scorer, self._metric = place, about, scorer, metric
        self._name = f"gallery_{about['network'][:16]}"
        with self._reaching():
            self._database = lancedb.connect(about["database"], read_consistency_interval=datetime.timedelta(0))
            self._table = None
            if self._open() is None and read_index(place) is not None:
                raise FileNotFoundError(
                    f"the database {about['database']}, which holds the images of {place}, is not there"
                )

    def _open(self):
        """The table, or None as long as nothing was enrolled, by whomever."""
        if self._table is None:
            try:
                self._table = self._database.open_table(self._name)
            except ValueError as error:
                if "not found" not in str(error):
                    raise
        return self._table

    @contextlib.contextmanager
    def _reaching(self):
        try:
            yield
        except RuntimeError as error:  # LanceDB's way of saying that something went wrong outside.
            reason = str(error).splitlines()[0][:200]
            raise OSError(f"the database {self._about['database']} cannot be read or written ({reason})") from error

    def __len__(self) -> int:
        with self._reaching():
            return self._open().count_rows() if self._open() else 0

    def identities(self) -> dict[str, int]:
        """Each identity, in the order of names, with the number of its images."""
        if not len(self):
            return {}
        with self._reaching():
            return counted(self._table.search().select(["identity"]).to_arrow()["identity"].to_pylist())

    @contextlib.contextmanager
    def changing(self):
        """Alone with the gallery's folder; the database itself takes care of writers elsewhere."""
        with alone(self._place):
            index = read_index(self._place)
            if index is not None:
                check_same(self._place, index, self._about)
            with self._reaching():
                yield
            if index != self._about:
                files.write(self._place / "gallery.json", json.dumps(self._about, indent=1).encode())

    def add(self, embeddings: np.ndarray, rows: list[dict[str, str]]):
        """Adds embeddings [n, d], each with its row, all at once; to be called while `changing`."""
        import pyarrow

        dimension = embeddings.shape[1]
        vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.ravel()), dimension)
        columns = {name: pyarrow.array([row[name] for row in rows], pyarrow.string()) for name in _COLUMNS}
        new = pyarrow.table({"vector": vectors} | columns)
        if self._open() is None:
            self._table = self._database.create_table(self._name, schema=new.schema, exist_ok=True)
        self._table.add(new)
        with contextlib.suppress(RuntimeError):  # The rows are there, and are found without an index, too.
            self._cover()

    def remove(self, identity: str) -> int:
        """Takes an identity out, with its thumbnails; to be called while `changing`."""
        if not len(self):
            return 0
        condition = f"identity = {_quoted(identity)}"

        def thumbnails(condition):
            return self._table.search().where(condition).select(["thumbnail"]).to_arrow()["thumbnail"].to_pylist()

        found = thumbnails(condition)
        self._table.delete(condition)
        for start in range(0, len(found), 500):
            some = set(found[start : start + 500])
            for name in some - set(thumbnails(f"thumbnail IN ({', '.join(map(_quoted, some))})")):
                (self._place / name).unlink(missing_ok=True)
        return len(found)

    def best(self, queries: np.ndarray, count: int) -> list[Best]:
        """The `count` that score highest against each of `queries` [q, d], or all that there are."""
        count = min(count, len(self))
        with self._reaching():
            return [self._best(query, count) for query in queries]

    def _best(self, query, count):
        search = self._table.search(query).distance_type(self._metric).limit(_LOOK_UP * count)
        found = search.nprobes(64).refine_factor(4).to_arrow()
        vectors = np.stack(found["vector"].to_numpy())
        scores = score_each(self._scorer, query[None], vectors[None])[0]
        order = np.argsort(-scores, kind="stable")[:count]
        columns = {name: found[name].to_pylist() for name in _COLUMNS}
        return Best(scores[order], [{name: columns[name][number] for name in _COLUMNS} for number in order])

    def _cover(self):
        from lancedb.index import IvfPq

        if len(self) < self._SEARCHED:
            return
        indices = self._table.list_indices()
        if not indices:
            (vector,) = self._table.head(1)["vector"].to_pylist()
            codes = IvfPq(distance_type=self._metric, num_sub_vectors=_codes(len(vector)))
            self._table.create_index("vector", config=codes)
        elif self._table.index_stats(indices[0].name).num_unindexed_rows > self._SEARCHED // 10:
            self._table.optimize()


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


def new_lookup(faiss, numbers: np.ndarray, embeddings: np.ndarray, metric: str, kind: str):
    """A FAISS index of embeddings [n, d] under their numbers int64 [n]: "flat", "hnsw" or "ivfpq"."""
    vectors, dimension = _for_metric(embeddings, metric), embeddings.shape[1]
    if kind == "flat":
        lookup = faiss.IndexFlatL2(dimension)
    elif kind == "hnsw":
        lookup = faiss.IndexHNSWFlat(dimension, 32)
        lookup.hnsw.efConstruction, lookup.hnsw.efSearch = 80, 128
    else:
        # A graph leads to the cells.
        cells = int(2 ** np.round(np.log2(4 * np.sqrt(len(numbers)))))
        lookup = faiss.IndexIVFPQ(faiss.IndexHNSWFlat(dimension, 32), dimension, cells, _codes(dimension), 8)
        lookup.nprobe = 64
        chosen = np.random.default_rng(0).permutation(len(numbers))[: max(40 * cells, 20_000)]
        lookup.train(vectors[np.sort(chosen)])
    lookup = faiss.IndexIDMap2(lookup)
    lookup.add_with_ids(vectors, numbers)
    return lookup


def _codes(dimension):
    """Bytes that remain of a vector where it is compressed: one for four components, or for a few more."""
    return next(size for size in range(max(1, dimension // 4), 0, -1) if dimension % size == 0)


def _read_lookup(faiss, path):
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there")
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path} is damaged ({error})") from error


def _kind(count):
    return "flat" if count <= _FLAT else "hnsw" if count <= _GRAPH else "ivfpq"


def _for_metric(vectors, metric):
    """Vectors whose Euclidean distances order as the metric does."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    if metric == "l2":
        return vectors
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _quoted(text):
    return "'" + text.replace("'", "''") + "'"
