"""Pictures of figures, in the folder of a report."""

import io
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from siamjax import extras, files
from siamjax.data import Dataset
from siamjax.data.images import upright
from siamjax.evaluation import Measure, PairScores, Skipped, one_shot
from siamjax.evaluation.verification import roc
from siamjax.report.console import note
from siamjax.training import metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_QUERY, _RIGHT, _WRONG, _OTHER = (0, 0, 0), (44, 160, 44), (214, 39, 40), (225, 225, 225)
_WORST = 12  # wrong pairs of each kind shown, at most
_FRAME, _CELL = 3, 44  # pixels: width of a frame, least size of an image within it


def pictures(
    folder: pathlib.Path,
    about: str,
    dataset: Dataset,
    pairs: PairScores,
    outcomes: Sequence[Measure | Skipped],
    page: tuple[one_shot.Trials, np.ndarray] | None = None,
) -> None:
    """Draws the pictures of an evaluation: trials.png, verification.png, worst_pairs.png and reliability.png.

    Args:
      folder: where they are stored.
      about: names the run and the data.
      dataset: the test data; inputs that are not images are not shown.
      pairs: its pairs and their scores.
      outcomes: the figures; pictures show AUC, EER and log loss. Without these, only trials.png is drawn.
      page: trials on the test data and their scores float [r, q, ways]; None for no trials.png.
    """
    measures = {row.name: row.value for row in outcomes if isinstance(row, Measure) and row.table == "pairs"}
    of_images = dataset.images.dtype == np.uint8 and len(dataset.images.shape) == 4
    if page and of_images:
        trials(folder, about, dataset, *page)
    if not measures:
        return
    _verification(folder, about, pairs, measures)
    if of_images:
        _worst_pairs(folder, about, dataset, pairs)
    _reliability(folder, about, pairs, measures["log_loss"])


def _verification(folder, about, pairs, measures):
    """Draws ROC and DET curves, and the scores of same and different pairs."""
    same, scores = pairs.same, pairs.scores
    false_accepts, true_accepts = roc(scores, same)
    figure = _figure(15, 4.6)
    figure.suptitle(about, fontsize=10, parse_math=False)
    left, middle, right = figure.subplots(1, 3)
    left.plot(false_accepts, true_accepts)
    left.set(title=f"ROC: AUC {measures['auc']:.4f}", xlabel="false accept rate", ylabel="true accept rate")
    left.set(xscale="log", xlim=(1e-4, 1))
    middle.plot(false_accepts, 1 - true_accepts)
    middle.plot([1e-4, 1], [1e-4, 1], color="grey", linestyle=":", linewidth=1)
    if measures["eer"] > 0:
        middle.plot(measures["eer"], measures["eer"], "o", color="black", markersize=4)
    middle.set(title=f"DET: EER {measures['eer']:.2%}", xlabel="false accept rate", ylabel="false reject rate")
    middle.set(xlim=(1e-4, 1), ylim=(1e-4, 1), xscale="log", yscale="log")
    for kind, name in ((same, "same"), (~same, "different")):
        right.hist(scores[kind], bins=np.histogram_bin_edges(scores, 60), alpha=0.6, label=name)
    right.axvline(pairs.decision.threshold, color="black", linewidth=1, label="threshold, from validation pairs")
    right.set(title="scores of test pairs", xlabel="score", ylabel="pairs")
    right.legend()
    for axis in (left, middle):
        axis.grid(alpha=0.3)
    _save(figure, folder, "verification.png")


def _worst_pairs(folder, about, dataset, scored):
    """Draws the mistakes farthest from the threshold, one per pair of identities."""
    pairs, same, scores, decision = scored.pairs, scored.same, scored.scores, scored.decision
    error = np.where(same, decision.threshold - scores, scores - decision.threshold)
    wrong = decision.same(scores) != same
    rows, titles = [], []
    for kind, name, each in (
        (~same, "false accepts: judged the same", "pair of identities"),
        (same, "false rejects: judged different", "identity"),
    ):
        shown = worst_of_each(error, wrong & kind, dataset.label[pairs])[:_WORST]
        if len(shown):
            cells = [[_cell(image, _WRONG, dataset.ink) for image in dataset.images[pairs[number]]] for number in shown]
            rows.append(np.concatenate([np.concatenate(two) for two in cells], axis=1))
            count = f"{np.sum(wrong & kind)} of {np.sum(kind)} pairs are {name}"
            titles.append(f"{count}; the worst of each {each}, {len(shown)} shown")
    if not rows:
        return note("all test pairs are judged correctly")
    _page(folder, "worst_pairs.png", rows, titles, about)


def worst_of_each(error: np.ndarray, wrong: np.ndarray, identities: np.ndarray) -> np.ndarray:
    """The worst mistake of each pair of identities.

    Args:
      error: float [n], how far the score of each pair is on the wrong side of the threshold.
      wrong: bool [n], which pairs are mistakes.
      identities: int [n, 2], of the two images of each pair, in either order.

    Returns:
      Pair numbers, int [m], worst first.
    """
    order = np.argsort(-error, kind="stable")
    order = order[wrong[order]]
    _, first = np.unique(np.sort(identities[order], axis=1), axis=0, return_index=True)
    return order[np.sort(first)]


