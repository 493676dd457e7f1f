"""Verification by several references of one identity: their mean score, their best, or the mean as siamjax corrects it.

    python benchmarks/references.py RUN --references 1 3 5

On the test data of a run: random references of each identity, ten times, against its other images and as many of
others. EER, by one threshold for all identities; see `siamjax.network.score_references`.
"""

import argparse
import os
import sys

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from siamjax import Network, data
from siamjax.evaluation import verification
from siamjax.network import score_references


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="its folder")
    parser.add_argument("--references", type=int, nargs="+", default=[1, 3, 5])
    options = parser.parse_args()
    network = Network.load(options.run)
    assert network.settings is not None
    test = data.load(network.settings.data, train=False)["test"]
    embeddings = network.embed(test.images, "embedding")
    table = Table(title=f"{len(test)} images of {len(np.unique(test.label))} identities; EER, %")
    for column in ("references", "comparisons", "mean", "best", "corrected"):
        table.add_column(column, justify="right")
    for count in options.references:
        references, query, same = drawn(test.label, count)
        pairs = np.stack([references.ravel(), np.repeat(query, count)], axis=1).astype(np.int32)
        scores = network.score_pairs(embeddings, pairs).reshape(-1, count)
        together = score_references(network, embeddings, references, query, network.decision)
        errors = [
            verification.measures(each, same)["eer"] for each in (scores.mean(axis=1), scores.max(axis=1), together)
        ]
        table.add_row(str(count), f"{len(query):,}", *(f"{100 * error:.1f}" for error in errors))
    Console(width=110).print(table)


def drawn(label, count):
    """References [t, count], queries [t], and whether each is of the same identity, bool [t]."""
    rng, rows = np.random.default_rng(0), []
    for identity in np.repeat(np.unique(label), 10):
        own = rng.permutation(np.flatnonzero(label == identity))
        others = np.flatnonzero(label != identity)
        left = own[count:]
        for same, queries in ((True, left), (False, rng.choice(others, min(len(left), len(others)), replace=False))):
            rows += [(own[:count], query, same) for query in queries]
    references, query, same = (np.array(column) for column in zip(*rows, strict=True))
    return references.astype(np.int32), query.astype(np.int32), same


if __name__ == "__main__":
    main()
