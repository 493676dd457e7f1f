"""A long-tailed subset: few identities have many images, most have one or two; some are never enrolled."""

import dataclasses

import numpy as np

from siamjax.data.dataset import Dataset, part_of

# Identities with 1, 2, ... images among the 5,004 of the humpback whale competition (2018), as counted in its public
# notebooks; the others have more.
_WHALES = (2073, 1285, 568, 273, 172, 136)
_OF_WHALES = 5004
_MOST = 16  # training images of an identity
_NEW = 0.276  # share of the queries with an identity unseen in training, as in the competition
_NEW_IMAGES = 4  # queries of such an identity


def cut(dataset: Dataset, seed: int = 0) -> dict[str, Dataset]:
    """Training images, and queries whose identity is one of theirs, or new.

    41 % of the known identities have a single image to train on, 26 % two, 11 % three, and so on, the shares of the
    humpback whale competition. Queries of a known identity come from sources 16 to 19: two for validation, two for the
    test; the queries of a new identity are all in one of the two.

    Args:
      dataset: identities with an image from each of the sources 0..19, such as Omniglot's characters.
      seed: of the random choice.

    Returns:
      "train", with identities 0..k-1; "gallery", the same images; and "validation" and "test", where known identities
      have the same numbers, and new ones higher numbers.
    """
    rng = np.random.default_rng(seed)
    identities = int(dataset.label.max()) + 1
    new_queries = 4 * _NEW / (1 - _NEW)  # for each known identity, of both parts together
    known = int(identities / (1 + new_queries / _NEW_IMAGES))
    order = rng.permutation(identities)
    # In every part, the known identities have the lowest numbers.
    label = np.argsort(order).astype(np.int32)[dataset.label]
    names = tuple(dataset.names[identity] for identity in order) if dataset.names else ()
    dataset = dataclasses.replace(dataset, label=label, names=names)
    kept = _counts(known)[dataset.label.clip(max=known - 1)]
    nth = _nth_of_label(dataset, rng)
    is_known = dataset.label < known
    half = known + (identities - known) // 2
    parts = {
        "train": is_known & (nth < kept),
        "validation": np.where(is_known, np.isin(dataset.source, (16, 17)), dataset.label < half),
        "test": np.where(is_known, np.isin(dataset.source, (18, 19)), dataset.label >= half),
    }
    is_query = is_known | (dataset.source >= 20 - _NEW_IMAGES)
    cuts = {part: part_of(dataset, np.flatnonzero(chosen & is_query)) for part, chosen in parts.items()}
    return cuts | {"gallery": cuts["train"]}


def _counts(known: int) -> np.ndarray:
    """The number of training images of each known identity, int [known]."""
    edges = np.round(np.cumsum(_WHALES) / _OF_WHALES * known).astype(int)
    counts = np.full(known, 0)
    for number, (start, stop) in enumerate(zip([0, *edges[:-1]], edges, strict=True), start=1):
        counts[start:stop] = number
    rest = known - edges[-1]
    counts[edges[-1] :] = np.linspace(len(_WHALES) + 1, _MOST, rest).astype(int)
    return counts


def _nth_of_label(dataset: Dataset, rng: np.random.Generator) -> np.ndarray:
    """The rank of each image in a random order of its identity's images, sources 0..15 first, int [n]."""
    order = np.lexsort([rng.random(len(dataset)), dataset.source >= 16, dataset.label])
    label = dataset.label[order]
    nth = np.empty(len(dataset), int)
    nth[order] = np.arange(len(dataset)) - np.searchsorted(label, label)
    return nth
