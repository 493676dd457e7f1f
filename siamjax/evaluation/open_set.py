"""Open-set identification: some identities are enrolled, others are strangers.

Phillips, Grother, Micheals: Evaluation Methods in Face Recognition (2005): the detection and identification rate (DIR)
is the share of enrolled people who rank first and are accepted; the false accept rate (FAR) is the share of strangers
who are accepted as anyone. A stranger is compared with the whole gallery, so the FAR grows with its size.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from siamjax.decision import Decision

_MOST = 100  # enrolled identities, at most
_RUNS = 100  # galleries drawn
_RATES = (0.1, 0.01)  # false accept rates


def measures(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    embeddings: np.ndarray,
    label: np.ndarray,
    decision: Decision,
    seed: int,
) -> dict[str, float]:
    """Draws 100 galleries: half of the identities are enrolled with one image each, the others are strangers.

    Each gallery is queried with one image per enrolled identity and of as many strangers.

    Args:
      score: ([q, d], [n, d]) -> scores [q, n], higher for more similar.
      embeddings: float [n, d].
      label: int [n], identities; those with a single image are ignored.
      decision: the run's, for its threshold.
      seed: of the random draws.

    Returns:
      "enrolled", identities per gallery; "dir", "wrongly_named" (enrolled people accepted as someone else) and
      "strangers_accepted", shares at the threshold of `decision`; "dir_at_far_0.1" and "dir_at_far_0.01", at the lowest
      threshold that accepts no larger share of strangers, without rates of less than one stranger. {} if fewer than
      four identities have two images.
    """
    identities, counts = np.unique(label, return_counts=True)
    identities = identities[counts > 1]
    enrolled = min(len(identities) // 2, _MOST)
    if enrolled < 2:
        return {}
    rng = np.random.default_rng(seed)
    order = np.argsort(label, kind="stable")
    starts, ends = (np.searchsorted(label[order], identities, side) for side in ("left", "right"))
    enrolled_scores, right, strangers = [], [], []
    for _ in range(_RUNS):
        chosen = rng.permutation(len(identities))[: 2 * enrolled]
        two = order[np.array([rng.choice(np.arange(int(starts[i]), int(ends[i])), 2, replace=False) for i in chosen])]
        scores = np.asarray(score(embeddings[two[:, 1]], embeddings[two[:enrolled, 0]]), np.float64)
        scores_of_enrolled = scores[:enrolled]
        own = np.diagonal(scores_of_enrolled).copy()
        np.fill_diagonal(scores_of_enrolled, -np.inf)
        best_other = scores_of_enrolled.max(axis=1)
        right.append(own > best_other)  # A tie is not a hit.
        enrolled_scores.append(np.maximum(own, best_other))
        strangers.append(scores[enrolled:].max(axis=1))
    enrolled_scores, right, strangers = map(np.concatenate, (enrolled_scores, right, strangers))
    accepted = decision.same(enrolled_scores)
    figures = {
        "enrolled": enrolled,
        "dir": float(np.mean(accepted & right)),
        "wrongly_named": float(np.mean(accepted & ~right)),
        "strangers_accepted": float(np.mean(decision.same(strangers))),
    }
    return figures | _dir_at_far(enrolled_scores, right, strangers, _RATES)


def dir_at_far(
    score: Callable[[np.ndarray, np.ndarray], npt.ArrayLike],
    queries: npt.ArrayLike,
    query_label: npt.ArrayLike,
    gallery: npt.ArrayLike,
    gallery_label: npt.ArrayLike,
    *,
    rates: Sequence[float] = _RATES,
    block: int = 1024,
) -> dict[str, float]:
    """The detection and identification rate at false accept rates, of given queries in a given gallery.

    Queries whose identity is not in the gallery are the strangers. An identity scores as its best image.

    Args:
      score: ([b, d], [n, d]) -> scores [b, n], higher for more similar, such as `network.score_all`.
      queries: embeddings [q, d].
      query_label: [q], identities: integers or texts.
      gallery: embeddings [n, d].
      gallery_label: [n].
      rates: the shares of strangers that are accepted, each between 0 and 1.
      block: queries per block of scores.

    Returns:
      "dir_at_far_RATE": the share of the other queries whose own identity ranks first, at the lowest threshold that
      accepts no larger share of strangers. Ties, and NaN, are wrong. Rates of less than one stranger are left out.

    Raises:
      ValueError: the shapes do not match, a rate is not between 0 and 1, or there are no strangers or only strangers.
    """
    queries, query_label = np.asarray(queries), np.asarray(query_label)
    gallery, gallery_label = np.asarray(gallery), np.asarray(gallery_label)
    for name, points, labels in (("queries", queries, query_label), ("gallery", gallery, gallery_label)):
        if points.ndim < 2 or labels.shape != points.shape[:1]:
            raise ValueError(f"{name}: expected [n, d] and a label each; found {points.shape} and {labels.shape}")
    if wrong := [rate for rate in rates if not 0 < rate < 1]:
        raise ValueError(f"rates: {wrong[0]} is not between 0 and 1")
    known = np.isin(query_label, gallery_label)
    if known.all() or not known.any():
        raise ValueError(
            f"{known.sum()} of {len(known)} queries are of identities in the gallery; some must be, and some must not"
        )
    best, best_own = np.full((2, len(queries)), -np.inf)
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        scores = np.array(score(queries[rows], gallery), np.float64)
        own = gallery_label[None, :] == query_label[rows, None]
        scores[np.isnan(scores)] = np.where(own, -np.inf, np.inf)[np.isnan(scores)]
        best_own[rows] = np.where(own, scores, -np.inf).max(axis=1)
        best[rows] = np.where(own, -np.inf, scores).max(axis=1)
    return _dir_at_far(best_own[known], best_own[known] > best[known], best[~known], rates)


def _dir_at_far(scores, right, strangers, rates):
    """From the best `scores` of enrolled people, whether each is `right`, and the best scores of `strangers`."""
    falling, figures = np.sort(strangers)[::-1], {}
    for rate in rates:
        if rate * len(strangers) >= 1:
            threshold = falling[int(rate * len(strangers) + 1e-9)]
            figures[f"dir_at_far_{rate:g}"] = float(np.mean((scores > threshold) & right))
    return figures
