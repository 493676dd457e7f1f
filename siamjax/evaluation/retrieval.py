"""Retrieval: are the nearest neighbours of an image of its identity? And clusters: do they follow the identities?

`measures` gives means over the queries, `per_query` the values of each. Scores are computed in blocks of queries.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

# ([b, d], [n, d]) -> scores [b, n], higher for more similar.
Score = Callable[[np.ndarray, np.ndarray], npt.ArrayLike]


def measures(
    score: Score,
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    reference: npt.ArrayLike | None = None,
    reference_labels: npt.ArrayLike | None = None,
    *,
    own: npt.ArrayLike | None = None,
    ks: Sequence[int] = (1, 5, 10),
    average: Literal["queries", "classes"] = "queries",
) -> dict[str, float]:
    """Each measure of `per_query`, averaged: `measures(network.score_all, network.embed(x), y)["recall_at_1"]`.

    Args:
      score: such as `network.score_all`, or `sklearn.metrics.pairwise.cosine_similarity`; see `per_query`.
      embeddings: of the queries, float [q, d].
      labels: [q], identities: integers or texts.
      reference: embeddings [n, d] to search; None to search the queries themselves, each among all others.
      reference_labels: [n]; needed with `reference`.
      own: int [q], where each query is in `reference`, see `per_query`; None if it is not there.
      ks: the numbers k of recall, precision and NDCG at k.
      average: "classes" averages over the queries of each class first, so that each class counts the same.

    Returns:
      Shares 0..1 by name. Queries whose identity has no other image to find do not count.

    Raises:
      ValueError: as `per_query` does.
    """
    found = per_query(score, embeddings, labels, reference, reference_labels, own=own, ks=ks)
    if average == "classes":
        found = {name: per_class(values, labels)[1] for name, values in found.items()}
    elif average != "queries":
        raise ValueError(f"average={average!r}: expected 'queries' or 'classes'")
    return {name: float(np.nanmean(values)) for name, values in found.items()}


def per_class(values: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The mean of a measure over the queries of each class.

    Args:
      values: float [q], a measure of each query as `per_query` returns it; NaN does not count.
      labels: [q], the class of each query.

    Returns:
      The c classes, sorted, and their means float64 [c]; NaN where no query of the class counts.
    """
    classes, label = np.unique(labels, return_inverse=True)
    values = np.asarray(values, np.float64)
    counts = np.isfinite(values)
    queries = np.bincount(label, counts, len(classes))
    sums = np.bincount(label, np.where(counts, values, 0), len(classes))
    return classes, np.where(queries > 0, sums / np.maximum(queries, 1), np.nan)


def clusters(embeddings: npt.ArrayLike, labels: npt.ArrayLike, seed: int = 0) -> dict[str, float]:
    """Do clusters of embeddings, by k-means with as many clusters as identities, follow the identities?

    K-means is by Euclidean distance: scale embeddings that are compared by cosine to length 1 first.

    Args:
      embeddings: float [n, d].
      labels: [n], identities: integers or texts.
      seed: of the first cluster centres.

    Returns:
      "nmi", the normalised mutual information of clusters and identities, 0..1, which is above 0 by chance; and "ami",
      adjusted for chance: 0 for random clusters, 1 for perfect ones.

    Raises:
      ValueError: the shapes do not match, or embeddings are not finite.
    """
    embeddings, labels = _checked("embeddings", embeddings, "labels", labels)
    if not np.isfinite(embeddings).all():
        raise ValueError("embeddings: found NaN or infinity, expected finite numbers")
    import sklearn.cluster  # Takes a second, which evaluation without clusters need not.
    import sklearn.metrics

    count = len(np.unique(labels))
    # With one candidate per centre; by default there are several, and thousands of centres take 30 times as long.
    centres, _ = sklearn.cluster.kmeans_plusplus(embeddings, count, n_local_trials=1, random_state=seed)
    k_means: Any = sklearn.cluster.KMeans  # Which is annotated for texts only.
    found = k_means(count, init=centres, n_init=1).fit_predict(embeddings)
    return {
        "nmi": float(sklearn.metrics.normalized_mutual_info_score(labels, found)),
        "ami": float(sklearn.metrics.adjusted_mutual_info_score(labels, found)),
    }


