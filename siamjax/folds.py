"""K-fold verification on data of one's own: `siamjax.cross_validate`."""

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from siamjax.data import arrays, splits
from siamjax.data.dataset import part_of
from siamjax.evaluation import verification
from siamjax.fitting import check_whole, fit


def cross_validate(
    x: npt.ArrayLike,
    y: Iterable[Hashable],
    *,
    folds: int = 5,
    test_pairs: int = 10_000,
    seed: int = 0,
    **arguments: Any,
) -> dict[str, np.ndarray]:
    """Trains and verifies `folds` times, each time on identities that were not trained on.

    Identities are shuffled and split into equal parts. In fold i, part i is the test, the next one fits the threshold
    and chooses the state, and `siamjax.fit` trains on the others.

    Args:
      x, y: inputs and labels, as `fit` takes them.
      folds: 3 or more; every part needs two identities with two inputs each.
      test_pairs: pairs to verify in each fold, 2 or more, half of them same pairs.
      seed: of split, pairs and training.
      **arguments: of `fit`, except `validation` and `workdir`.

    Returns:
      "accuracy" (by the fitted threshold), "auc", "eer", "tar_at_far_0.1" ... : float [folds] each.

    Raises:
      ValueError: see `fit`; or there are too few identities.
    """
    for name in arguments.keys() & {"validation", "workdir"}:
        raise ValueError(f"{name}: every fold has its own; leave it out")
    check_whole(3, folds=folds)
    check_whole(2, test_pairs=test_pairs)
    whole, rows = arrays.dataset(x, y), []
    for fold in range(folds):
        numbers = splits.split(whole.label, folds=folds, fold=fold, by="identity", seed=seed)
        train, validation = (
            (whole.images[part], whole.label[part]) for part in (numbers["train"], numbers["validation"])
        )
        network = fit(*train, validation=validation, seed=seed, **arguments)
        test = part_of(whole, numbers["test"])
        chosen, same = verification.draw_pairs(test, pairs=test_pairs, across_groups=True, seed=seed)
        scores = network.score_pairs(network.embed(test.images[np.arange(len(test))]), chosen)
        accuracy = float(np.mean(network.decision.same(scores) == same))
        rows.append({"accuracy": accuracy, **verification.measures(scores, same)})
    common = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: np.array([row[name] for row in rows]) for name in common}
