"""Figures -> tables on the terminal and pictures in `<workdir>/report`."""

import pathlib

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import rich.console
import rich.table

from siamjax.training import metrics

_RIGHT, _WRONG = "tab:green", "tab:red"


def note(message: str):
    """Prints one line."""
    rich.console.Console().print(message, highlight=False, markup=False)


def table(results: dict, title: str):
    """Prints protocol, accuracy, 95 % interval, trials and seed."""
    shown = rich.table.Table(title=title)
    shown.add_column("protocol")
    for column in ("accuracy %", "95 % interval", "trials", "seed"):
        shown.add_column(column, justify="right")
    for name, row in results.items():
        low, high = row["ci95"]
        seed = "" if row["seed"] is None else str(row["seed"])
        shown.add_row(
            name, f"{row['accuracy']:.2%}"[:-1], f"{low:.2%}"[:-1] + f" - {high:.2%}"[:-1], f"{row['trials']}", seed
        )
    # Names and figures are there to be copied: in a narrow terminal, or in a file, they run on uncut.
    rich.console.Console(width=max(rich.console.Console().width, 110)).print(shown)


def curves(workdir: pathlib.Path):
    """Draws loss, pair accuracy and validation one-shot accuracy over the steps: report/curves.png."""
    rows = metrics.read(workdir / "metrics.csv")
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    titles = {
        "loss": "training loss",
        "pair_accuracy": "training pair accuracy",
        "validation_one_shot": "validation one-shot",
    }
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        points = [(row["step"], row[name]) for row in rows if name in row]
        axis.plot(*np.transpose(points) if points else ([], []), marker="." if len(points) < 50 else "")
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        if name != "loss":
            axis.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    _save(figure, workdir, "curves.png")


def trials(workdir: pathlib.Path, dataset, trials, scores: np.ndarray, rights: int = 6, mistakes: int = 10):
    """Draws some trials, the wrong ones among them: report/trials.png.

    A row is a trial: the query, then its support set with the right identity framed green and a wrong choice red.

    Args:
      workdir: the run folder.
      dataset: `Dataset` of the images.
      trials: `one_shot.Trials` on it, one shot.
      scores: float [r, q, ways].
      rights: number of rightly answered trials shown, at most.
      mistakes: number of mistakes shown, at most.
    """
    chosen = scores.argmax(axis=2)
    wrong = chosen != trials.answer
    rng = np.random.default_rng(0)
    right_rows, wrong_rows = (rng.permutation(np.argwhere(rows)) for rows in (~wrong, wrong))
    rows = [*right_rows[:rights], *wrong_rows[:mistakes]]
    ways = scores.shape[2]
    figure, axes = plt.subplots(
        len(rows), ways + 2, figsize=(0.5 * (ways + 2), 0.5 * len(rows) + 0.6), squeeze=False, layout="constrained"
    )
    for axis in axes.ravel():
        axis.set_axis_off()
    for row, (run, query) in enumerate(rows):
        _image(axes[row, 0], dataset.images[trials.query[run, query]], "black")
        for way in range(ways):
            frame = _RIGHT if way == trials.answer[run, query] else _WRONG if way == chosen[run, query] else None
            _image(axes[row, way + 2], dataset.images[trials.support[run, way, 0]], frame)
    figure.suptitle(
        f"{wrong.size} trials, {wrong.sum()} mistakes ({min(len(wrong_rows), mistakes)} shown last). "
        "Query left; green: the right one; red: chosen wrongly",
        fontsize=9,
    )
    _save(figure, workdir, "trials.png")


def _image(axis, image, frame):
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[])
    axis.imshow(255 - image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
    for spine in axis.spines.values():
        spine.set(color=frame or "lightgray", linewidth=2.5 if frame else 0.5)


def _save(figure, workdir, name):
    folder = workdir / "report"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / name, dpi=110)
    plt.close(figure)
    note(f"wrote {folder / name}")
