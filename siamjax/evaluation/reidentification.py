"""Re-identification: which known identity is this, if any? Lists of five answers, possibly "new", scored by MAP@5.

The protocol of the humpback whale competition (Kaggle, 2018): the score of a query is 1 / the rank of the right answer
in its list, 0 if it is missing; the right answer for a query whose identity is not in the gallery is "new".
"""

import dataclasses
from collections.abc import Callable

import numpy as np

_PLACES = 5
_THRESHOLDS = 2000  # candidates, at most


@dataclasses.dataclass(frozen=True)
class Answers:
    """The ranked identities of q queries.

    Attributes:
      scores: float [q, 5], of the five most similar identities, best first.
      place: int [q], the position 0..4 of the right identity among them; 5 if it ranks lower, -1 if it is not in the
        gallery.
    """

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
    """Ranks identities for each query; an identity scores as its best image.

    Args:
      score: ([b, d], [n, d]) -> scores [b, n], higher for more similar.
      queries: embeddings [q, d].
      query_label: int [q], identities.
      gallery: embeddings [n, d].
      gallery_label: int [n].
      block: queries per block of scores.

    Raises:
      ValueError: the gallery has fewer than five identities.
    """
    identities, label = np.unique(gallery_label, return_inverse=True)
    if len(identities) < _PLACES:
        raise ValueError(
            f"the gallery has {len(identities)} identities; a list of {_PLACES} answers needs at least {_PLACES}"
        )
    order = np.argsort(label, kind="stable")
    starts, gallery = np.searchsorted(label[order], np.arange(len(identities))), gallery[order]
    best, place = [], []
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        scores = np.maximum.reduceat(np.asarray(score(queries[rows], gallery), np.float64), starts, axis=1)
        right = identities[None, :] == query_label[rows, None]
        scores = np.where(np.isnan(scores), np.where(right, -np.inf, np.inf), scores)  # NaN is wrong.
        scores[right] = np.nextafter(scores[right], -np.inf)  # A tie is not a hit.
        top = np.argpartition(-scores, _PLACES - 1, axis=1)[:, :_PLACES]
        best.append(-np.sort(-np.take_along_axis(scores, top, 1), axis=1))
        of_right = np.where(right, scores, -np.inf).max(axis=1)
        ahead = (scores > of_right[:, None]).sum(axis=1).clip(max=_PLACES)
        place.append(np.where(right.any(axis=1), ahead, -1))
    return Answers(np.concatenate(best), np.concatenate(place))


def map_at_5(found: Answers, threshold: float) -> np.ndarray:
    """The score of each query, float [q]; "new" is ranked above all identities that do not score above `threshold`."""
    before = (found.scores > threshold).sum(axis=1)
    of_new = np.where(before < _PLACES, 1 / (before + 1), 0)
    place = found.place.clip(min=0)
    place += place >= before
    return np.where(found.place < 0, of_new, np.where(place < _PLACES, 1 / (place + 1), 0))


def fit_threshold(found: Answers) -> float:
    """The threshold with the highest mean `map_at_5` on these queries, of up to 2,000 between their scores."""
    candidates = np.unique(found.scores)
    candidates = np.concatenate([[candidates[0] - 1], (candidates[:-1] + candidates[1:]) / 2, [candidates[-1] + 1]])
    candidates = candidates[np.unique(np.linspace(0, len(candidates) - 1, _THRESHOLDS).astype(int))]
    return float(candidates[np.argmax([map_at_5(found, threshold).mean() for threshold in candidates])])


def per_query(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    embeddings: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """MAP@5 of the "test" queries against the "gallery", with the threshold for "new" fitted on "validation".

    Args:
      score: see `answers`.
      embeddings: float [n, d] of each of the three parts.
      labels: int [n] of each; equal numbers mean the same identity in all three.

    Returns:
      Values of the test queries, float [q], by name: "map_at_5"; "map_at_5_of_known" and "map_at_5_of_new", NaN for the
      other queries; "rank_1_of_known", without "new" as an answer; "map_at_5_all_new", if the only answer were "new".
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
