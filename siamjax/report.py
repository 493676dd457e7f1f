"""Figures -> tables on the terminal and pictures in `<workdir>/report`."""

import pathlib
from collections.abc import Sequence

import numpy as np
import rich.console
import rich.table
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from siamjax.data.dataset import Dataset
from siamjax.data.images import opened, upright
from siamjax.evaluation import one_shot, protocols
from siamjax.evaluation.verification import roc
from siamjax.training import metrics

_QUERY, _RIGHT, _WRONG, _OTHER = (0, 0, 0), (44, 160, 44), (214, 39, 40), (225, 225, 225)
_FRAME, _CELL = 3, 44  # pixels: width of a frame, and least size of an image within it


def note(message: str):
    """Prints one line."""
    rich.console.Console().print(message, highlight=False, markup=False, soft_wrap=True)


def table(results: dict, title: str):
    """Prints protocol, accuracy, 95 % interval, trials and seed."""
    shown = rich.table.Table(title=title)
    shown.add_column("protocol")
    for column in ("accuracy %", "95 % interval", "trials", "seed"):
        shown.add_column(column, justify="right")
    for name, row in results.items():
        low, high = row["ci95"]
        interval = f"{100 * low:.2f} - {100 * high:.2f}"
        seed = "" if row["seed"] is None else str(row["seed"])
        shown.add_row(name, f"{100 * row['accuracy']:.2f}", interval, str(row["trials"]), seed)
    _print(shown)


def figures(values: dict[str, float], title: str):
    """Prints name and value."""
    shown = rich.table.Table(title=title, min_width=len(title) + 4)
    shown.add_column("measure")
    shown.add_column("%", justify="right")
    for name, value in values.items():
        shown.add_row(name, f"{100 * value:.2f}")
    _print(shown)


def _print(shown):
    # Names and figures are there to be copied: in a narrow terminal, or in a file, they run on uncut.
    rich.console.Console(width=max(rich.console.Console().width, 110), markup=False, emoji=False).print(shown)


