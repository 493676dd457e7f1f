"""Verification: are these two the same identity? Pairs to ask, and how well scores tell them apart.

Scores are float [n], higher for likelier the same; `same` is bool [n].
"""

import jax
import numpy as np

from siamjax import sampling
from siamjax.data.dataset import Dataset, part_of
from siamjax.evaluation import intervals
from siamjax.evaluation.calibration import check_kinds, fit_threshold


def draw_pairs(dataset: Dataset, *, pairs: int, across_groups: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs as in training: half same, half different, equally many from each group.

    Identities with a single image are left out.

    Returns:
      image numbers int32 [pairs, 2], and bool [pairs] whether the identity is the same.
    """
    index = sampling.make_index(dataset)
    whole = np.flatnonzero(index.images[dataset.label] > 1)
    if 0 < len(whole) < len(dataset):
        numbers, same = draw_pairs(part_of(dataset, whole), pairs=pairs, across_groups=across_groups, seed=seed)
        return whole[numbers].astype(np.int32), same
    sampling.check_pairs(index, across_groups)
    batch = sampling.pairs(jax.random.key(seed), index, count=pairs, across_groups=across_groups)
    label = np.asarray(batch.label).reshape(2, pairs)
    return np.asarray(batch.item).reshape(2, pairs).T, label[0] == label[1]


def roc(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true accept rates, float64 [k] each, from no pair accepted to all, a point for each different score.

    Raises:
      ValueError: the pairs are not of both kinds.
    """
    import sklearn.metrics

    check_kinds(np.asarray(same))
    false_accepts, true_accepts, _ = sklearn.metrics.roc_curve(same, scores, drop_intermediate=False)
    return false_accepts, true_accepts


def measures(scores: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """What does not depend on a threshold: "auc", "eer" and "tar_at_far_0.1" to "tar_at_far_0.0001".

    The equal error rate is where as large a share of the same pairs is rejected as of the different ones accepted,
    between two points of the curve if need be. The true accept rate at a false accept rate is the highest at which no
    larger share of the different pairs is accepted; rates that would be less than one of them are left out.

    Raises:
      ValueError: the pairs are not of both kinds.
    """
    false_accepts, true_accepts = roc(scores, same)
    values = _measures(false_accepts[None], true_accepts[None], np.sum(~np.asarray(same)))
    return {name: float(value[0]) for name, value in values.items()}


def intervals_of(
    scores: np.ndarray, same: np.ndarray, identities: np.ndarray, accepted: np.ndarray
) -> dict[str, intervals.Interval]:
    """The 95 % intervals, over identities, of the accuracy and of what `measures` gives; see `intervals.of_pairs`.

    As many pairs stay the same as are different in the resamples of identities. That another threshold would have been
    fitted, or another network trained, on other people is not in it.

    Args:
      scores: float [n], finite.
      same: bool [n].
      identities: int [n, 2], of both images of each pair.
      accepted: bool [n], which pairs are called the same, for the accuracy.

    Returns:
      "accuracy", "auc", ... -> (low, high), or None where the identities are too few.

    Raises:
      ValueError: the pairs are not of both kinds.
    """
    figures = {"accuracy": float(np.mean(accepted == same)), **measures(scores, same)}
    order = np.argsort(-scores, kind="stable")
    scores, same, accepted = scores[order], same[order], accepted[order]
    known, pairs = np.unique(identities[order], return_inverse=True)
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # of equal scores
    blocks = []
    for drawn in intervals.resamples(len(known), len(scores)):
        weight = intervals.of_pairs(drawn, pairs.reshape(-1, 2))
        weight = weight[np.all([weight @ np.float32(kind) > 0 for kind in (same, ~same)], axis=0)]
        false_accepts, true_accepts = (
            _cumulative_share(weight * kind)[:, np.append(0, last + 1)] for kind in (~same, same)
        )
        right = [weight @ np.float32(kind & (accepted == same)) / (weight @ np.float32(kind)) for kind in (~same, same)]
        share = same.mean()
        measured = _measures(false_accepts, true_accepts, np.sum(~same))
        blocks.append({"accuracy": (1 - share) * right[0] + share * right[1], **measured})
    return {
        name: intervals.around(value, np.concatenate([block[name] for block in blocks]), len(known))
        for name, value in figures.items()
    }


def _cumulative_share(weight):
    """float [b, n] -> [b, n + 1], from 0 to 1."""
    total = np.pad(np.cumsum(weight, axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    return total / total[:, -1:]


def _measures(false_accepts, true_accepts, different):
    """See `measures`, of b curves at once: float [b, k] each, of so many `different` pairs."""
    # Misses fall and false accepts rise along the curve; between two points both are straight lines.
    excess = false_accepts - (1 - true_accepts)
    after = np.argmax(excess >= 0, axis=1)[:, None]

    def beside(curve):
        return np.take_along_axis(curve, after - 1, 1)[:, 0], np.take_along_axis(curve, after, 1)[:, 0]

    (low, high), (before, at) = beside(excess), beside(false_accepts)
    step, height = np.diff(false_accepts, axis=1), true_accepts[:, 1:] + true_accepts[:, :-1]
    figures = {"auc": np.sum(step * height, axis=1) / 2, "eer": before + low / (low - high) * (at - before)}
    for rate in (1e-1, 1e-2, 1e-3, 1e-4):
        if rate * different >= 1:
            last = np.sum(false_accepts <= rate, axis=1, keepdims=True) - 1
            figures[f"tar_at_far_{rate:g}"] = np.take_along_axis(true_accepts, last, 1)[:, 0]
    return figures


def folds(scores: np.ndarray, same: np.ndarray, fold: np.ndarray) -> tuple[float, float]:
    """Mean accuracy over folds, each at the threshold that fits all others best, and the mean's standard error.

    Huang, Ramesh, Berg, Learned-Miller: Labeled Faces in the Wild (2007), its 10-fold protocol;
    http://vis-www.cs.umass.edu/lfw/lfw.pdf.

    Args:
      scores, same: of all pairs.
      fold: int [n], the fold of each pair, two at least.
    """
    accuracies = []
    for number in np.unique(fold):
        held_out = fold == number
        threshold = fit_threshold(scores[~held_out], same[~held_out])
        accuracies.append(((scores[held_out].astype(np.float64) > threshold) == same[held_out]).mean())
    return float(np.mean(accuracies)), float(np.std(accuracies, ddof=1) / np.sqrt(len(accuracies)))
