"""What a network answered, as JSON for a page: counts at every threshold, pairs and trials to look at, and a map."""

import base64
import dataclasses
import io
import os
from typing import Any

import numpy as np

from siamjax.data import Dataset
from siamjax.evaluation import PairScores, Subject, one_shot

Json = dict[str, Any]

_ON_MAP = 1000  # images on the map, at most
_OF_IDENTITY = 12  # images of an identity on the map, at least, if it has so many
_ROWS = 1000  # thresholds, evenly by rank; those with few mistakes are added
_FEW = 250  # mistakes of one kind up to which every threshold is kept
_MISTAKES, _NEAREST, _RANDOM = 100, 60, 30  # pairs shown: of each kind of mistake; near the threshold; of each kind
_WRONG_TRIALS, _RIGHT_TRIALS, _RANKED = 40, 20, 5  # trials shown, and candidates of each
_SIDE = 48  # pixels: longest side of a thumbnail
_SHEET = 3_000_000  # bytes of all thumbnails, above which they are compressed more


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Images for a map: `numbers` int [m] in their data set, and `scores` float32 [m, m] of each with each."""

    numbers: np.ndarray
    scores: np.ndarray


def neighbours(subject: Subject) -> Neighbours | None:
    """Scores at most 1000 test images of randomly drawn identities with each other; all processes must call this.

    Returns:
      None if there are fewer than ten images, or if each side of a pair has an encoder of its own.
    """
    label = subject.datasets["test"].label
    if subject.network.towers == 2 or len(label) < 10:
        return None
    rng = np.random.default_rng(0)
    identities = rng.permutation(label.max() + 1)
    most, chosen = max(_OF_IDENTITY, _ON_MAP // len(identities)), []
    for identity in identities:
        images = rng.permutation(np.flatnonzero(label == identity))[:most]
        if len(chosen) + len(images) > _ON_MAP:
            break
        chosen += sorted(images.tolist())
    numbers = np.array(chosen)
    embeddings = subject.embeddings["test"][numbers]
    return Neighbours(numbers, subject.network.score_all(embeddings, embeddings))


def answers(
    dataset: Dataset,
    pairs: PairScores,
    trials: tuple[one_shot.Trials, np.ndarray] | None = None,
    near: Neighbours | None = None,
) -> Json:
    """The answers of an evaluation, for `siamjax.report.write`.

    Args:
      dataset: the test data; inputs that are not images are named, but not shown.
      pairs: its pairs and their scores, finite; at least one same and one different pair.
      trials: trials on it, and their scores float [r, q, ways]; None if there are none.
      near: images for the map; None for no map.

    Returns:
      JSON with "decision", "pairs" (how many), "data", "table", "points", "histogram", "reliability", "shown" (pairs),
      "trials", "map", and the shown images: "names", "groups", "files", "sheet". In "table", row i counts the pairs
      that are wrong where the same means a score above "threshold"[i]; thresholds increase.
    """
    decision, same = pairs.decision, np.asarray(pairs.same, bool)
    scores = np.asarray(pairs.scores, np.float64)
    shown = _shown_pairs(pairs)
    rows = _trials(*trials) if trials else None
    points = _map(dataset, near) if near else None
    used = [pairs.pairs[shown].ravel(), *([rows["images"]] if rows else []), *([near.numbers] if near else [])]
    numbers = np.unique(np.concatenate(used))
    if rows:
        rows = {key: value for key, value in rows.items() if key != "images"}
        for row in rows["rows"]:
            row["query"], row["ranked"] = (np.searchsorted(numbers, row[key]).tolist() for key in ("query", "ranked"))
    if points and near:
        points["image"] = np.searchsorted(numbers, near.numbers).tolist()
    probability = decision.probability(scores)
    return {
        "decision": {name: getattr(decision, name) for name in ("threshold", "slope", "even", "least", "most")},
        "pairs": {"same": int(same.sum()), "different": int((~same).sum())},
        "data": {"images": len(dataset), "identities": len(np.unique(dataset.label))},
        **_table(scores, same, decision.threshold),
        "histogram": _histogram(scores, same),
        "reliability": _reliability(probability, same),
        "shown": [
            [*np.searchsorted(numbers, pairs.pairs[i]).tolist(), bool(same[i]), _digits(scores[i])] for i in shown
        ],
        "trials": rows,
        "map": points,
        **_images(dataset, numbers),
    }


def _digits(value):
    """Nine digits, which tell any two float32 numbers apart."""
    return float(f"{value:.9g}")


def _table(scores, same, threshold):
    """Mistakes by threshold, at enough thresholds to draw curves; and those of the usual operating points."""
    distinct = np.unique(scores)
    margin = max(1e-6, 0.02 * (distinct[-1] - distinct[0]))
    between = (distinct[1:] + distinct[:-1]) / 2
    # Thresholds above `between[i]` and below the score after it give the same answers; so does the run's own.
    every = np.unique(np.concatenate([[distinct[0] - margin], between, [distinct[-1] + margin, threshold]]))
    accepts = np.sum(~same) - np.searchsorted(np.sort(scores[~same]), every, side="right")
    rejects = np.searchsorted(np.sort(scores[same]), every, side="right")
    points = {"threshold of the run": int(np.flatnonzero(every == threshold)[0])}
    far, frr = accepts / np.sum(~same), rejects / np.sum(same)
    points["EER"] = int(np.argmin(np.abs(far - frr)))
    for rate in (1e-2, 1e-3):
        if rate * np.sum(~same) >= 1:
            points[f"FAR {rate:g}"] = int(np.argmax(far <= rate))
    kept = [np.linspace(0, len(every) - 1, _ROWS).astype(int), [*points.values()]]
    for mistakes in (accepts, rejects):
        changed = np.flatnonzero((np.diff(mistakes) != 0) & (np.minimum(mistakes[1:], mistakes[:-1]) <= _FEW))
        kept += [changed, changed + 1]
    rows = np.unique(np.concatenate(kept).astype(int))
    columns = {"threshold": every, "false_accepts": accepts, "false_rejects": rejects}
    return {
        "table": {name: column[rows].tolist() for name, column in columns.items()},
        "points": [{"name": name, "row": int(np.searchsorted(rows, row))} for name, row in points.items()],
    }


def _histogram(scores, same):
    edges = np.histogram_bin_edges(scores, 48)
    of = {name: np.histogram(scores[kind], edges)[0].tolist() for name, kind in (("same", same), ("different", ~same))}
    return {"edges": edges.tolist(), **of}


def _reliability(probability, same):
    """In ten equal bins of the predicted probability: its mean, the share of same pairs, and how many pairs."""
    place = np.minimum((10 * probability).astype(int), 9)
    count, of_same, total = (np.bincount(place, weight, 10) for weight in (None, same, probability))
    filled = np.flatnonzero(count)
    return {
        "probability": (total[filled] / count[filled]).tolist(),
        "share": (of_same[filled] / count[filled]).tolist(),
        "count": count[filled].astype(int).tolist(),
    }


def _shown_pairs(pairs):
    """Numbers of pairs to look at, each once: the worst mistakes, right ones near the threshold, and random ones."""
    same, scores, threshold = pairs.same, pairs.scores.astype(np.float64), pairs.decision.threshold
    error = np.where(same, threshold - scores, scores - threshold)
    wrong = pairs.decision.same(scores) != same
    once = np.zeros(len(same), bool)
    once[np.unique(np.sort(pairs.pairs, axis=1), axis=0, return_index=True)[1]] = True
    rng, order = np.random.default_rng(0), np.argsort(-error, kind="stable")
    order = order[once[order]]
    chosen = [order[(wrong & kind)[order]][:_MISTAKES] for kind in (~same, same)]
    chosen.append(order[~wrong[order]][:_NEAREST])
    chosen += [rng.permutation(np.flatnonzero(once & ~wrong & kind))[:_RANDOM] for kind in (same, ~same)]
    return sorted(set(np.concatenate(chosen).tolist()), key=lambda number: (-error[number], number))


def _trials(trials, scores):
    """Randomly drawn mistakes and right answers, each with the candidates in the order of their scores."""
    right, ways = one_shot.right(scores, trials.answer), scores.shape[2]
    rng = np.random.default_rng(0)
    drawn = [
        *rng.permutation(np.argwhere(~right))[:_WRONG_TRIALS],
        *rng.permutation(np.argwhere(right))[:_RIGHT_TRIALS],
    ]
    rows, images = [], []
    for run, query in drawn:
        own = np.arange(ways) == trials.answer[run, query]
        order = np.lexsort((own, -scores[run, query]))  # Where scores are equal, the right identity counts as last.
        rank = int(np.flatnonzero(own[order])[0])
        first = min(_RANKED, ways)
        order = order[[*range(first)] if rank < first else [*range(first - 1), rank]]
        ranked = trials.support[run, order, 0]
        of_ranked = [_digits(score) for score in scores[run, query, order]]
        rows.append({"query": trials.query[run, query], "ranked": ranked, "scores": of_ranked, "rank": rank})
        images += [trials.query[run, query], *ranked]
    return {"rows": rows, "count": right.size, "wrong": int(np.sum(~right)), "ways": ways, "images": np.array(images)}


def _map(dataset, near):
    """t-SNE of the images: the higher a score, the closer. Coordinates are 0..1000; None if a score is not finite."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if not np.isfinite(near.scores).all():
        return None
    scores, label, count = (near.scores + near.scores.T) / 2, dataset.label[near.numbers], len(near.numbers)
    distance = scores.max() - scores
    np.fill_diagonal(distance, 0)
    method = TSNE(
        metric="precomputed", init="random", random_state=0, max_iter=500, perplexity=min(15, (count - 1) / 3)
    )
    with threadpool_limits(1):  # So small a problem takes several threads ten times as long.
        place = method.fit_transform(distance)
    place = (place - place.min(axis=0)) / np.ptp(place, axis=0).max()
    np.fill_diagonal(scores, -np.inf)
    several = np.isin(label, np.flatnonzero(np.bincount(label) > 1))
    wrong = several & (label[scores.argmax(axis=1)] != label)
    x, y = np.round(1000 * place).astype(int).T
    return {"x": x.tolist(), "y": y.tolist(), "identity": label.tolist(), "wrong": np.flatnonzero(wrong).tolist()}


