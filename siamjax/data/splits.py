"""Splits of a data set into parts for training, validation and test that share no identity."""

from typing import Literal

import numpy as np
from ml_collections import ConfigDict

_LEAST = 3  # parts: one each for training, validation and test


def split(
    names: np.ndarray, *, folds: int, fold: int, by: Literal["identity", "group"], seed: int
) -> dict[str, np.ndarray]:
    """Numbers of the images for training, validation and test; they share no identity (or group).

    Identities are shuffled and split into `folds` equal parts: part `fold` is the test, the next one is for validation,
    the others are for training.

    Args:
      names: of the identity, or group, of each image, [n].
      folds: number of parts, at least 3.
      fold: 0..folds-1.
      by: "identity", or "group" where whole groups are held out.
      seed: of the shuffle.

    Returns:
      "train", "validation" and "test", int [m] each.

    Raises:
      ValueError: there are fewer than two identities (or one group) per part.
    """
    distinct = np.unique(names)
    if folds < _LEAST:
        raise ValueError(f"folds={folds} must be {_LEAST} or more: for training, validation and test")
    if not 0 <= fold < folds:
        raise ValueError(f"fold={fold} must be 0 to {folds - 1}, one less than folds={folds}")
    _check_enough(len(distinct), folds, by)
    order = np.random.default_rng(seed).permutation(len(distinct))
    part = (np.argsort(order) * folds // len(distinct) - fold) % folds
    of_image = part[np.searchsorted(distinct, names)]
    return {
        "test": np.flatnonzero(of_image == 0),
        "validation": np.flatnonzero(of_image == 1),
        "train": np.flatnonzero(of_image > 1),
    }


def _check_enough(count, folds, by):
    """Refuses parts with too few of `count` identities, or groups, to be judged on."""
    each, one, many, reason = 1, "group", "groups", ","
    if by == "identity":
        each, one, many, reason = 2, "identity", "identities", ", as it takes two to tell same from different,"
    if count >= each * folds:
        return
    if (most := count // each) >= _LEAST:
        remedy = f"or set at most folds={most}"
    else:
        remedy = f"at least {each * _LEAST} for folds={_LEAST}, the fewest parts"
    raise ValueError(
        f"folds={folds} parts need {each * folds} {many}, {each} in each{reason} and the data has {count} "
        f"{one if count == 1 else many}: add {many}, {remedy}"
    )


def split_by(own: ConfigDict, names: np.ndarray) -> dict[str, np.ndarray]:
    """`split`, as set by `own`, the `data.folder` part of a configuration."""
    try:
        return split(names, folds=own.folds, fold=own.fold, by=own.by, seed=own.seed)
    except ValueError as error:
        raise ValueError(f"data.folder.{error}") from error