def per_query(
    score: Score,
    queries: npt.ArrayLike,
    query_label: npt.ArrayLike,
    gallery: npt.ArrayLike | None = None,
    gallery_label: npt.ArrayLike | None = None,
    *,
    own: npt.ArrayLike | None = None,
    ks: Sequence[int] = (1, 5, 10),
    block: int = 1024,
) -> dict[str, np.ndarray]:
    """The retrieval measures of each query, float [q] by name; NaN where the gallery does not have its identity.

    R is the number of images of the query's identity in the gallery, and r_1 < r_2 < ... < r_R are their ranks by
    score, from 1. Ties with images of other identities, and NaN, count as wrong.

    - "recall_at_k": 1 if r_1 ≤ k, an image of the identity is among the k best;
    - "precision_at_k": the share of images of the identity among the k best;
    - "ndcg_at_k": Σ 1 / log2(1 + r_j) over r_j ≤ k, divided by the most that it can be. Järvelin, Kekäläinen: Cumulated
      gain-based evaluation of IR techniques (2002);
    - "r_precision": the precision at k = R;
    - "map_at_r": Σ_j (j / r_j) / R over r_j ≤ R. Musgrave, Belongie, Lim: A Metric Learning Reality Check (2020),
      section 3.2; https://arxiv.org/abs/2003.08505;
    - "map": Σ_j (j / r_j) / R over all images of the identity;
    - "mrr": 1 / r_1;
    - "map_at_5": 1 / the rank of the identity, which scores as its best image; 0 from rank 6. The score of the humpback
      whale competition (Kaggle, 2018).

    Args:
      score: ([b, d], [n, d]) -> scores [b, n], higher for more similar.
      queries: embeddings [q, d].
      query_label: [q], identities: integers or texts.
      gallery: embeddings [n, d]; None to search the queries themselves, each among all others.
      gallery_label: [n]; None with the gallery.
      own: int [q], the position of each query in the gallery, where it is not to be found; None if it is not there.
      ks: the numbers k of recall, precision and NDCG.
      block: queries per block of scores.

    Raises:
      ValueError: no query's identity is in the gallery; the shapes do not match; or a number k is below 1.
    """
    queries, query_label = _checked("embeddings", queries, "labels", query_label)
    if (gallery is None) != (gallery_label is None):
        raise ValueError("a gallery to search needs both its embeddings and its labels; found one of them")
    if gallery is None or gallery_label is None:
        gallery, gallery_label, own = queries, query_label, np.arange(len(queries))
    gallery, gallery_label = _checked("the gallery's embeddings", gallery, "labels", gallery_label)
    own = None if own is None else _checked_own(own, query_label, gallery_label)
    if min(ks, default=1) < 1:
        raise ValueError(f"ks={tuple(ks)}: each k must be 1 or more")
    identities, label = np.unique(gallery_label, return_inverse=True)
    own_label = np.searchsorted(identities, query_label).clip(max=len(identities) - 1)
    images = np.where(identities[own_label] == query_label, np.bincount(label)[own_label], 0) - (own is not None)
    answerable = np.flatnonzero(images > 0)
    if not len(answerable):
        raise ValueError(
            "no query has an image of its identity in the gallery; add images of the queries' identities to it"
        )
    values: dict[str, np.ndarray] = {}
    for start in range(0, len(answerable), block):
        rows = answerable[start : start + block]
        right = label[None, :] == own_label[rows][:, None]
        scores = _known(score(queries[rows], gallery), right)
        if own is not None:
            scores[np.arange(len(rows)), own[rows]] = -np.inf
        of_block = _of_ranks(_ranks(scores, right, images[rows]), images[rows], ks)
        of_block["map_at_5"] = _of_identities(scores, right, label)
        for name, some in of_block.items():
            values.setdefault(name, np.full(len(queries), np.nan))[rows] = some
    return values


def _known(scores, right):
    """A copy of scores [b, n] in which NaN ranks last where it is `right`, bool [b, n], and first elsewhere."""
    scores = np.array(scores)
    scores = scores.astype(np.promote_types(scores.dtype, np.float32))
    unknown = np.isnan(scores)
    scores[unknown] = np.where(right[unknown], -np.inf, np.inf)
    return scores


def _ranks(scores, right, images):
    """The ranks of the `images` [b] best of the images that are `right`, float [b, r], increasing, then infinity."""
    falling, ranks = -np.sort(-scores, axis=1), np.full((len(scores), images.max()), np.inf)
    for row, count in enumerate(images):
        found = -np.sort(-scores[row, right[row]])
        # Those with the same score or a better one, and among them only so many right ones.
        reached = scores.shape[1] - np.searchsorted(falling[row, ::-1], found, "left")
        right_ones = len(found) - np.searchsorted(found[::-1], found, "left")
        ranks[row, :count] = (reached - right_ones + np.arange(1, len(found) + 1))[:count]
    return ranks


def _of_ranks(ranks, images, ks):
    """The measures of a block of queries, each [b], from `ranks` [b, r] and the numbers of `images` [b]."""
    place, r = np.arange(1, ranks.shape[1] + 1), images[:, None]
    precision, gain = place / ranks, 1 / np.log2(1 + ranks)
    best = np.cumsum(1 / np.log2(1 + place))
    return {
        **{f"recall_at_{k}": (ranks[:, 0] <= k).astype(float) for k in ks},
        **{f"precision_at_{k}": np.sum(ranks <= k, axis=1) / k for k in ks},
        **{f"ndcg_at_{k}": np.sum(gain * (ranks <= k), axis=1) / best[np.minimum(images, k) - 1] for k in ks},
        "r_precision": np.sum(ranks <= r, axis=1) / images,
        "map_at_r": np.sum(precision * (ranks <= r), axis=1) / images,
        "map": np.sum(precision, axis=1) / images,
        "mrr": 1 / ranks[:, 0],
    }


def _of_identities(scores, right, label):
    """MAP@5 of a block of queries: the rank of an identity is that of its best image among the best of the others."""
    of_right = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    better = (scores >= of_right) & ~right
    rank = np.array([1 + len(np.unique(label[row])) for row in better])
    return np.where(rank <= 5, 1 / rank, 0)


def _checked(name, embeddings, label_name, labels):
    embeddings, labels = np.asarray(embeddings), np.asarray(labels)
    if embeddings.ndim < 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"{name}: expected [n, d], with one of {label_name} each; found {list(embeddings.shape)} and "
            f"{list(labels.shape)}"
        )
    return embeddings, labels


def _checked_own(own, query_label, gallery_label):
    own = np.asarray(own)
    if own.shape != query_label.shape or not np.issubdtype(own.dtype, np.integer):
        raise ValueError(f"own: found {own.dtype} {list(own.shape)}, expected a position in the gallery for each query")
    if len(own) and not 0 <= own.min() <= own.max() < len(gallery_label):
        raise ValueError(f"own: found {own.min()} to {own.max()}, expected positions 0 to {len(gallery_label) - 1}")
    if (wrong := np.flatnonzero(gallery_label[own] != query_label)).size:
        query = wrong[0]
        raise ValueError(
            f"own: query {query} has the label {query_label[query]}, but the image at its position {own[query]} in the "
            f"gallery has {gallery_label[own[query]]}"
        )
    return own