def _images(dataset, numbers):
    """What the shown images are called, and one picture of all of them."""
    label, group = dataset.label[numbers], dataset.group[numbers]
    groups = [dataset.group_names[number] for number in group]
    names = [dataset.names[number] if dataset.names else f"identity {number}" for number in label]
    return {
        "names": names,
        "groups": groups if len(dataset.group_names) > 1 else [],
        "files": _relative(dataset.files, numbers),
        "sheet": _sheet(dataset, numbers),
    }


def _relative(files, numbers):
    """Paths within the folder that has all files: where that is on this machine is nobody's business."""
    if not files:
        return []
    paths = [os.path.abspath(path) for path in files]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(paths[number], folder) for number in numbers]


def _sheet(dataset, numbers):
    """Thumbnails side by side, as a data URI, with their size in pixels; None if the inputs are not images."""
    from PIL import Image

    shape = dataset.images.shape
    if dataset.images.dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3):
        return None
    _, height, width, channels = shape
    scale = min(1, _SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    columns = int(np.ceil(np.sqrt(len(numbers))))
    sheet = Image.new("RGB" if channels == 3 else "L", (columns * size[0], -(-len(numbers) // columns) * size[1]))
    for place, number in enumerate(numbers):
        image = dataset.images[np.array([number])][0]
        image = image if channels == 3 else 255 - image[..., 0] if dataset.ink else image[..., 0]
        thumbnail = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
        sheet.paste(thumbnail, (place % columns * size[0], place // columns * size[1]))
    tries = [{"lossless": True}] if dataset.ink and channels == 1 else []
    for options in (*tries, {"quality": 80}, {"quality": 50}, {"quality": 20}):
        content = io.BytesIO()
        sheet.save(content, "WEBP", method=4, **options)
        if content.tell() < _SHEET:
            break
    data = f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
    return {"data": data, "width": size[0], "height": size[1], "columns": columns}
