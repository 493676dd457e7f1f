"""Indexes of FAISS: which embeddings are nearest, without comparing with all."""

import hashlib
import pathlib

import numpy as np


def keys(embeddings: np.ndarray) -> np.ndarray:
    """int64 [n], at least 0: the same number for equal embeddings [n, d], another for different ones (hashes, 63 bits).

    Copies of an image have one key, under which an index holds their embedding once: a graph over many equal points
    links these with one another and with nothing else.
    """
    rows = np.ascontiguousarray(embeddings, "<f4") + 0  # -0 equals 0
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, "<i8") & np.iinfo(np.int64).max


def held(faiss, index) -> np.ndarray:
    """The keys int64 [n] of what an index holds."""
    return faiss.vector_to_array(index.id_map)


def make(faiss, keys: np.ndarray, embeddings: np.ndarray, metric: str, kind: str):
    """A FAISS index of different embeddings [n, d] under their keys int64 [n]: "flat", "hnsw" or "ivfpq"."""
    vectors, dimension = for_metric(embeddings, metric), embeddings.shape[1]
    if kind == "flat":
        lookup = faiss.IndexFlatL2(dimension)
    elif kind == "hnsw":
        lookup = faiss.IndexHNSWFlat(dimension, 32)
        lookup.hnsw.efConstruction, lookup.hnsw.efSearch = 80, 128
    else:
        # A graph leads to the cells.
        cells = int(2 ** np.round(np.log2(4 * np.sqrt(len(keys)))))
        lookup = faiss.IndexIVFPQ(faiss.IndexHNSWFlat(dimension, 32), dimension, cells, codes(dimension), 8)
        lookup.nprobe = 64
        chosen = np.random.default_rng(0).permutation(len(keys))[: max(40 * cells, 20_000)]
        lookup.train(vectors[np.sort(chosen)])
    lookup = faiss.IndexIDMap2(lookup)
    lookup.add_with_ids(vectors, keys)
    return lookup


def codes(dimension):
    """Bytes that remain of a vector where it is compressed: one for four components, or for a few more."""
    return next(size for size in range(max(1, dimension // 4), 0, -1) if dimension % size == 0)


def read(faiss, path: pathlib.Path):
    """The index in a file.

    Raises:
      FileNotFoundError: the file is not there.
      ValueError: it is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there")
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path} is damaged ({error})") from error


def for_metric(vectors, metric):
    """Vectors whose Euclidean distances order as the metric does."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    if metric == "l2":
        return vectors
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
