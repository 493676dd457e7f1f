"""Retrieval: are an image's nearest neighbours of its own identity? By blocks of queries, never the whole matrix."""

from collections.abc import Callable

import numpy as np


def per_query(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    queries: np.ndarray,
    query_label: np.ndarray,
    gallery: np.ndarray | None = None,
    gallery_label: np.ndarray | None = None,
    *,
    ks: tuple[int, ...] = (1, 5, 10),
    block: int = 1024,
) -> dict[str, np.ndarray]:
    """What each query found, float [q] by name; NaN where its identity is not in the gallery.

    - "recall_at_k": 1 if an image of the identity is among the k that score best;
    - "r_precision": the share of the identity's among the R best, R being the number of its images in the gallery;
    - "map_at_r": the mean over these R places of the precision so far, 0 where another's image stands. Musgrave,
      Belongie, Lim: A Metric Learning Reality Check (2020), section 3.2; https://arxiv.org/abs/2003.08505;
    - "map_at_5": 1 / the place of the identity in the list of the five likeliest, each as like as its likest image; 0
      if it is not in the list: the score of the humpback whale competition (2018).

    Args:
      score: ([b, d], [n, d]) -> scores [b, n], higher for likelier the same.
      queries: embeddings [q, d].
      query_label: int [q], identities.
      gallery: embeddings [n, d]; None for the queries themselves, each against all others.
      gallery_label: int [n]; None with the gallery.
      ks: of the recall.
      block: queries that are scored at a time.

    Raises:
      ValueError: no query's identity is in the gallery.
    """
    own = gallery is None or gallery_label is None
    if gallery is None or gallery_label is None:
        gallery, gallery_label = queries, query_label
    known, label = np.unique(gallery_label, return_inverse=True)
    there = np.searchsorted(known, query_label).clip(max=len(known) - 1)
    images = np.where(known[there] == query_label, np.bincount(label)[there], 0) - own
    asked = np.flatnonzero(images > 0)
    if not len(asked):
        raise ValueError("no query has an image of its identity in the gallery; there is nothing to retrieve")
    values = np.full((len(ks) + 3, len(queries)), np.nan)
    for start in range(0, len(asked), block):
        rows = asked[start : start + block]
        scores = np.array(score(queries[rows], gallery), np.float64)
        if own:
            scores[np.arange(len(rows)), rows] = -np.inf
        right = label[None, :] == there[rows][:, None]
        scores[right] = np.nextafter(scores[right], -np.inf)  # A tie is no hit.
        values[:, rows] = _values(scores, right, images[rows], label, ks)
    names = [*(f"recall_at_{k}" for k in ks), "r_precision", "map_at_r", "map_at_5"]
    return dict(zip(names, values, strict=True))


def _values(scores, right, images, label, ks):
    """[measures, b] of a block of queries: scores and right [b, n], images [b], label [n]."""
    deepest = min(max(*ks, images.max()), scores.shape[1])
    best = np.argpartition(-scores, deepest - 1, axis=1)[:, :deepest]
    order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
    hits = np.take_along_axis(right, np.take_along_axis(best, order, 1), 1)
    place = np.arange(1, deepest + 1)
    counted = hits & (place <= images[:, None])
    precision = np.cumsum(hits, axis=1) / place
    recalls = [hits[:, :k].any(axis=1) for k in ks]
    # How many identities have an image that scores better than the likest of the right one.
    of_right = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    better = (scores > of_right) & ~right
    rank = np.array([1 + len(np.unique(label[row])) for row in better])
    return np.array(
        [
            *recalls,
            counted.sum(axis=1) / images,
            (precision * counted).sum(axis=1) / images,
            np.where(rank <= 5, 1 / rank, 0),
        ]
    )
