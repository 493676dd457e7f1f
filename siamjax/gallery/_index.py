"""Which embeddings are nearest, without comparing with all of them: indexes of FAISS.

An index holds each different embedding once, under a key that copies of an image share: however many copies there are,
what is found is different images.
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
# else in cells. docs/gallery.md has what each costs.
_ALL, _FLAT = 20_000, 50_000
_SEARCHED = 256  # cells per query, of 2 * sqrt(n)
_KIND = "cells"  # of an index in a file
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
        self._file: str | None = None
        self._opened: Any = None  # the index in that file
        self._all_keys = self._order = np.zeros(0, np.int64)

    def open(self, keys: np.ndarray, embeddings: np.ndarray, file: IndexFile | None) -> None:
        """Prepares the search among embeddings [n, d] with their keys int64 [n]; `file` holds an index of most.

        Raises:
          FileNotFoundError, ValueError: the file is missing or damaged.
        """
        self._group(keys, embeddings)
        if file and self._faiss is not None and file.file != self._file:
            self._use(file, read(self._faiss, self._folder / file.file))
        self._search_in(file, self._missing(file))

    def update(self, keys: np.ndarray, embeddings: np.ndarray, file: IndexFile | None) -> IndexFile | None:
        """As `open`, after images were added or removed: keeps the index in `file`, extends it, or makes another.

        Returns:
          The file to use from now on: it holds most embeddings, and few that were removed. None if there is none.
        """
        self._group(keys, embeddings)
        missing = self._missing(file)
        if (kept := self._written(file, missing)) != file:
            missing = self._missing(kept)
        self._search_in(kept, missing)
        return kept

    def _written(self, file, missing):
        """`update`, after the copies were found: the file to use, which is another one if the index changes."""
        if self._faiss is None or len(self._keys) <= _FLAT:
            return None
        held = len(self._held) if file else 0
        removed = held - (len(self._keys) - len(missing))
        if file is None or removed > _TOLERATED + held // 10 or self._is_outgrown(file):
            index = in_cells(self._faiss, self._keys, self._embeddings[self.first], self._metric)
        elif len(missing) > _TOLERATED + held // 100:
            index = self._opened
            index.add_with_ids(for_metric(self._embeddings[self.first[missing]], self._metric), self._keys[missing])
        else:
            return file
        content = self._faiss.serialize_index(index).tobytes()
        file = IndexFile(_own.index(content), _KIND)
        files.write(self._folder / file.file, content, private=True)
        self._use(file, index)
        return file

    def _is_outgrown(self, file):
        """Whether the opened index of `file` is of an older siamjax, or has far fewer cells than a new one would."""
        return file.kind != _KIND or self._faiss.extract_index_ivf(self._opened).nlist < _cells(len(self._keys)) // 2

    def _use(self, file, index):
        self._file, self._opened = file.file, index
        self._held = np.sort(self._faiss.vector_to_array(index.id_map))

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
        if self._faiss is None:
            return
        before = len(self._all_keys)
        if before and np.array_equal(keys[:before], self._all_keys):  # Images were added, most often one.
            added = before + np.argsort(keys[before:], kind="stable")
            places = np.searchsorted(keys[self._order], keys[added], side="right")
            self._order = np.insert(self._order, places, added)
        else:
            self._order = np.argsort(keys, kind="stable")
        self._all_keys, self._embeddings = keys, embeddings
        in_order = keys[self._order]
        self._starts = np.flatnonzero(np.diff(in_order, prepend=-1))
        self._copies = np.diff(self._starts, append=len(keys))
        self._keys, self.first = in_order[self._starts], self._order[self._starts]

    def _search_in(self, file, missing):
        self._searched = []
        if self._faiss is None:
            return
        if file:
            self._searched.append(self._opened)
        if len(missing):
            embeddings = self._embeddings[self.first[missing]]
            self._searched.append(one_by_one(self._faiss, self._keys[missing], embeddings, self._metric))

    def _missing(self, file):
        """Numbers of the different embeddings that the opened index does not hold, if `file` is its file."""
        if self._faiss is None:
            return np.arange(0)
        if not file or not len(self._held):
            return np.arange(len(self._keys))
        place = np.searchsorted(self._held, self._keys).clip(max=len(self._held) - 1)
        return np.flatnonzero(self._held[place] != self._keys)


def keys(embeddings: np.ndarray) -> np.ndarray:
    """Hashes of embeddings [n, d], 63 bits: int64 [n], at least 0; equal for equal embeddings."""
    rows = np.ascontiguousarray(embeddings, "<f4") + 0  # -0 equals 0
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, "<i8") & np.iinfo(np.int64).max


def one_by_one(faiss: Any, keys: np.ndarray, embeddings: np.ndarray, metric: Metric) -> Any:
    """An index of different embeddings [n, d] under their keys int64 [n] that compares a query with all of them."""
    return _filled(faiss, faiss.IndexFlatL2(embeddings.shape[1]), keys, for_metric(embeddings, metric))


def in_cells(faiss: Any, keys: np.ndarray, embeddings: np.ndarray, metric: Metric) -> Any:
    """An index of different embeddings [n, d] under their keys int64 [n] that compares a query with the nearest cells.

    Vectors of length 1 are stored in half precision, which halves what is read; others may be out of its range.
    """
    vectors, dimension, cells = for_metric(embeddings, metric), embeddings.shape[1], _cells(len(keys))
    centres = faiss.IndexFlatL2(dimension)
    if metric == "cosine":
        half = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexIVFScalarQuantizer(centres, dimension, cells, half, faiss.METRIC_L2, False)
    else:
        index = faiss.IndexIVFFlat(centres, dimension, cells)
    index.cp.min_points_per_centroid, index.nprobe = 1, _SEARCHED  # FAISS prints a warning about fewer points.
    chosen = np.random.default_rng(0).permutation(len(keys))[: 40 * cells]
    index.train(vectors[np.sort(chosen)])
    return _filled(faiss, index, keys, vectors)


def _cells(count):
    return max(1, int(2 * np.sqrt(count)))


def _filled(faiss, index, keys, vectors):
    index = faiss.IndexIDMap(index)
    index.add_with_ids(vectors, keys)
    return index


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
