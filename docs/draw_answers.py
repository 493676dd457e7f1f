"""Draws the answers of README.md: `python docs/draw_answers.py --manual_dir FOLDER`, with Omniglot's archives.

Twelve random queries of the official runs, which the shipped network never saw, and its four best candidates of twenty.
"""

import argparse
import pathlib

import numpy as np
from matplotlib.figure import Figure

from siamjax import Network
from siamjax.evaluation import official_runs

_ROWS, _COLUMNS, _SHOWN = 3, 4, 4
_PAPER, _RIGHT, _WRONG, _QUIET = "#ffffff", "#1a7f37", "#c62828", "#57606a"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manual_dir", required=True, help="folder with Omniglot's archives and all_runs.zip")
    options = parser.parse_args()
    network = Network.load("omniglot-fast")
    place = official_runs.find(options.manual_dir, pathlib.Path())
    small, trials = official_runs.load(place, network.inputs.shape[0])
    large, _ = official_runs.load(place, 105)
    embeddings = network.embed(small)
    scores = network.score_trials(embeddings, trials.query, trials.support)
    rng = np.random.default_rng(0)
    runs = rng.choice(len(trials.query), _ROWS * _COLUMNS, replace=False)
    asked = [(run, int(rng.integers(trials.query.shape[1]))) for run in runs]
    figure = Figure(figsize=(10, 2.5), layout="constrained", facecolor=_PAPER)
    parts = figure.subfigures(_ROWS, _COLUMNS, wspace=0.04).ravel()
    for part, (run, number) in zip(parts, asked, strict=True):
        order = np.argsort(-scores[run, number])[:_SHOWN]
        shown = [large[trials.query[run, number]], *large[trials.support[run, order, 0]]]
        likely = network.decision.probability(scores[run, number, order])
        for place, axis in enumerate(part.subplots(1, _SHOWN + 1)):
            axis.imshow(255 - shown[place][..., 0], cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
            right = place > 0 and order[place - 1] == trials.answer[run, number]
            colour = _RIGHT if right else _WRONG if place == 1 else "#d0d7de"
            for spine in axis.spines.values():
                spine.set(color=_QUIET if place == 0 else colour, linewidth=2 if right or place == 1 else 0.8)
            label = "query" if place == 0 else f"{100 * likely[place - 1]:.0f} %"
            axis.set_xlabel(label, fontsize=8, color=_QUIET if place != 1 else colour, labelpad=3)
    path = pathlib.Path(__file__).parent / "images" / "answers.png"
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == "__main__":
    main()
