"""How the 20 official runs of Omniglot differ from random trials: a trained network on these, and on trials in between.

    python benchmarks/omniglot_trials.py --manual_dir FOLDER

FOLDER holds Omniglot's archives and all_runs.zip. An official run is 20 characters of an alphabet, drawn by one person,
and again by a second one, whose drawings are the queries. They are found among the evaluation data by their pixels, so
that their characters and drawers are known, and either can be replaced by random ones. Accuracies are of 20-way
one-shot trials, except for the last row, a tutorial's weaker protocol, see siamjax/evaluation/tutorial.py.

The modified Hausdorff distance, Lake's baseline, checks the trials without any training: in his demo, its error is
38.8 % on the official runs.
"""

import argparse
import pathlib

import numpy as np
import scipy.spatial
from rich.console import Console
from rich.table import Table

from siamjax.data import Dataset, omniglot
from siamjax.evaluation import intervals, official_runs, one_shot, tutorial
from siamjax.network import Network

_SEED = 0
_REPEATS = 25  # runs of changed trials for each official run
_OF_DISTANCE = 2000  # random trials for the distance, which is slow


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="omniglot-fast", help="a run folder, a saved network, or the name of one")
    parser.add_argument("--copies", type=int, default=0, help="distorted copies over which embeddings are averaged")
    parser.add_argument("--manual_dir", default="", help="folder with the archives; downloaded if not given")
    parser.add_argument("--data_dir", default="", help="folder for prepared data; default ~/tensorflow_datasets")
    options = parser.parse_args()
    network = Network.load(options.network, copies=options.copies)
    small, large = (_load(options, side) for side in (network.inputs.shape[0], 105))
    kinds = kinds_of_trials(small, find_official(large, options))
    embeddings = network.embed(small.images, "embedding the evaluation data")
    table = Table(title=f"{options.network}, {options.copies} copies: 20-way one-shot accuracy, seed {_SEED}; %")
    for column in ("trials", "accuracy", "95 %", "over", "number"):
        table.add_column(column, justify="left" if column == "trials" else "right")
    for name, trials in kinds.items():
        right = one_shot.right(network.score_trials(embeddings, trials.query, trials.support), trials.answer)
        _add(table, name, right, small.group[trials.query], "alphabets")
    for name in ("official runs", "random, of the same alphabets"):
        trials = one_shot.Trials(*(numbers[: _OF_DISTANCE // 20] for numbers in vars(kinds[name]).values()))
        right = one_shot.right(distance_scores(large.images, trials), trials.answer)
        _add(table, f"modified Hausdorff distance: {name}", right, small.group[trials.query], "alphabets")
    right, same = tutorial.answers(network, embeddings, small, seed=_SEED)
    _add(table, "weaker: the same pair among 20 separate pairs", right, same, "identities")
    Console(width=130).print(table)


def _load(options, side):
    places = options.data_dir or None, options.manual_dir or None
    return omniglot.load(*places, "background", side, train=False)["test"]


def _add(table, name, right, unit, over):
    bounds = intervals.of_mean(right.ravel(), unit.ravel())
    interval = "-" if bounds is None else "{:.1f}-{:.1f}".format(*(100 * bound for bound in bounds))
    table.add_row(name, f"{100 * right.mean():.2f}", interval, f"{len(np.unique(unit))} {over}", str(right.size))


def find_official(drawings: Dataset, options: argparse.Namespace) -> one_shot.Trials:
    """The official runs as numbers of the evaluation data's drawings, 105 pixels wide, found by equal pixels."""
    cache = pathlib.Path(options.data_dir or "~/tensorflow_datasets").expanduser() / "downloads" / "omniglot"
    images, trials = official_runs.load(official_runs.find(options.manual_dir, cache), 105)
    number_of = {image.tobytes(): number for number, image in enumerate(drawings.images)}
    number = np.array([number_of.get(image.tobytes(), -1) for image in images], np.int32)
    if (number < 0).any():
        raise ValueError(
            f"{np.sum(number < 0)} of the {len(number)} drawings of all_runs.zip are not among the evaluation data; "
            "download it and images_evaluation.zip again"
        )
    return one_shot.Trials(number[trials.support], number[trials.query], trials.answer)


def kinds_of_trials(dataset: Dataset, official: one_shot.Trials) -> dict[str, one_shot.Trials]:
    """The official runs, 25 runs for each of them with random drawers or characters, and 500 with both random.

    Args:
      dataset: n drawings, each character once by every drawer.
      official: r runs of 20 characters of an alphabet by one drawer, and of the same by another one.
    """
    rng = np.random.default_rng(_SEED)
    image = np.empty((dataset.label.max() + 1, dataset.source.max() + 1), np.int32)
    image[dataset.label, dataset.source] = np.arange(len(dataset))
    # The characters int [r, 20] and the two drawers int [r, 2] of each run, 25 times.
    characters = np.tile(dataset.label[official.support[..., 0]], (_REPEATS, 1))
    drawers = dataset.source[np.stack([official.support[:, 0, 0], official.query[:, 0]], axis=1)]
    drawers = np.tile(drawers, (_REPEATS, 1))
    alphabets = dataset.group[np.tile(official.query[:, 0], _REPEATS)]
    others = [rng.choice(np.unique(dataset.label[dataset.group == group]), 20, replace=False) for group in alphabets]
    pairs = np.array([rng.choice(image.shape[1], 2, replace=False) for _ in alphabets])

    def made(characters, drawers):
        answer = rng.permuted(np.tile(np.arange(20, dtype=np.int32), (len(characters), 1)), axis=1)
        queries = np.take_along_axis(characters, answer, axis=1)
        return one_shot.Trials(image[characters, drawers[:, :1]][..., None], image[queries, drawers[:, 1:]], answer)

    def random(among):
        return one_shot.within_group(dataset, trials=20 * len(alphabets), ways=20, seed=_SEED, among=among)

    return {
        "official runs": official,
        "their characters, by random drawers": made(characters, pairs),
        "random characters of their alphabets, by their drawers": made(np.array(others), drawers),
        "random, of the same alphabets": random({dataset.group_names[group] for group in alphabets}),
        "random, of all 20 evaluation alphabets": random(None),
    }


def distance_scores(images: np.ndarray, trials: one_shot.Trials) -> np.ndarray:
    """Minus the modified Hausdorff distance of each query to each candidate, float [r, q, ways].

    Dubuisson, Jain: A modified Hausdorff distance for object matching (1994): the larger one of the mean distances from
    the ink of a drawing to the nearest ink of the other. As in Lake's demo, both are centred on their mean.

    Args:
      images: uint8 [n, h, w, 1], ink above 0.
      trials: r runs with one support image of each identity.
    """
    inks = {
        number: np.argwhere(images[number, ..., 0]) for number in np.unique([*trials.query.flat, *trials.support.flat])
    }
    inks = {number: ink - ink.mean(axis=0) for number, ink in inks.items()}
    trees = {number: scipy.spatial.cKDTree(ink) for number, ink in inks.items()}

    def distance(a, b):
        return max(trees[b].query(inks[a])[0].mean(), trees[a].query(inks[b])[0].mean())

    runs = zip(trials.query, trials.support[..., 0], strict=True)
    return -np.array([[[distance(a, b) for b in support] for a in query] for query, support in runs])


if __name__ == "__main__":
    main()
