"""Open-set identification: half of the identities are enrolled with one image each, the others are strangers.

Phillips, Grother, Micheals: Evaluation Methods in Face Recognition (2005): the detection and identification rate (DIR)
is the share of enrolled people who rank first and are accepted; the false accept rate (FAR) is the share of strangers
who are accepted as anyone. A stranger is compared with the whole gallery, so the FAR grows with its size.
"""

from collections.abc import Callable

import numpy as np

from siamjax.decision import Decision

_MOST = 100  # enrolled identities, at most
_RUNS = 100  # galleries drawn


def measures(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    embeddings: np.ndarray,
    label: np.ndarray,
    decision: Decision,
    seed: int,
) -> dict[str, float]:
    """Draws 100 galleries, and queries each with one image per enrolled identity and of as many strangers.

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
    falling = np.sort(strangers)[::-1]
    for rate in (0.1, 0.01):
        if rate * len(strangers) >= 1:
            threshold = falling[int(rate * len(strangers) + 1e-9)]
            figures[f"dir_at_far_{rate:g}"] = float(np.mean((enrolled_scores > threshold) & right))
    return figures
