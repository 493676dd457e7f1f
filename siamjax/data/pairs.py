"""A list of image pairs as data to train on: which are the same, and in LFW's format of whom they are."""

import dataclasses
import os
import pathlib

import numpy as np
from ml_collections import ConfigDict

from siamjax.data import folder, image_cache, pair_list, splits
from siamjax.data.dataset import Dataset
from siamjax.data.types import Datasets, Source
from siamjax.files import opened, shown


def _load(config: ConfigDict, train: bool) -> Datasets:
    """Images that same pairs connect are of one identity; identities are split into parts, as in a folder.

    In LFW's format, all images of a person are of one identity, too. A CSV file does not say whether two images that no
    same pairs connect are of one identity: they may come into different parts. A pair of images in two parts is left
    out.
    """
    own = config.pairs
    if not own.path:
        raise ValueError("data.pairs.path is empty: name a CSV file path_a,path_b,same, or LFW's pairs.txt")
    listed = pair_list.read(own.path, own.images or None)
    paths = sorted({*listed.first, *listed.second})
    number = {path: position for position, path in enumerate(paths)}
    pairs = np.array([[number[path] for path in side] for side in (listed.first, listed.second)], np.int32).T
    names = [listed.names[path] for path in paths]
    identity = _identities(names, pairs[listed.same])
    wrong = np.flatnonzero(~listed.same & (identity[pairs[:, 0]] == identity[pairs[:, 1]]))
    if len(wrong):
        first, second = (shown(paths[image]) for image in pairs[wrong[0]])
        raise ValueError(
            f"{shown(own.path)} says that {first} and {second} are of different identity, but other lines, or "
            f"names, make them the same: correct one of them ({len(wrong)} such pairs)"
        )
    _, first = np.unique(identity, return_index=True)
    name_of = [names[image] for image in first[identity]]
    prepared = image_cache.prepare_images(
        paths,
        dataclasses.replace(folder.preparation(config), all_needed=True),
        describe=lambda number: (name_of[number], "all", str(paths[number])),
        content=lambda number: opened(paths[number]),
        fingerprints=[f"{image_cache.fingerprint(path)} {of}" for path, of in zip(paths, name_of, strict=True)],
        name=shown(own.path),
        tell=print,
    )
    parts = splits.split_by(config.folder, identity)
    return {
        part: _part(prepared, chosen, pairs, listed.same, f"{shown(own.path)}: the {part} data")
        for part, chosen in parts.items()
        if train or part != "train"
    }


def _identities(names, same):
    """The identity of each image, int [n], as far as its name in `names` [n] and the same pairs [p, 2] connect them."""
    import scipy.sparse
    import scipy.sparse.csgraph

    _, first, of = np.unique(names, return_index=True, return_inverse=True)
    links = np.concatenate([same, np.stack([np.arange(len(names)), first[of]], axis=1)])
    graph = scipy.sparse.coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), (len(names), len(names)))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1]


def _part(prepared, chosen, pairs, same, name) -> Dataset:
    """The images numbered `chosen`, with the pairs of which it has both."""
    place = np.full(len(prepared.files), -1, np.int32)
    place[chosen] = np.arange(len(chosen))
    kept = (place[pairs] >= 0).all(axis=1)
    if len(np.unique(same[kept])) < 2:
        lacking = "different" if same[kept].any() else "same"
        raise ValueError(f"{name} has no {lacking} pair; list more pairs, or set fewer data.folder.folds")
    return dataclasses.replace(image_cache.dataset(prepared, chosen, name), pairs=(place[pairs[kept]], same[kept]))


SOURCE = Source(
    _load,
    title=lambda config: pathlib.Path(config.pairs.path).name,
    evaluators=lambda config: ("verification",),
    channels=lambda config: config.folder.channels,
    invert=folder.SOURCE.invert,
    ink=folder.SOURCE.ink,
    faces=folder.SOURCE.faces,
    path=lambda config: os.path.abspath(config.pairs.path),
    places=("data.data_dir", "data.manual_dir", "data.pairs.path", "data.pairs.images"),
)
