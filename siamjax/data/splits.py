"""Splits of a data set into parts for training, validation and test that share no identity."""

from typing import Literal

import numpy as np
from ml_collections import ConfigDict


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
    least = folds if by == "group" else 2 * folds
    if folds < 3 or not 0 <= fold < folds:
        raise ValueError(f"folds={folds} must be 3 or more, and fold={fold} from 0 to one less")
    if len(distinct) < least:
        raise ValueError(
            f"{len(distinct)} {'groups' if by == 'group' else 'identities'} cannot be split into folds="
            f"{folds} parts; {least} are needed: add some, or set fewer parts"
        )
    order = np.random.default_rng(seed).permutation(len(distinct))
    part = (np.argsort(order) * folds // len(distinct) - fold) % folds
    of_image = part[np.searchsorted(distinct, names)]
    return {
        "test": np.flatnonzero(of_image == 0),
        "validation": np.flatnonzero(of_image == 1),
        "train": np.flatnonzero(of_image > 1),
    }


def split_by(own: ConfigDict, names: np.ndarray) -> dict[str, np.ndarray]:
    """`split`, as set by `own`, the `data.folder` part of a configuration."""
    try:
        return split(names, folds=own.folds, fold=own.fold, by=own.by, seed=own.seed)
    except ValueError as error:
        raise ValueError(f"data.folder: {error}") from error
