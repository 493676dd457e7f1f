"""Re-identification: which known identity is this, if any? A list of five answers, "new" among them, scored by MAP@5.

The protocol of the humpback whale competition (Kaggle, 2018): the score of a query is 1 / the place of the right answer
in its list, 0 where it is missing; the right answer of a query whose identity is not in the gallery is "new".
"""

import dataclasses
from collections.abc import Callable

import numpy as np

_PLACES = 5
_THRESHOLDS = 2000  # that are tried, at most


@dataclasses.dataclass(frozen=True)
class Answers:
    """What each query found: `scores` float [q, 5] of the likeliest identities, best first, and `place` int [q], 0..4,
    of the right one among them; 5 where it is farther behind, -1 where it is not in the gallery."""

    scores: np.ndarray
    place: np.ndarray


def answers(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    queries: np.ndarray,
    query_label: np.ndarray,
    gallery: np.ndarray,
    gallery_label: np.ndarray,
    *,
    block: int = 512,
) -> Answers:
    """Asks whose each query is; an identity is as like as its likest image.

    Args:
      score: ([b, d], [n, d]) -> scores [b, n], higher for likelier the same.
      queries: embeddings [q, d].
      query_label: int [q], identities.
      gallery: embeddings [n, d].
      gallery_label: int [n].
      block: queries that are scored at a time.

    Raises:
      ValueError: the gallery has fewer than five identities.
    """
    known, label = np.unique(gallery_label, return_inverse=True)
    if len(known) < _PLACES:
        raise ValueError(f"{len(known)} identities are enrolled; a list of {_PLACES} needs as many")
    order = np.argsort(label, kind="stable")
    starts, gallery = np.searchsorted(label[order], np.arange(len(known))), gallery[order]
    best, place = [], []
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        scores = np.maximum.reduceat(np.asarray(score(queries[rows], gallery), np.float64), starts, axis=1)
        right = known[None, :] == query_label[rows, None]
        scores[right] = np.nextafter(scores[right], -np.inf)  # A tie is no hit.
        top = np.argpartition(-scores, _PLACES - 1, axis=1)[:, :_PLACES]
        best.append(-np.sort(-np.take_along_axis(scores, top, 1), axis=1))
        of_right = np.where(right, scores, -np.inf).max(axis=1)
        ahead = (scores > of_right[:, None]).sum(axis=1).clip(max=_PLACES)
        place.append(np.where(right.any(axis=1), ahead, -1))
    return Answers(np.concatenate(best), np.concatenate(place))


def map_at_5(found: Answers, threshold: float) -> np.ndarray:
    """The score float [q] of each query; "new" stands before the identities that score no more than `threshold`."""
    before = (found.scores > threshold).sum(axis=1)
    of_new = np.where(before < _PLACES, 1 / (before + 1), 0)
    place = found.place.clip(min=0)
    place += place >= before
    return np.where(found.place < 0, of_new, np.where(place < _PLACES, 1 / (place + 1), 0))


def fit_threshold(found: Answers) -> float:
    """The threshold with the highest mean of `map_at_5` on these queries, among 2,000 that lie between their scores."""
    tried = np.unique(found.scores)
    tried = np.concatenate([[tried[0] - 1], (tried[:-1] + tried[1:]) / 2, [tried[-1] + 1]])
    tried = tried[np.unique(np.linspace(0, len(tried) - 1, _THRESHOLDS).astype(int))]
    return float(tried[np.argmax([map_at_5(found, threshold).mean() for threshold in tried])])


def per_query(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    embeddings: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """MAP@5 of the "test" queries against the "gallery", with the threshold for "new" fitted on "validation".

    Args:
      score: see `answers`.
      embeddings: float [n, d] of each of the three.
      labels: int [n] of each; the same numbers mean the same identities.

    Returns:
      float [q] of the test queries by name: "map_at_5"; "map_at_5_of_known" and "map_at_5_of_new", NaN for the others;
      "rank_1_of_known" without "new" as an answer; and "map_at_5_all_new", what the answer "new" alone would have.
    """
    gallery = (embeddings["gallery"], labels["gallery"])
    found = {part: answers(score, embeddings[part], labels[part], *gallery) for part in ("validation", "test")}
    test = found["test"]
    scores = map_at_5(test, fit_threshold(found["validation"]))
    new = test.place < 0
    return {
        "map_at_5": scores,
        "map_at_5_of_known": np.where(new, np.nan, scores),
        "map_at_5_of_new": np.where(new, scores, np.nan),
        "rank_1_of_known": np.where(new, np.nan, test.place == 0),
        "map_at_5_all_new": new.astype(float),
    }
