"""Verification: are these two the same identity? A threshold is fitted on validation pairs and held on test pairs."""

import jax
import numpy as np

from siamjax import sampling
from siamjax.data.dataset import Dataset


def draw_pairs(dataset: Dataset, *, pairs: int, across_groups: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs as in training: half same, half different, equally many from each group.

    Returns:
      image numbers int32 [pairs, 2], and bool [pairs] whether the identity is the same.
    """
    index = sampling.make_index(dataset)
    sampling.check_pairs(index, across_groups)
    batch = sampling.pairs(jax.random.key(seed), index, count=pairs, across_groups=across_groups)
    label = np.asarray(batch.label).reshape(2, pairs)
    return np.asarray(batch.item).reshape(2, pairs).T, label[0] == label[1]


def fit_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold with the best accuracy on these pairs: same where score > threshold.

    Args:
      scores: float [n], higher for likelier the same.
      same: bool [n].

    Returns:
      Midway between two neighbouring scores (the middle one of equally good places), or below or above all of them.
    """
    order = np.argsort(scores)
    # In float64, the middle of two neighbouring float32 numbers lies between them.
    scores, same = scores[order].astype(np.float64), same[order]
    # Threshold i sits below sorted score i: everything before it is called different.
    correct = np.concatenate([[0], np.cumsum(~same)]) + same.sum() - np.concatenate([[0], np.cumsum(same)])
    places = np.concatenate([[scores[0] - 1], (scores[:-1] + scores[1:]) / 2, [scores[-1] + 1]])
    distinct = np.concatenate([[True], scores[:-1] < scores[1:], [True]])
    best = np.flatnonzero(distinct & (correct == correct[distinct].max()))
    return float(places[best[len(best) // 2]])
