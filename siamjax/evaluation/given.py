"""Verification by comparisons that the data comes with, in one fold or in many.

Names of measures: NAME, the accuracy; NAME_auc and NAME_eer; over folds also NAME_deviation.
"""

from collections.abc import Iterator

import numpy as np

from siamjax.data.dataset import Comparisons, Dataset
from siamjax.evaluation import intervals, verification
from siamjax.evaluation.types import Measure


def units(dataset: Dataset, images: np.ndarray) -> tuple[np.ndarray, str]:
    """The independent units of comparisons that the data comes with, as numbers [n] of its images; and what they are.

    Identities; or groups, where all images that are compared with one another are of one group, such as a signer's
    genuine signatures and the forgeries of these.

    Args:
      dataset: n images.
      images: int [t, 2], those compared.
    """
    group = dataset.group[images]
    within = (group[:, 0] == group[:, 1]).all() and len(np.unique(group)) > 1
    return (dataset.group, "groups") if within else (dataset.label, "identities")


def of_fold(
    name: str, scores: np.ndarray, compared: Comparisons, unit: np.ndarray, over: str, threshold: float
) -> Iterator[Measure]:
    """The figures of a single fold, with intervals over its units.

    Args:
      name: of the protocol.
      scores: float [t], see `score_references`.
      compared: the comparisons.
      unit, over: see `units`.
      threshold: fitted on other people.
    """
    same = compared.same
    accepted = scores.astype(np.float64) > threshold
    bounds = verification.intervals_of(scores, same, unit, accepted)
    figures = verification.measures(scores, same)
    count, number = len(same), len(np.unique(unit))
    yield Measure(name, float(np.mean(accepted == same)), bounds["accuracy"], count, None, over, number)
    for kind in ("auc", "eer"):
        of = f"{name}_{kind}"
        yield Measure(of, figures[kind], bounds[kind], count, None, over, number, "protocols")


def over_folds(name: str, scores: np.ndarray, compared: Comparisons) -> Iterator[Measure]:
    """Means over folds, with intervals over folds; the threshold of a fold is the best one of the others.

    Huang, Ramesh, Berg, Learned-Miller: Labeled Faces in the Wild (2007), its 10-fold protocol;
    http://vis-www.cs.umass.edu/lfw/lfw.pdf.

    Args:
      name: of the protocol.
      scores: float [t], see `score_references`.
      compared: the comparisons; two folds or more.
    """
    numbers, same = np.unique(compared.fold), compared.same
    accuracies = verification.fold_accuracies(scores, same, compared.fold)
    measured = [verification.measures(scores[of], same[of]) for of in (compared.fold == number for number in numbers)]
    of_folds = {f"{name}_{kind}": np.array([row[kind] for row in measured]) for kind in ("auc", "eer")}
    for each, values in {name: accuracies, **of_folds}.items():
        interval = intervals.of_mean(values, numbers)
        table = "accuracy" if each == name else "protocols"
        yield Measure(each, float(values.mean()), interval, len(same), None, "folds", len(numbers), table)
    deviation = float(accuracies.std(ddof=1))
    yield Measure(f"{name}_deviation", deviation, None, len(same), None, "folds", len(numbers), "protocols")
