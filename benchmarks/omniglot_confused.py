"""Which characters of Omniglot a network confuses, over all random 20-way one-shot trials that there are.

    python benchmarks/omniglot_confused.py --manual_dir FOLDER [--network RUN] [--copies 30] [--picture FILE.png]

Nothing is drawn at random: every drawing of the 20 evaluation alphabets is a query against every other drawer, and its
chance of being right is that of 19 distractors drawn among all other characters of its alphabet. An error is shared by
the characters that score as high as the right one, so that pairs of characters can be put in order of what they cost.
"""

import argparse
import pathlib

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import gammaln

from siamjax.data import Dataset, omniglot
from siamjax.network import Network

_WAYS = 20
_COUNTS = (25, 100, 200)  # of the costliest pairs
_ALIKE = 0.4  # one half is a pair that is not told apart at all
_ROWS, _DRAWERS = 40, 6  # pairs in the picture, drawings of each character


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="omniglot-fast", help="a run folder, a saved network, or the name of one")
    parser.add_argument("--copies", type=int, default=0, help="distorted copies over which embeddings are averaged")
    parser.add_argument("--manual_dir", default="", help="folder with the archives; downloaded if not given")
    parser.add_argument("--data_dir", default="", help="folder for prepared data; default ~/tensorflow_datasets")
    parser.add_argument("--picture", default="", help="PNG file to write with the costliest pairs")
    options = parser.parse_args()
    network = Network.load(options.network, copies=options.copies)
    places = options.data_dir or None, options.manual_dir or None
    drawings = omniglot.load(*places, "background", network.inputs.shape[0], train=False)["test"]
    embeddings = network.embed(drawings.images, "embedding the evaluation data")
    alphabets = [beaten(network, embeddings, drawings, group) for group in range(len(drawings.group_names))]
    share, pairs = ranked(alphabets)
    table = Table(title=f"{options.network}, {options.copies} copies: all 20-way one-shot trials of 20 alphabets; %")
    for column in ("told apart by an oracle", "accuracy"):
        table.add_column(column, justify="left" if "apart" in column else "right")
    table.add_row("no pair", f"{100 * accuracy(alphabets):.2f}")
    alike = np.array([pair for pair in pairs if share[tuple(pair)] >= _ALIKE])
    for name, some in (
        (f"the {len(alike)} pairs that are confused in {_ALIKE:.0%} or more of their comparisons", alike),
        *((f"the {count} costliest pairs", pairs[:count]) for count in _COUNTS),
    ):
        table.add_row(name, f"{100 * accuracy(alphabets, some):.2f}")
        table.add_row(f"all but {name}", f"{100 * accuracy(alphabets, some, apart=False):.2f}")
    Console(width=110).print(table)
    if options.picture:
        draw(pathlib.Path(options.picture), drawings, alphabets, pairs[:_ROWS], share)


def beaten(network: Network, embeddings: np.ndarray, drawings: Dataset, group: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each character of an alphabet is taken for each other one.

    Returns:
      The characters' labels int [k], and bool [k, k, d, d]: whether the drawing of the first character by the first
      drawer scores as high with that of the second character by the second drawer as with the right one by him.
    """
    labels = np.unique(drawings.label[drawings.group == group])
    drawers = drawings.source.max() + 1
    number = np.empty((len(labels), drawers), np.int64)
    for row, label in enumerate(labels):
        of_label = np.flatnonzero(drawings.label == label)
        number[row, drawings.source[of_label]] = of_label
    score = network.score_all(embeddings[number.ravel()], embeddings[number.ravel()])
    score = score.reshape(len(labels), drawers, len(labels), drawers).transpose(0, 2, 1, 3)
    right = score[np.arange(len(labels)), np.arange(len(labels))]
    found = score >= right[:, None]
    found[np.arange(len(labels)), np.arange(len(labels))] = False
    found[..., np.arange(drawers), np.arange(drawers)] = False  # A drawer is not compared with himself.
    return labels, found


def accuracy(alphabets: list, pairs: np.ndarray | None = None, apart: bool = True) -> float:
    """The expected accuracy, if an oracle told apart the `pairs` [n, 3] (alphabet, character, character), or all but
    them (`apart` False)."""
    shares = []
    for group, (labels, found) in enumerate(alphabets):
        known = np.zeros(found.shape[:2], bool)
        if pairs is not None:
            of_group = pairs[pairs[:, 0] == group, 1:]
            known[of_group[:, 0], of_group[:, 1]] = known[of_group[:, 1], of_group[:, 0]] = True
            known = known if apart else ~known
        ahead = np.sum(found & ~known[..., None, None], axis=1)
        others = ~np.eye(found.shape[-1], dtype=bool)
        shares.append(chance(len(labels), ahead)[:, others].mean())
    return float(np.mean(shares))


def chance(characters: int, ahead: np.ndarray) -> np.ndarray:
    """The chance that none of the `ahead` characters is among 19 drawn from all others of the alphabet."""
    rest = characters - 1 - ahead
    enough = np.maximum(rest, _WAYS - 1)

    def ways(n):
        return gammaln(n + 1) - gammaln(n - _WAYS + 2)

    return np.where(rest < _WAYS - 1, 0, np.exp(ways(enough) - ways(characters - 1)))


def ranked(alphabets: list) -> tuple[dict, np.ndarray]:
    """How often each pair of characters is confused, and the pairs int [n, 3], the costliest first."""
    share, cost = {}, {}
    for group, (labels, found) in enumerate(alphabets):
        drawers = found.shape[-1]
        ahead = found.sum(axis=1, keepdims=True)
        lost = found * ((1 - chance(len(labels), ahead)) / np.maximum(ahead, 1)) / len(labels)
        for first, second in zip(*np.triu_indices(len(labels), 1), strict=True):
            key = (group, first, second)
            share[key] = (found[first, second].sum() + found[second, first].sum()) / (2 * drawers * (drawers - 1))
            cost[key] = lost[first, second].sum() + lost[second, first].sum()
    return share, np.array(sorted(cost, key=lambda key: -cost[key]))


def draw(path: pathlib.Path, drawings: Dataset, alphabets: list, pairs: np.ndarray, share: dict) -> None:
    """A page of pairs: drawings of one character, and of the other by the same drawers."""
    from matplotlib.figure import Figure

    columns = 2
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(columns * 6.2, rows * 0.62), layout="constrained")
    axes = figure.subplots(rows, columns).T.ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (group, first, second) in zip(axes, pairs, strict=False):
        labels = alphabets[group][0]
        strips = [
            np.hstack(
                [255 - drawings.images[_of(drawings, labels[each], drawer), ..., 0] for drawer in range(_DRAWERS)]
            )
            for each in (first, second)
        ]
        gap = np.full((strips[0].shape[0], 14), 255, np.uint8)
        axis.imshow(np.hstack([strips[0], gap, strips[1]]), cmap="gray", vmin=0, vmax=255)
        numbers = [int(each) + 1 for each in (first, second)]
        name = drawings.group_names[group].split("_(")[0].replace("_", " ")
        axis.set_title(
            f"{name}, {numbers[0]} and {numbers[1]}: {share[group, first, second]:.0%}", fontsize=7, loc="left", pad=2
        )
    figure.savefig(path, dpi=110)
    print(path)


def _of(drawings, label, drawer):
    return np.flatnonzero((drawings.label == label) & (drawings.source == drawer))[0]


if __name__ == "__main__":
    main()
