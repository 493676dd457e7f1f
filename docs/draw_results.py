"""Draws the learning curve of docs/results.md: `python docs/draw_results.py RUNFOLDER ...`, a point for each run.

The runs are trainings of different lengths, each with a whole schedule. People and BPL are lines over the official runs
only: those are the trials that they took.
"""

import json
import pathlib
import sys

from matplotlib.figure import Figure

from siamjax.training import metrics

_PROTOCOLS = {"official_runs": "Lake's 20 official runs", "within_alphabet_20way_1shot": "random trials"}
_REFERENCES = {"people": 95.5, "BPL": 96.7}


def main(folders):
    runs = sorted((_minutes(folder), json.loads((folder / "results.json").read_text())) for folder in folders)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    for protocol, name in _PROTOCOLS.items():
        minutes, accuracy = zip(*((at, 100 * results[protocol]["accuracy"]) for at, results in runs), strict=True)
        axis.plot(minutes, accuracy, marker="o", label=name)
    for name, accuracy in _REFERENCES.items():
        axis.axhline(accuracy, color="C0", linestyle=":")
        axis.text(runs[0][0], accuracy + 0.1, f"{name}, official runs: {accuracy} %", color="C0", va="bottom")
    axis.set(xscale="log", xlabel="minutes of training", ylabel="20-way one-shot accuracy in %")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.grid(alpha=0.3, which="both")
    axis.legend(loc="lower right")
    path = pathlib.Path(__file__).parent / "images" / "learning_curve.png"
    figure.savefig(path, dpi=100)
    print(path)


def _minutes(folder):
    return metrics.read(folder / "metrics.csv")[-1]["seconds"] / 60


if __name__ == "__main__":
    main([pathlib.Path(argument) for argument in sys.argv[1:]])
