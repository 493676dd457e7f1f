"""How well do frozen embeddings predict another target? Nearest neighbours and linear models."""

import numpy as np
import sklearn.linear_model
import sklearn.model_selection
import sklearn.neighbors
import sklearn.pipeline
import sklearn.preprocessing


def measures(
    embeddings: np.ndarray,
    targets: np.ndarray,
    test_embeddings: np.ndarray,
    test_targets: np.ndarray,
    *,
    neighbours: int = 5,
) -> dict[str, float]:
    """Fits k-NN and a linear model on one set of embeddings and evaluates them on another.

    Alain, Bengio: Understanding Intermediate Layers Using Linear Classifier Probes (2016);
    https://arxiv.org/abs/1610.01644.

    Args:
      embeddings: float [n, d].
      targets: [n]; floats are quantities (regression), anything else classes.
      test_embeddings: float [m, d].
      test_targets: [m].
      neighbours: k of k-NN.

    Returns:
      "knn" and "linear": accuracy 0..1 for classes, R² (at most 1) for quantities.

    Raises:
      ValueError: the shapes do not match, or all targets are of one class.
    """
    for name, points, values in (("train", embeddings, targets), ("test", test_embeddings, test_targets)):
        if points.ndim != 2 or values.shape != points.shape[:1]:
            raise ValueError(
                f"{name}: expected embeddings [n, d] and targets [n], found {points.shape}, {values.shape}"
            )
    k = min(neighbours, len(embeddings))
    if np.issubdtype(targets.dtype, np.floating):
        models = (sklearn.neighbors.KNeighborsRegressor(k), sklearn.linear_model.RidgeCV(np.logspace(-3, 3, 13)))
    else:
        models = (sklearn.neighbors.KNeighborsClassifier(k), sklearn.linear_model.LogisticRegression(max_iter=2000))
    scores = []
    for model in models:
        scaled = sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler(), model)
        scores.append(float(scaled.fit(embeddings, targets).score(test_embeddings, test_targets)))
    return dict(zip(("knn", "linear"), scores, strict=True))


def cross_validated(
    embeddings: np.ndarray, targets: np.ndarray, groups: np.ndarray, *, folds: int = 5, seed: int = 0
) -> dict[str, float]:
    """Cross-validates: the means of `measures` over folds, each evaluated with models fitted on the others.

    Args:
      embeddings: float [n, d].
      targets: [n], see `measures`.
      groups: [n]; a group is never in both the training and the test folds. If targets belong to identities (ages, for
        example), groups must be the identities: otherwise a model can score well by recognising the person.
      folds: number of folds.
      seed: of the random assignment of groups to folds.

    Raises:
      ValueError: too few groups or images for the folds; or see `measures`.
    """
    number = len(np.unique(groups))
    if number < folds or len(embeddings) < 2 * folds:
        raise ValueError(
            f"{len(embeddings)} images of {number} groups are too few for {folds} folds; at least {2 * folds} images "
            f"of {folds} groups are needed"
        )
    splitter = sklearn.model_selection.GroupKFold(folds, shuffle=True, random_state=seed)
    splits = list(splitter.split(embeddings, groups=groups))
    if min(len(test) for _, test in splits) < 2:
        raise ValueError(f"a fold of {folds} has a single image, on which R² is not defined; use fewer folds")
    rows = [measures(embeddings[train], targets[train], embeddings[test], targets[test]) for train, test in splits]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