def verification(workdir: pathlib.Path, dataset: Dataset, verified: protocols.Verified, worst: int = 12):
    """Draws ROC and DET curves and the scores of both kinds of pairs, report/verification.png; and the `worst` false
    accepts and false rejects, the farthest from the threshold first, report/worst_pairs.png."""
    pairs, same, scores, decision = verified
    false_accepts, true_accepts = roc(scores, same)
    figure = Figure(figsize=(15, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.plot(false_accepts, true_accepts)
    left.set(title="ROC", xlabel="false accept rate", ylabel="true accept rate", xscale="log", xlim=(1e-4, 1))
    middle.plot(false_accepts, 1 - true_accepts)
    middle.plot([1e-4, 1], [1e-4, 1], color="grey", linestyle=":", linewidth=1)
    middle.set(title="DET", xlabel="false accept rate", ylabel="false reject rate", xscale="log", yscale="log")
    middle.set(xlim=(1e-4, 1), ylim=(1e-4, 1))
    for kind, name in ((same, "same"), (~same, "different")):
        right.hist(scores[kind], bins=np.histogram_bin_edges(scores, 60), alpha=0.6, label=name)
    right.axvline(decision.threshold, color="black", linewidth=1, label="threshold, from validation pairs")
    right.set(title="scores of test pairs", xlabel="score", ylabel="pairs")
    right.legend()
    for axis in (left, middle):
        axis.grid(alpha=0.3)
    _save(figure, workdir, "verification.png")
    beyond = np.where(same, decision.threshold - scores, scores - decision.threshold)
    wrong = decision.same(scores) != same
    rows = []
    for kind, frame in ((~same, _WRONG), (same, _RIGHT)):
        shown = {}  # A pair may have been drawn twice.
        for number in np.argsort(-beyond):
            if wrong[number] and kind[number] and len(shown) < worst:
                two = [_cell(image, frame, dataset.ink) for image in dataset.images[pairs[number]]]
                shown[tuple(sorted(pairs[number].tolist()))] = np.concatenate(two)
        rows += [list(shown.values())] if shown else []
    if not rows:
        return note("no test pair is judged wrongly")
    blank = np.full_like(rows[0][0], 255)
    page = np.concatenate([np.concatenate([*row, *[blank] * (worst - len(row))], axis=1) for row in rows])
    _page(
        workdir,
        "worst_pairs.png",
        page,
        f"{np.sum(wrong & ~same)} false accepts (red) and {np.sum(wrong & same)} false rejects (green) among "
        f"{len(same)} test pairs; the worst of each",
    )


def curves(workdir: pathlib.Path):
    """Draws loss, pair accuracy and validation one-shot accuracy over the steps: report/curves.png."""
    rows = metrics.read(workdir / "metrics.csv")
    titles = {
        "loss": "training loss",
        "pair_accuracy": "training pair accuracy",
        "validation_one_shot": "validation one-shot accuracy",
    }
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    for axis, (name, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        points = [(row["step"], row[name]) for row in rows if name in row]
        axis.plot(*np.transpose(points), marker="." if len(points) < 50 else "")
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        if name != "loss":
            axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    _save(figure, workdir, "curves.png")


def trials(
    workdir: pathlib.Path,
    dataset: Dataset,
    trials: one_shot.Trials,
    scores: np.ndarray,
    rights: int = 4,
    mistakes: int = 20,
):
    """Draws some trials, the wrong ones among them: report/trials.png.

    A row is a trial: the query, then its support set with the right identity framed green and a wrong choice red.

    Args:
      workdir: the run folder.
      dataset: where the trials' images are.
      trials: one-shot trials on it.
      scores: float [r, q, ways].
      rights: number of rightly answered trials shown, at most.
      mistakes: number of mistakes shown, at most.
    """
    wrong = ~one_shot.right(scores, trials.answer)
    others = scores.copy()
    np.put_along_axis(others, trials.answer[..., None], -np.inf, axis=2)
    chosen = others.argmax(axis=2)
    rng = np.random.default_rng(0)
    shown = [*rng.permutation(np.argwhere(~wrong))[:rights], *rng.permutation(np.argwhere(wrong))[:mistakes]]
    rows = []
    for run, query in shown:
        frames = [_OTHER] * scores.shape[2]
        if wrong[run, query]:
            frames[chosen[run, query]] = _WRONG
        frames[trials.answer[run, query]] = _RIGHT
        cells = [_cell(dataset.images[trials.query[run, query]], _QUERY, dataset.ink)]
        cells.append(np.full_like(cells[0], 255))
        cells += [
            _cell(dataset.images[i], frame, dataset.ink)
            for i, frame in zip(trials.support[run, :, 0], frames, strict=True)
        ]
        rows.append(np.concatenate(cells, axis=1))
    _page(
        workdir,
        "trials.png",
        np.concatenate(rows),
        f"{wrong.size} trials, {wrong.sum()} mistakes ({min(wrong.sum(), mistakes)} of them shown, last). "
        "Left the query; green the right one; red a wrong choice",
    )


def _page(workdir, name, page, title):
    """Saves a page of images, uint8 [h, w, 3], pixel by pixel, under a line of text."""
    figure = Figure(figsize=(max(page.shape[1], 900) / 100, page.shape[0] / 100 + 0.4), layout="constrained")
    axis = figure.subplots()
    axis.imshow(page, interpolation="none")
    axis.set_axis_off()
    axis.set_title(title, fontsize=10, parse_math=False)
    _save(figure, workdir, name)


def contact_sheet(query: str, matches: Sequence, path: str):
    """Saves a picture of the image file `query` and of its `matches`, a sequence of `gallery.Match`, best first."""
    with opened(query) as image:
        pictures = [(np.asarray(upright(image, "RGB", 400)), "query")]
    for match in matches:
        # What was enrolled elsewhere has no thumbnail here, but perhaps its file.
        place = next((path for path in (match.thumbnail, pathlib.Path(match.path)) if path.exists()), None)
        image = np.full((96, 96, 3), 230, np.uint8)
        if place:
            with opened(place) as thumbnail:
                image = np.asarray(upright(thumbnail, "RGB", 200))
        pictures.append((image, f"{match.identity}\n{100 * match.probability:.1f} %"))
    columns = min(6, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.6 * columns, 2.0 * rows), layout="constrained")
    for axis in figure.subplots(rows, columns, squeeze=False).ravel():
        axis.set_axis_off()
        if pictures:
            image, title = pictures.pop(0)
            axis.imshow(image)
            axis.set_title(title, fontsize=8, parse_math=False)
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, format="png")


def _cell(image, frame, ink):
    """uint8 [h, w, c] -> uint8 [cell, cell, 3], enlarged and framed; `ink` as in `Dataset`."""
    scale = -(-_CELL // image.shape[0])
    if image.shape[2] == 1:
        image = image.repeat(3, axis=2)
        image = 255 - image if ink else image
    image = image.repeat(scale, axis=0).repeat(scale, axis=1)
    framed = np.empty((image.shape[0] + 2 * _FRAME, image.shape[1] + 2 * _FRAME, 3), np.uint8)
    framed[:] = frame
    framed[_FRAME:-_FRAME, _FRAME:-_FRAME] = image
    return np.pad(framed, ((_FRAME, _FRAME), (_FRAME, _FRAME), (0, 0)), constant_values=255)


def _save(figure, workdir, name):
    folder = workdir / "report"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / name, dpi=100)
    note(f"wrote {folder / name}")
