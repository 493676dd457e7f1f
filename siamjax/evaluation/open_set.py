"""Open-set identification: half of the identities are enrolled with an image each, the others are strangers.

Phillips, Grother, Micheals: Evaluation Methods in Face Recognition (2005): the detection and identification rate (DIR)
is the share of enrolled people who are found first and accepted; the false accept rate here that of strangers who are
accepted, as anyone. A stranger is compared with the whole gallery, so that it grows with it.
"""

from collections.abc import Callable

import numpy as np

from siamjax.decision import Decision

_MOST = 100  # identities that are enrolled
_RUNS = 100  # galleries that are drawn


def measures(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    embeddings: np.ndarray,
    label: np.ndarray,
    decision: Decision,
    seed: int,
) -> dict[str, float]:
    """Asks a hundred galleries for an image of each of their identities, and for one of as many strangers.

    Args:
      score: ([q, d], [n, d]) -> scores [q, n], higher for likelier the same.
      embeddings: float [n, d].
      label: int [n], identities; those with a single image are left out.
      decision: its threshold is that of the run.
      seed: of the draws.

    Returns:
      "enrolled", the number of identities in a gallery; "dir", "wrongly_named" (enrolled people accepted as others) and
      "strangers_accepted" at the run's threshold; and "dir_at_far_0.1" and "dir_at_far_0.01", at the lowest threshold
      that accepts no larger share of strangers; rates less than one stranger are left out. {} where there are not four
      identities with two images each.
    """
    identities, counts = np.unique(label, return_counts=True)
    identities = identities[counts > 1]
    enrolled = min(len(identities) // 2, _MOST)
    if enrolled < 2:
        return {}
    rng = np.random.default_rng(seed)
    order = np.argsort(label, kind="stable")
    starts, ends = (np.searchsorted(label[order], identities, side) for side in ("left", "right"))
    known, right, strangers = [], [], []
    for _ in range(_RUNS):
        chosen = rng.permutation(len(identities))[: 2 * enrolled]
        two = order[np.array([rng.choice(np.arange(int(starts[i]), int(ends[i])), 2, replace=False) for i in chosen])]
        scores = np.asarray(score(embeddings[two[:, 1]], embeddings[two[:enrolled, 0]]), np.float64)
        of_known = scores[:enrolled]
        own = np.diagonal(of_known).copy()
        np.fill_diagonal(of_known, -np.inf)
        best_other = of_known.max(axis=1)
        right.append(own > best_other)  # A tie is no hit.
        known.append(np.maximum(own, best_other))
        strangers.append(scores[enrolled:].max(axis=1))
    known, right, strangers = map(np.concatenate, (known, right, strangers))
    accepted = decision.same(known)
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
            figures[f"dir_at_far_{rate:g}"] = float(np.mean((known > threshold) & right))
    return figures
