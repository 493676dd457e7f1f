"""Verification: do two images show the same identity? Draws pairs, and measures how well scores separate them.

Scores are float [n], higher for more similar; `same` is bool [n].
"""

import jax
import numpy as np

from siamjax import sampling
from siamjax.data.dataset import Dataset, part_of
from siamjax.evaluation import intervals
from siamjax.evaluation.calibration import check_kinds, fit_threshold


def draw_pairs(dataset: Dataset, *, pairs: int, across_groups: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws pairs as in training: half same, half different, equally many from each group.

    Args:
      dataset: the images; identities with a single image are ignored.
      pairs: number of pairs.
      across_groups: whether the identities of a different pair may be of two groups.
      seed: of the random draws.

    Returns:
      Image numbers int32 [pairs, 2], and `same` bool [pairs].

    Raises:
      ValueError: the data cannot give both same and different pairs.
    """
    index = sampling.make_index(dataset)
    usable = np.flatnonzero(index.images[dataset.label] > 1)
    if 0 < len(usable) < len(dataset):
        numbers, same = draw_pairs(part_of(dataset, usable), pairs=pairs, across_groups=across_groups, seed=seed)
        return usable[numbers].astype(np.int32), same
    sampling.check_pairs(index, across_groups)
    draw = jax.jit(sampling.pairs, static_argnames=("count", "across_groups"))
    batch = draw(jax.random.key(seed), index, count=pairs, across_groups=across_groups)
    label = np.asarray(batch.label).reshape(2, pairs)
    return np.asarray(batch.item).reshape(2, pairs).T, label[0] == label[1]


def roc(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true accept rates, float64 [k] each, from no pair accepted to all; one point per distinct score.

    Raises:
      ValueError: all pairs are same pairs, or all are different pairs.
    """
    import sklearn.metrics

    check_kinds(np.asarray(same))
    false_accepts, true_accepts, _ = sklearn.metrics.roc_curve(same, scores, drop_intermediate=False)
    return false_accepts, true_accepts


def measures(scores: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """Measures that need no threshold: "auc", "eer" and "tar_at_far_0.1" to "tar_at_far_0.0001".

    The equal error rate (EER) is where the false reject rate equals the false accept rate, interpolated linearly
    between points of the ROC curve. The true accept rate (TAR) at a false accept rate (FAR) is the highest one with no
    larger FAR; FARs of less than one different pair are omitted.

    Raises:
      ValueError: all pairs are same pairs, or all are different pairs.
    """
    false_accepts, true_accepts = roc(scores, same)
    values = _measures(false_accepts[None], true_accepts[None], np.sum(~np.asarray(same)))
    return {name: float(value[0]) for name, value in values.items()}


def intervals_of(
    scores: np.ndarray, same: np.ndarray, identities: np.ndarray, accepted: np.ndarray
) -> dict[str, intervals.Interval]:
    """The 95 % intervals over identities of the accuracy and of `measures`; see `intervals.of_pairs`.

    Every resample weights same and different pairs as in the original data. The intervals do not cover the variation
    that comes from fitting the threshold, or training the network, on other people.

    Args:
      scores: float [n], finite.
      same: bool [n].
      identities: int [n, 2], of the two images of each pair.
      accepted: bool [n], which pairs are judged the same, for the accuracy.

    Returns:
      "accuracy", "auc", ... -> (low, high), or None if it cannot be estimated, see `intervals.around`.

    Raises:
      ValueError: all pairs are same pairs, or all are different pairs.
    """
    figures = {"accuracy": float(np.mean(accepted == same)), **measures(scores, same)}
    order = np.argsort(-scores, kind="stable")
    scores, same, accepted = scores[order], same[order], accepted[order]
    people, pairs = np.unique(identities[order], return_inverse=True)
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # of each run of equal scores
    blocks = []
    for drawn in intervals.resamples(len(people), len(scores)):
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
        name: intervals.around(value, np.concatenate([block[name] for block in blocks]), len(people))
        for name, value in figures.items()
    }


def _cumulative_share(weight):
    """Weights float [b, n] -> their cumulative shares [b, n + 1], from 0 to 1."""
    total = np.pad(np.cumsum(weight, axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    return total / total[:, -1:]


def _measures(false_accepts, true_accepts, different):
    """`measures` of b ROC curves at once, float [b, k] each; `different` is the number of different pairs."""
    # False rejects fall and false accepts rise along the curve, linearly between two points.
    excess = false_accepts - (1 - true_accepts)
    after = np.argmax(excess >= 0, axis=1)[:, None]

    def around_eer(curve):
        return np.take_along_axis(curve, after - 1, 1)[:, 0], np.take_along_axis(curve, after, 1)[:, 0]

    (low, high), (before, at) = around_eer(excess), around_eer(false_accepts)
    step, height = np.diff(false_accepts, axis=1), true_accepts[:, 1:] + true_accepts[:, :-1]
    figures = {"auc": np.sum(step * height, axis=1) / 2, "eer": before + low / (low - high) * (at - before)}
    for rate in (1e-1, 1e-2, 1e-3, 1e-4):
        if rate * different >= 1:
            last = np.sum(false_accepts <= rate, axis=1, keepdims=True) - 1
            figures[f"tar_at_far_{rate:g}"] = np.take_along_axis(true_accepts, last, 1)[:, 0]
    return figures


def folds(scores: np.ndarray, same: np.ndarray, fold: np.ndarray) -> tuple[float, float]:
    """The mean of `fold_accuracies`, and its standard error."""
    accuracies = fold_accuracies(scores, same, fold)
    return float(np.mean(accuracies)), float(np.std(accuracies, ddof=1) / np.sqrt(len(accuracies)))


def fold_accuracies(scores: np.ndarray, same: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The accuracy in each fold, float [folds]; each fold uses the best threshold of the other folds.

    Huang, Ramesh, Berg, Learned-Miller: Labeled Faces in the Wild (2007), its 10-fold protocol;
    http://vis-www.cs.umass.edu/lfw/lfw.pdf.

    Args:
      scores: float [n].
      same: bool [n].
      fold: int [n], the fold of each pair; at least two folds.
    """
    accuracies = []
    for number in np.unique(fold):
        held_out = fold == number
        threshold = fit_threshold(scores[~held_out], same[~held_out])
        accuracies.append(((scores[held_out].astype(np.float64) > threshold) == same[held_out]).mean())
    return np.array(accuracies)