def _reliability(folder, about, pairs, log_loss):
    """Draws the share of same pairs against the predicted probability."""
    probability = pairs.decision.probability(pairs.scores)
    place = np.minimum((10 * probability).astype(int), 9)
    count, same, total = (np.bincount(place, weight, 10) for weight in (None, pairs.same, probability))
    filled = count > 0
    figure = _figure(5, 5.6)
    figure.suptitle(about, fontsize=8)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    upper.plot(total[filled] / count[filled], same[filled] / count[filled], marker="o")
    upper.set(title=f"test pairs: log loss {log_loss:.3f} (always ½: 0.693)", ylabel="share of same pairs")
    for kind, name in ((pairs.same, "same"), (~pairs.same, "different")):
        lower.hist(probability[kind], bins=np.linspace(0, 1, 21), alpha=0.6, label=name)
    lower.set(xlabel="probability of same", ylabel="pairs", xlim=(0, 1))
    lower.legend()
    for axis in (upper, lower):
        axis.grid(alpha=0.3)
    _save(figure, folder, "reliability.png")


def curves(folder: pathlib.Path, table: pathlib.Path, about: str) -> None:
    """Draws loss, pair accuracy and validation one-shot accuracy over the steps: curves.png.

    Args:
      folder: where it is stored.
      table: a metrics.csv.
      about: names the run and the data.
    """
    rows = metrics.read(table)
    titles = {
        "loss": "training loss",
        "pair_accuracy": "training pair accuracy",
        "validation_one_shot": "validation one-shot accuracy",
    }
    from matplotlib import ticker

    figure = _figure(12, 3.6)
    figure.suptitle(about, fontsize=10, parse_math=False)
    for axis, (name, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        points = [(row["step"], row[name]) for row in rows if name in row]
        axis.plot(*np.transpose(points), marker="." if len(points) < 50 else "")
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        if name != "loss":
            axis.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
    _save(figure, folder, "curves.png")


def trials(
    folder: pathlib.Path,
    about: str,
    dataset: Dataset,
    trials: one_shot.Trials,
    scores: np.ndarray,
    rights: int = 4,
    mistakes: int = 20,
) -> None:
    """Draws some correct trials and mistakes: trials.png.

    Each row is a trial: the query, then its support set with the right identity framed green and a wrong choice red.

    Args:
      folder: where it is stored.
      about: names the run and the data.
      dataset: the images of the trials.
      trials: one-shot trials on it.
      scores: float [r, q, ways].
      rights: number of correct trials shown, at most.
      mistakes: number of mistakes shown, at most.
    """
    wrong = ~one_shot.right(scores, trials.answer)
    chosen = one_shot.rival(scores, trials.answer)
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
    title = (
        f"{wrong.size} trials, {wrong.sum()} mistakes ({min(wrong.sum(), mistakes)} of them shown, last). "
        "Left: the query; green: the right identity; red: a wrong choice"
    )
    _page(folder, "trials.png", [np.concatenate(rows)], [title], about)


def _page(folder, name, blocks, titles, about):
    """Saves blocks of images, uint8 [h, w, 3] each, stacked without scaling, each under its title."""
    sizes = [block.shape[0] / 100 + 0.4 for block in blocks]
    width = max(900, *(block.shape[1] for block in blocks)) / 100
    figure = _figure(width, sum(sizes) + 0.3)
    figure.suptitle(about, fontsize=10, parse_math=False)
    for axis, block, title in zip(
        figure.subplots(len(blocks), 1, height_ratios=sizes, squeeze=False).ravel(), blocks, titles, strict=True
    ):
        axis.imshow(block, interpolation="none")
        axis.set_anchor("W")
        axis.set_axis_off()
        axis.set_title(title, fontsize=10, loc="left", parse_math=False)
    _save(figure, folder, name)


def contact_sheet(query: str, matches: Sequence, path: str) -> None:
    """Saves a picture of a query and its matches.

    Args:
      query: image file.
      matches: `gallery.Match` each, best first.
      path: where the picture is stored.
    """
    with upright(query, "RGB", 400) as image:
        pictures = [(np.asarray(image), "query")]
    for match in matches:
        # Images enrolled on another machine have no thumbnail here, but the file may exist.
        place = next((path for path in (match.thumbnail, pathlib.Path(match.path)) if path.is_file()), None)
        image = np.full((96, 96, 3), 230, np.uint8)
        if place:
            with upright(place, "RGB", 200) as thumbnail:
                image = np.asarray(thumbnail)
        likely = f"score {match.score:.2f}" if np.isnan(match.probability) else f"{100 * match.probability:.1f} %"
        pictures.append((image, f"{match.identity}\n{likely}"))
    columns = min(6, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = _figure(1.6 * columns, 2.0 * rows)
    for axis in figure.subplots(rows, columns, squeeze=False).ravel():
        axis.set_axis_off()
        if pictures:
            image, title = pictures.pop(0)
            axis.imshow(image)
            axis.set_title(title, fontsize=8, parse_math=False)
    content = io.BytesIO()
    figure.savefig(content, dpi=100, format="png")
    files.write(pathlib.Path(path), content.getvalue())


def _cell(image, frame, ink):
    """Enlarges and frames an image uint8 [h, w, c]: uint8 [cell, cell, 3]; `ink` as in `Dataset`."""
    scale = -(-_CELL // image.shape[0])
    if image.shape[2] == 1:
        image = image.repeat(3, axis=2)
        image = 255 - image if ink else image
    image = image.repeat(scale, axis=0).repeat(scale, axis=1)
    framed = np.empty((image.shape[0] + 2 * _FRAME, image.shape[1] + 2 * _FRAME, 3), np.uint8)
    framed[:] = frame
    framed[_FRAME:-_FRAME, _FRAME:-_FRAME] = image
    return np.pad(framed, ((_FRAME, _FRAME), (_FRAME, _FRAME), (0, 0)), constant_values=255)


def _figure(width: float, height: float) -> "Figure":
    """An empty picture, in inches; the tables of this file do without matplotlib."""
    with extras.needed_for("a picture"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure, folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / name, dpi=100)
    note(f"wrote {folder / name}")
