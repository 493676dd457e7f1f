"""Which embeddings are nearest, without comparing with all of them: indexes of FAISS.

An index holds each different embedding once, under a key that copies of an image share: a graph over many equal points
would link these with one another and with nothing else.
"""

import hashlib
import pathlib
from typing import Any

import numpy as np

from siamjax import files
from siamjax.gallery import _own
from siamjax.gallery._manifest import IndexFile
from siamjax.gallery._types import Metric, Scorer

# Up to _ALL images, all are scored in JAX. Above, FAISS finds the nearest: up to _FLAT different embeddings one by one,
# up to _GRAPH through a graph (HNSW), else compressed, through a graph of cells. docs/gallery.md has what each costs.
_ALL, _FLAT, _GRAPH = 20_000, 50_000, 2_000_000
_TOLERATED = 1000  # embeddings that an index may lack, or hold though they were removed
CANDIDATES = 4  # nearest embeddings per image asked for; the head's scores then choose among them


class Index:
    """The search among the embeddings of a folder: an index in a file, and one in memory of what came later.

    It finds nothing, so that all images are to be scored, if there are few, if the head is not a metric, or if FAISS is
    not installed.

    Attributes:
      first: int [m], for each different embedding the number of the first image that has it.
    """

    def __init__(self, folder: pathlib.Path, metric: Metric | None):
        self._folder, self._possible = folder, metric is not None
        self._metric: Metric = metric or "l2"
        self._faiss: Any = None
        self._opened: tuple[str | None, Any] = None, None  # the name of an index's file, and the index

    def open(self, keys: np.ndarray, embeddings: np.ndarray, file: IndexFile | None) -> None:
        """Prepares the search among embeddings [n, d] with their keys int64 [n]; `file` holds an index of most.

        Raises:
          FileNotFoundError, ValueError: the file is missing or damaged.
        """
        self._group(keys, embeddings)
        self._search_in(file)

    def update(self, keys: np.ndarray, embeddings: np.ndarray, file: IndexFile | None) -> IndexFile | None:
        """As `open`, after images were added or removed: keeps the index in `file`, extends it, or makes another.

        Returns:
          The file to use from now on: it holds most embeddings, and few that were removed. None if there is none.
        """
        self._group(keys, embeddings)
        file = self._written(file)
        self._search_in(file)
        return file

    def _written(self, file):
        """`update`, after the copies were found: the file to use, which is another one if the index changes."""
        if self._faiss is None or (kind := _kind(len(self._keys))) == "flat":
            return None
        missing, held = self._missing(file), self._opened[1].ntotal if file else 0
        removed = held - (len(self._keys) - len(missing))
        if file is None or file.kind != kind or removed > _TOLERATED + held // 10:
            index = make(self._faiss, self._keys, self._embeddings[self.first], self._metric, kind)
        elif len(missing) > _TOLERATED + held // 100:
            index = self._opened[1]
            index.add_with_ids(for_metric(self._embeddings[self.first[missing]], self._metric), self._keys[missing])
        else:
            return file
        content = self._faiss.serialize_index(index).tobytes()
        file = IndexFile(_own.index(content), kind)
        files.write(self._folder / file.file, content, private=True)
        self._opened = file.file, index
        return file

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Finds different embeddings near each of `queries` [q, d] that, with their copies, make `count` images.

        Returns:
          Their numbers int [q, m], 0..len(first) - 1, and bool [q, m], which of them are valid. None if all images are
          to be scored.
        """
        sought = CANDIDATES * count
        if not self._searched or sought >= len(self._order):
            return None
        vectors, most = for_metric(queries, self._metric), max(index.ntotal for index in self._searched)
        while True:
            keys = np.concatenate([index.search(vectors, min(sought, most))[1] for index in self._searched], axis=1)
            numbers = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
            valid = self._keys[numbers] == keys  # The others were removed, or FAISS found fewer.
            if np.all(np.sum(self._copies[numbers] * valid, axis=1) >= count):
                return numbers, valid
            if sought >= most:
                return None
            sought *= CANDIDATES

    def with_copies(self, scores: np.ndarray, numbers: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores [m] of different embeddings -> scores and numbers of the images that have them, `count` of each."""
        copies = np.minimum(self._copies[numbers], count)
        images = [self._order[start : start + some] for start, some in zip(self._starts[numbers], copies, strict=True)]
        return np.repeat(scores, copies), np.concatenate(images)

    def _group(self, keys, embeddings):
        """Finds the copies: images with the same embedding follow one another in `_order`, beginning at `_starts`."""
        self._faiss = _faiss() if self._possible and len(keys) > _ALL else None
        if self._faiss is not None:
            self._order = np.argsort(keys, kind="stable")
            different = np.unique(keys[self._order], return_index=True, return_counts=True)
            self._keys, self._starts, self._copies = different
            self.first = self._order[self._starts]
            self._embeddings = embeddings

    def _search_in(self, file):
        self._searched = []
        if self._faiss is None:
            return
        if file:
            if file.file != self._opened[0]:
                self._opened = file.file, read(self._faiss, self._folder / file.file)
            self._searched.append(self._opened[1])
        missing = self._missing(file)
        if len(missing):
            embeddings = self._embeddings[self.first[missing]]
            self._searched.append(make(self._faiss, self._keys[missing], embeddings, self._metric, "flat"))

    def _missing(self, file):
        """Numbers of the different embeddings that the opened index does not hold, if `file` is its file."""
        if not file:
            return np.arange(len(self._keys))
        held = self._faiss.vector_to_array(self._opened[1].id_map)
        return np.flatnonzero(~np.isin(self._keys, held, assume_unique=True))


