"""What a gallery of 1,000 to a million images costs: enrolling, queries, memory, and recall of the truly nearest.

    python benchmarks/gallery.py --sizes 1000 100000 1000000

Embeddings of 128 components are drawn: an identity is a direction, and an image is its identity with noise. Each way
to search runs in its own process, all on the same embeddings, with 1,000 queries for ten images, one at a time. Memory
is the increase in resident set from before the gallery is opened until it has answered. Last, the gallery grows: one
image is enrolled and one query answered, 100 times (10 from a million images on).
"""

import argparse
import ctypes
import functools
import json
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

DIMENSION, QUERIES, K = 128, 1000, 10
GROWTH = ("one more and a query, p50 ms", "worst")
WAYS = ("all in JAX", "FAISS flat", "FAISS cells", "LanceDB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    table = Table(title=f"{QUERIES} queries of {DIMENSION} components for the {K} most similar, one at a time")
    for column in ("images", "search", "enrol s", "open s", "p50 ms", "p99 ms", "recall@10", "memory MB", *GROWTH):
        table.add_column(column, justify="left" if column == "search" else "right", no_wrap=True)
    for size in options.sizes:
        for way in options.ways:
            command = [sys.executable, __file__, "--one", way, str(size)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            row = json.loads(done.stdout.splitlines()[-1])
            table.add_row(f"{size:,}", way, *row)
        table.add_section()
    Console(width=140).print(table)


def measure(way, size):
    """The cells of one row."""
    from siamjax.gallery import Enrolled, _index
    from siamjax.gallery._database import DatabaseStore
    from siamjax.gallery._folder import FolderStore
    from siamjax.gallery._manifest import Manifest

    embeddings, queries = draw(size)
    nearest = np.concatenate([truly_nearest(embeddings, part) for part in np.array_split(queries, 20)])
    images = [Enrolled(f"i{n // 4}", f"{n}", "") for n in range(size)]
    many = 10 * size
    _index._ALL, _index._FLAT = {"all in JAX": (many, many), "FAISS flat": (0, many)}.get(way, (0, 0))
    folder = pathlib.Path(tempfile.mkdtemp())
    in_database = way == "LanceDB"
    manifest = Manifest("", "0" * 32, str(folder / "database") if in_database else None)
    kind = DatabaseStore if in_database else FolderStore
    scorer = Cosine()
    try:
        store = kind(folder, manifest, scorer, "cosine")
        enrol, _ = timed(functools.partial(enroll, store, embeddings, images))
        del store, images, embeddings
        scorer.score_all(queries[:1], queries)  # JAX's own memory does not count.
        before = resident()
        opening, store = timed(lambda: kind(folder, manifest, scorer, "cosine"))
        found, seconds = [], []
        store.best(queries[:1], K)
        for query in queries:
            took, (best,) = timed(lambda query=query: store.best(query[None], K))
            seconds.append(took)
            found.append([int(image.path) for image in best.images])
        memory = resident() - before
        grown = grow(store, queries[: 100 if size < 1_000_000 else 10], [Enrolled("extra", "-1", "")])
    finally:
        shutil.rmtree(folder)
    recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found, nearest.tolist(), strict=True)])
    p50, p99 = 1000 * np.quantile(seconds, (0.5, 0.99))
    return [
        *(f"{value:.1f}" for value in (enrol, opening)),
        f"{p50:.2f}",
        f"{p99:.2f}",
        f"{recall:.3f}",
        f"{memory:.0f}",
        f"{1000 * np.median(grown):.1f}",
        f"{1000 * max(grown):.1f}",
    ]


def grow(store, embeddings, image):
    """Seconds for each of the embeddings [n, d] to be enrolled and then searched for."""

    def one_more(embedding):
        enroll(store, embedding, image)
        store.best(embedding, K)

    return [timed(functools.partial(one_more, embedding[None]))[0] for embedding in embeddings]


def enroll(store, embeddings, images):
    with store.changing():
        store.add(embeddings, images)


def draw(size):
    """Embeddings of `size` images, four of each identity, and of queries: more images of some of these identities."""
    rng = np.random.default_rng(0)
    identity = rng.normal(size=(-(-size // 4), DIMENSION)).astype(np.float32)
    # As of networks, most of the variance is in a few dimensions.
    identity = identity @ (rng.normal(size=(DIMENSION, DIMENSION)) * 0.9 ** np.arange(DIMENSION)).astype(np.float32)
    spread = 0.35 * identity.std()

    def images(of):
        noise = rng.normal(size=(len(of), DIMENSION)).astype(np.float32)
        return identity[of] + spread * noise

    return images(np.arange(size) // 4), images(rng.integers(len(identity), size=QUERIES))


def truly_nearest(embeddings, queries):
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, embeddings)]
    scores = unit[0] @ unit[1].T
    best = np.argpartition(-scores, K - 1, axis=1)[:, :K]
    return best


class Cosine:
    """The scores of a network with a cosine head, as a store needs them."""

    def __init__(self):
        import jax

        from siamjax import heads
        from siamjax.network import Network
        from siamjax.training.state import Model

        head = heads.make("distance", distance="cosine")
        example = np.zeros((1, DIMENSION), np.float32)
        params = head.init(jax.random.key(0), example, example)["params"]
        scorer = Network(Model(None, head), {"encoder": {}, "head": params}, {})
        self.score_pairs, self.score_all = scorer.score_pairs, scorer.score_all


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def resident():
    """Memory of this process in MB, without what it has freed."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
