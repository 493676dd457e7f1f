"""Retrieval: are the nearest neighbours of an image of its identity? Scores are computed in blocks of queries."""

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
    """The retrieval measures of each query, float [q] by name; NaN where the gallery does not have its identity.

    - "recall_at_k": 1 if an image of the identity is among the k best;
    - "r_precision": the share of images of the identity among the R best, where the gallery has R images of it;
    - "map_at_r": the mean over the R best of the precision at that rank, 0 at images of other identities. Musgrave,
      Belongie, Lim: A Metric Learning Reality Check (2020), section 3.2; https://arxiv.org/abs/2003.08505;
    - "map_at_5": 1 / the rank of the identity, which scores as its best image; 0 from rank 6. The score of the humpback
      whale competition (Kaggle, 2018).

    Args:
      score: ([b, d], [n, d]) -> scores [b, n], higher for more similar.
      queries: embeddings [q, d].
      query_label: int [q], identities.
      gallery: embeddings [n, d]; None to search the queries themselves, each among all others.
      gallery_label: int [n]; None with the gallery.
      ks: the numbers k of "recall_at_k".
      block: queries per block of scores.

    Raises:
      ValueError: no query's identity is in the gallery.
    """
    own = gallery is None or gallery_label is None
    if gallery is None or gallery_label is None:
        gallery, gallery_label = queries, query_label
    identities, label = np.unique(gallery_label, return_inverse=True)
    own_label = np.searchsorted(identities, query_label).clip(max=len(identities) - 1)
    images = np.where(identities[own_label] == query_label, np.bincount(label)[own_label], 0) - own
    answerable = np.flatnonzero(images > 0)
    if not len(answerable):
        raise ValueError(
            "no query has an image of its identity in the gallery; add images of the queries' identities to it"
        )
    values = np.full((len(ks) + 3, len(queries)), np.nan)
    for start in range(0, len(answerable), block):
        rows = answerable[start : start + block]
        scores = np.array(score(queries[rows], gallery), np.float64)
        if own:
            scores[np.arange(len(rows)), rows] = -np.inf
        right = label[None, :] == own_label[rows][:, None]
        scores[right] = np.nextafter(scores[right], -np.inf)  # A tie is not a hit.
        values[:, rows] = _values(scores, right, images[rows], label, ks)
    names = [*(f"recall_at_{k}" for k in ks), "r_precision", "map_at_r", "map_at_5"]
    return dict(zip(names, values, strict=True))


def _values(scores, right, images, label, ks):
    """The measures of a block of queries, [measures, b]; `scores` and `right` are [b, n], `images` [b], `label` [n]."""
    deepest = min(max(*ks, images.max()), scores.shape[1])
    best = np.argpartition(-scores, deepest - 1, axis=1)[:, :deepest]
    order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
    hits = np.take_along_axis(right, np.take_along_axis(best, order, 1), 1)
    place = np.arange(1, deepest + 1)
    counted = hits & (place <= images[:, None])
    precision = np.cumsum(hits, axis=1) / place
    recalls = [hits[:, :k].any(axis=1) for k in ks]
    # The number of identities with an image that scores better than the best image of the right one.
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
