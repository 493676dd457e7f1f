"""Draws the learning curve of docs/results.md from run folders: `python docs/draw_results.py NAME=RUNFOLDER ...`.

The curve is of random trials, so it has no lines for people or BPL, whose figures are of the official runs.
"""

import pathlib
import sys

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from siamjax.training import metrics


def main(runs):
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    for name, folder in runs:
        rows = [row for row in metrics.read(pathlib.Path(folder) / "metrics.csv") if "validation_one_shot" in row]
        minutes, accuracy = [row["seconds"] / 60 for row in rows], [row["validation_one_shot"] for row in rows]
        axis.plot(minutes, accuracy, marker=".", label=name)
    axis.set(
        xlabel="minutes of training on two CPU cores",
        ylabel="20-way one-shot accuracy, random trials of validation alphabets",
    )
    axis.set_ylim(0.7, 1.0)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    path = pathlib.Path(__file__).parent / "images" / "learning_curve.png"
    figure.savefig(path, dpi=100)
    print(path)


if __name__ == "__main__":
    main([argument.split("=", 1) for argument in sys.argv[1:]])
