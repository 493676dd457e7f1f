"""Verification protocols in folds: which images are trained on, and which comparisons a network is judged by.

A run trains on the people of all folds but two, is judged on fold `data.folder.fold` (0, 1, ...) and takes its
threshold from the next one. So each fold needs a network of its own; `benchmarks/photographs.py` trains them all, and
prints means and deviations. With `data.protocol="all"` there is no training: one network, trained on other data, is
judged on all folds, each by the threshold that is best on the others. A network that has learned from any of
the folds must not be judged so.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from siamjax.data import image_cache
from siamjax.data.dataset import Comparisons, Dataset
from siamjax.data.types import Datasets


def of_pairs(pairs: np.ndarray, same: np.ndarray, fold: np.ndarray) -> Comparisons:
    """Comparisons of image pairs: int [t, 2], bool [t], int [t]."""
    numbers = np.asarray(pairs, np.int32).reshape(-1, 2)
    return Comparisons(numbers[:, :1], numbers[:, 1], np.asarray(same, bool), np.asarray(fold, np.int32))


def parts_of(
    prepared: image_cache.Prepared,
    protocols: Mapping[str, Comparisons],
    config: ConfigDict,
    name: str,
    train: bool,
    *,
    others: bool = False,
) -> Datasets:
    """Prepared images as "train" (if `train`), "validation" and "test", with the comparisons of each part.

    Args:
      prepared: the images, whose numbers the comparisons have.
      protocols: by name, their comparisons; folds are numbered from 0.
      config: the `data` part of a configuration: `protocol`, and the fold in `folder.fold`.
      name: of the data set, for messages.
      train: whether to load the training data.
      others: whether identities that no comparison has are trained on.

    Raises:
      ValueError: an identity is in two folds, a fold has one kind of comparisons, there are fewer than three folds, or
        no such one; or training is asked for with protocol "all".
    """
    _check_kinds(protocols, name)
    if config.protocol == "all":
        if train:
            raise ValueError(
                "data.protocol='all' is for networks that were trained on other data, and leaves nothing to train on: "
                "use it with siamjax evaluate, or set data.protocol='fold'"
            )
        compared = np.unique(np.concatenate([each.images() for each in protocols.values()]))
        return {"test": part(prepared, protocols, compared, f"{name} test", False)}
    if config.protocol != "fold":
        raise ValueError(f"data.protocol={config.protocol!r}: {name} has 'fold' and 'all'")
    identity = np.array([file.identity for file in prepared.files])
    fold_of = _folds_of(identity, protocols, name)
    folds, fold = max(fold_of.values()) + 1, config.folder.fold
    if folds < 3 or fold >= folds:
        raise ValueError(f"data.folder.fold={fold}: {name} has {folds} folds; expected 3 or more, and fold from 0 on")
    of_image = np.array([fold_of.get(each, -1) for each in identity])
    tested = {"test": fold, "validation": (fold + 1) % folds}
    chosen = {part: np.flatnonzero(of_image == number) for part, number in tested.items()}
    chosen["train"] = np.flatnonzero(~np.isin(of_image, list(tested.values())) & ((of_image >= 0) | others))
    return {
        part_name: part(prepared, protocols, numbers, f"{name} {part_name}", config.stream and part_name == "train")
        for part_name, numbers in chosen.items()
        if train or part_name != "train"
    }


def part(
    prepared: image_cache.Prepared, protocols: Mapping[str, Comparisons], chosen: np.ndarray, name: str, stream: bool
) -> Dataset:
    """The images numbered `chosen`, int [n], with the comparisons among them."""
    place = np.full(len(prepared.files), -1, np.int32)
    place[chosen] = np.arange(len(chosen))
    kept = {}
    for protocol, given in protocols.items():
        whole = (place[given.query] >= 0) & (place[given.references] >= 0).all(axis=1)
        references, query = place[given.references[whole]], place[given.query[whole]]
        kept[protocol] = Comparisons(references, query, given.same[whole], given.fold[whole])
    return dataclasses.replace(image_cache.dataset(prepared, chosen, name, stream), protocols=kept)


def _check_kinds(protocols, name):
    """Refuses folds that no network can be judged by, before one is trained."""
    for protocol, given in protocols.items():
        for fold in np.unique(given.fold):
            kinds = np.unique(given.same[given.fold == fold])
            if len(kinds) < 2:
                raise ValueError(
                    f"{name}: all comparisons of fold {fold + 1} of the protocol {protocol} are of "
                    f"{'the same identity' if kinds[0] else 'different identities'}; list both kinds in each fold"
                )


def _folds_of(identity, protocols, name):
    """{identity: fold}, of those that are compared."""
    fold_of = {}
    for protocol, given in protocols.items():
        for numbers in (given.query, *given.references.T):
            for each, fold in sorted(set(zip(identity[numbers].tolist(), given.fold.tolist(), strict=True))):
                if fold_of.setdefault(each, fold) != fold:
                    raise ValueError(
                        f"{name}: {each} is in folds {fold_of[each] + 1} and {fold + 1} of the protocol {protocol}, so "
                        "that it would be trained on and tested; put each identity into one fold"
                    )
    return fold_of
