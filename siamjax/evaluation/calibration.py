"""Fits a `Decision` to validation pairs: threshold, probabilities, and the false accepts of other thresholds."""

import numpy as np

from siamjax.decision import Decision, FalseAccepts

_RANKS = 200  # thresholds whose false accepts are stored, approximately


def fit_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold with the best accuracy on these pairs: same where score > threshold.

    Args:
      scores: float [n], higher for more similar.
      same: bool [n].

    Returns:
      The midpoint of two neighbouring scores, or a value below or above all of them; the median of equally good ones.
    """
    order = np.argsort(scores)
    # In float64, because no float32 number is between two neighbouring ones.
    scores, same = scores[order].astype(np.float64), same[order]
    # Threshold i is below sorted score i: all scores before it mean different.
    correct = np.concatenate([[0], np.cumsum(~same)]) + same.sum() - np.concatenate([[0], np.cumsum(same)])
    thresholds = np.concatenate([[scores[0] - 1], (scores[:-1] + scores[1:]) / 2, [scores[-1] + 1]])
    distinct = np.concatenate([[True], scores[:-1] < scores[1:], [True]])
    best = np.flatnonzero(distinct & (correct == correct[distinct].max()))
    return float(thresholds[best[len(best) // 2]])


def fit(
    scores: np.ndarray, same: np.ndarray, pairs: np.ndarray | None = None, label: np.ndarray | None = None
) -> Decision:
    """Fits the threshold of `fit_threshold`, a sigmoid that is ½ there, the false accepts of other thresholds, and
    the mean score of same pairs.

    With the sigmoid tied to the threshold, answer and probability agree, and a gallery accepts fewer strangers than at
    the midpoint of a free sigmoid: 10 % instead of 22 %, over ten fits on six people of ORL evaluated on six others, at
    a log loss of 0.190 instead of 0.179.

    Platt: Probabilistic Outputs for Support Vector Machines (1999): logistic regression on the score. Its targets are
    not 1 and 0 but (n + 1) / (n + 2) and 1 / (n + 2), where n is the number of same or different pairs: the more pairs,
    the more extreme the targets. Many pairs of few identities carry less information than as many independent pairs,
    and more than one pair per identity, so n is the geometric mean of the number of pairs and that of identities. The
    targets also bound the probabilities: a score further out than all fitted ones is no surer.

    Args:
      scores: float [n], higher for more similar.
      same: bool [n].
      pairs: int [n, 2], 0..m-1, the image numbers of each pair; duplicates count once for targets and false accepts.
      label: int [m], the identity of each image. Pairs count as independent unless both `pairs` and `label` are given.

    Raises:
      ValueError: all pairs are same pairs, or all are different pairs.
    """
    same, scores = np.asarray(same), np.asarray(scores, np.float64)
    check_kinds(same)
    unique, identities = slice(None), None
    if pairs is not None and label is not None:
        unique = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)[1]
        identities = len(np.unique(label[pairs]))
    counts = np.array([np.sum(~same[unique]), np.sum(same[unique])])
    n = counts if identities is None else np.sqrt(counts * np.minimum(counts, identities))
    accepts = _false_accepts(scores[unique][~same[unique]], identities)
    threshold = fit_threshold(scores, same)
    different_target, same_target = (n + 1) / (n + 2)
    slope = _slope(scores - threshold, same, np.where(same, same_target, different_target))
    bounds = float(1 - different_target), float(same_target)
    return Decision(threshold, slope, threshold, accepts, *bounds, usual=float(scores[same].mean()))


def log_loss(probability: np.ndarray, same: np.ndarray) -> float:
    """The mean of −log(probability of the truth), averaged over same pairs and over different pairs, then over both.

    A constant probability of ½ has ln 2 = 0.69. Probabilities of the truth are clipped to at least 2.2e-16, so a pair
    has at most about 36.

    Args:
      probability: float [n], 0..1, the predicted probability of "same".
      same: bool [n].

    Raises:
      ValueError: all pairs are same pairs, or all are different pairs.
    """
    check_kinds(np.asarray(same))
    right = np.maximum(np.where(same, probability, 1 - probability), np.finfo(np.float64).eps)
    return float(-(np.log(right[same]).mean() + np.log(right[~same]).mean()) / 2)


def _slope(margin, same, confidence):
    """The maximum likelihood slope, at least 0.

    `margin` is score - threshold, float [n]; `confidence` the target probability of what each pair is, float [n].
    """
    import sklearn.linear_model  # Slow to import, and needed only for fitting.

    # Scaled so that the optimizer converges. Soft targets: each pair counts as same and as different, with weights.
    scale = np.abs(margin).mean()
    if not scale > 0:
        return 0.0
    model = sklearn.linear_model.LogisticRegression(C=np.inf, fit_intercept=False)
    model.fit(np.tile(margin / scale, 2)[:, None], np.r_[same, ~same], sample_weight=np.r_[confidence, 1 - confidence])
    return max(0.0, float(model.coef_[0, 0]) / scale)


def _false_accepts(different, identities):
    """`FalseAccepts` from the scores of different pairs, float [n]."""
    different = np.sort(different)[::-1]
    ranks = np.unique(np.append(np.arange(100), np.geomspace(100, len(different), _RANKS // 2)).astype(int))
    ranks = ranks[ranks < len(different)]
    return FalseAccepts(len(different), identities, tuple(ranks.tolist()), tuple(different[ranks].tolist()))


def check_kinds(same: np.ndarray) -> None:
    """Raises ValueError unless `same`, bool [n], has both same and different pairs."""
    if same.all() or not same.any():
        kind = "same" if same.all() else "different"
        raise ValueError(f"all {len(same)} pairs are {kind} pairs; verification needs both same and different pairs")