def keys(embeddings: np.ndarray) -> np.ndarray:
    """Hashes of embeddings [n, d], 63 bits: int64 [n], at least 0; equal for equal embeddings."""
    rows = np.ascontiguousarray(embeddings, "<f4") + 0  # -0 equals 0
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, "<i8") & np.iinfo(np.int64).max


def make(faiss: Any, keys: np.ndarray, embeddings: np.ndarray, metric: Metric, kind: str) -> Any:
    """A FAISS index of different embeddings [n, d] under their keys int64 [n]: "flat", "hnsw" or "ivfpq"."""
    vectors, dimension = for_metric(embeddings, metric), embeddings.shape[1]
    if kind == "flat":
        index = faiss.IndexFlatL2(dimension)
    elif kind == "hnsw":
        index = _graph(faiss, dimension, metric)
    else:
        # A graph leads to the cells.
        cells = int(2 ** np.round(np.log2(4 * np.sqrt(len(keys)))))
        index = faiss.IndexIVFPQ(faiss.IndexHNSWFlat(dimension, 32), dimension, cells, _code_size(dimension), 8)
        index.nprobe = 64
        chosen = np.random.default_rng(0).permutation(len(keys))[: max(40 * cells, 20_000)]
        index.train(vectors[np.sort(chosen)])
    index = faiss.IndexIDMap2(index)
    index.add_with_ids(vectors, keys)
    return index


def _graph(faiss, dimension, metric):
    """A graph that is made quickly, and searched the more widely for it.

    Vectors of length 1 are stored in half precision, which halves what is read; others may be out of its range.
    """
    if metric == "cosine":
        index = faiss.IndexHNSWSQ(dimension, faiss.ScalarQuantizer.QT_fp16, 32)
        index.train(np.zeros((1, dimension), np.float32))  # Half precision has nothing to learn.
    else:
        index = faiss.IndexHNSWFlat(dimension, 32)
    index.hnsw.efConstruction, index.hnsw.efSearch = 32, 256
    return index


def _code_size(dimension: int) -> int:
    """Bytes of a compressed vector: one for four components, or for a few more."""
    return next(size for size in range(max(1, dimension // 4), 0, -1) if dimension % size == 0)


def read(faiss: Any, path: pathlib.Path) -> Any:
    """The FAISS index in a file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged.
    """
    _own.check_index(path)
    try:
        return faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it, and enroll or remove an image") from error


def for_metric(vectors: np.ndarray, metric: Metric) -> np.ndarray:
    """Vectors [n, d] whose Euclidean distances have the order of the metric."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    if metric == "l2":
        return vectors
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def score_each(scorer: Scorer, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Scores float [q, m] of each of `queries` [q, d] with its own candidates [q, m, d]."""
    count, each, dimension = candidates.shape
    together = np.concatenate([queries, candidates.reshape(-1, dimension)])
    second = len(queries) + np.arange(count * each)
    pairs = np.stack([np.repeat(np.arange(count), each), second], 1)
    return np.array(scorer.score_pairs(together, pairs.astype(np.int32))).reshape(count, each)


def _faiss():
    try:
        import faiss
    except ImportError:
        return None
    return faiss


def _kind(count):
    return "flat" if count <= _FLAT else "hnsw" if count <= _GRAPH else "ivfpq"
