"""One-shot and few-shot trials: which identity of the support set does the query show?

Trials are drawn as image numbers and scored from embeddings, so that every image is embedded only once.
"""

import dataclasses
from collections.abc import Collection

import numpy as np

from siamjax.data.dataset import Dataset


class TooFewImages(ValueError):
    """The data set cannot fill the trials of a protocol."""


@dataclasses.dataclass(frozen=True)
class Trials:
    """r runs of q queries each against one support set.

    Attributes:
      support: int32 [r, ways, shots], image numbers.
      query: int32 [r, q], image numbers.
      answer: int32 [r, q], the position 0..ways-1 of the query's identity in the support set.
    """

    support: np.ndarray
    query: np.ndarray
    answer: np.ndarray


def within_group(
    dataset: Dataset, *, trials: int, ways: int, seed: int, among: Collection[str] | None = None
) -> Trials:
    """Draws Koch's trials: the support set is `ways` characters of one alphabet by one drawer, the queries by another.

    Lake's protocol as run by Koch, Zemel, Salakhutdinov (2015), section 4.2: a run takes an alphabet, uniformly drawn
    characters of it, and two of its drawers; each drawing by the second drawer is a query against all by the first.
    Runs cycle through the alphabets with at least `ways` characters. The order of queries is random.

    Args:
      dataset: the images; `source` is the drawer.
      trials: number of queries, a multiple of `ways`.
      ways: number of identities in a support set.
      seed: of the random draws.
      among: names of the groups to draw trials from; None for all.

    Returns:
      Trials with r = trials / ways runs of q = ways queries.

    Raises:
      TooFewImages: no group has `ways` identities that share two sources.
    """
    rng = np.random.default_rng(seed)
    image = _image_of(dataset, ways)
    group_of = _group_of(dataset)
    groups = [g for g, name in enumerate(dataset.group_names) if among is None or name in among]
    groups = [g for g in groups if len(_drawer_pairs(image[group_of == g], ways))]
    if not groups:
        raise TooFewImages(
            f"{ways}-way trials within a group need {ways} identities that share two sources; no group has so many "
            "(evaluation.ways)"
        )
    supports, queries, answers = [], [], []
    for run in range(trials // ways):
        if run % len(groups) == 0:
            order = rng.permutation(groups)
        labels = np.flatnonzero(group_of == order[run % len(groups)])
        pairs = _drawer_pairs(image[labels], ways)
        first, second = rng.permutation(pairs[rng.integers(len(pairs))])
        drawn = labels[(image[labels, first] >= 0) & (image[labels, second] >= 0)]
        chosen = rng.choice(drawn, ways, replace=False)
        answer = rng.permutation(ways)
        supports.append(image[chosen, first][:, None])
        queries.append(image[chosen[answer], second])
        answers.append(answer)
    return Trials(np.stack(supports), np.stack(queries), np.stack(answers).astype(np.int32))


def between_groups(dataset: Dataset, *, trials: int, ways: int, shots: int, seed: int) -> Trials:
    """Draws few-shot trials with identities from the whole data set, regardless of their group.

    As in Vinyals et al.: Matching Networks for One Shot Learning (2016), https://arxiv.org/abs/1606.04080. Figures
    depend on which classes were seen in training; in this project, never any of the test alphabets.

    Args:
      dataset: the images.
      trials: number of trials, each with one query and its own support set.
      ways: identities in a support set.
      shots: support images per identity.
      seed: of the random draws.

    Returns:
      Trials with r = trials runs of one query, which is not among the support images.

    Raises:
      TooFewImages: fewer than `ways` identities have more than `shots` images.
    """
    rng = np.random.default_rng(seed)
    in_order = np.argsort(dataset.label, kind="stable")
    counts = np.bincount(dataset.label)
    firsts = np.cumsum(counts) - counts
    large = np.flatnonzero(counts > shots)
    if len(large) < ways:
        raise TooFewImages(
            f"{ways}-way {shots}-shot trials need {ways} identities with at least {shots + 1} images each; found "
            f"{len(large)}"
        )
    answer = rng.integers(ways, size=(trials, 1)).astype(np.int32)
    labels = large[_distinct(rng, np.full(trials, len(large)), ways)]
    places = _distinct(rng, counts[labels].reshape(-1), shots + 1).reshape(trials, ways, -1)
    images = in_order[firsts[labels][..., None] + places].astype(np.int32)
    return Trials(images[..., :shots], np.take_along_axis(images[..., shots], answer, axis=1), answer)


def _distinct(rng, ends, count):
    """Int [n, count]: in each row, distinct numbers below its end, any set and order of them as likely as another.

    Bentley, Floyd: Programming pearls: a sample of brilliance (1987), https://doi.org/10.1145/30401.315746.
    """
    drawn = np.empty((len(ends), count), np.int64)
    for place in range(count):
        last = ends - count + place
        number = rng.integers(last + 1)
        taken = np.any(drawn[:, :place] == number[:, None], axis=1)
        drawn[:, place] = np.where(taken, last, number)
    return rng.permuted(drawn, axis=1)


def identities_of(dataset: Dataset, images: int) -> int:
    """The number of identities with at least `images` images."""
    return int(np.sum(np.bincount(dataset.label) >= images))


def right(scores: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Which queries are answered correctly; ties for the best score and NaN count as wrong.

    Args:
      scores: float [r, q, ways], higher for more similar.
      answer: int32 [r, q].

    Returns:
      bool [r, q].
    """
    of_answer = np.take_along_axis(scores, answer[..., None], axis=2)
    return np.sum(of_answer > scores, axis=2) == scores.shape[2] - 1


def rival(scores: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """The position of the best score among wrong identities, int [r, q]; arguments as in `right`."""
    others = np.array(scores)
    np.put_along_axis(others, answer[..., None], -np.inf, axis=2)
    return others.argmax(axis=2)


def _image_of(dataset, ways):
    """int32 [labels, sources]: the last image of an identity from a source, -1 if it has none.

    Only of sources with at least `ways` images: where each image is a source of its own, all would be a table of
    identities times images.
    """
    many = np.flatnonzero(np.bincount(dataset.source) >= ways)
    kept = np.flatnonzero(np.isin(dataset.source, many))
    image = np.full((dataset.label.max() + 1, len(many)), -1, np.int32)
    image[dataset.label[kept], np.searchsorted(many, dataset.source[kept])] = kept
    return image


def _group_of(dataset):
    group = np.empty(dataset.label.max() + 1, np.int32)
    group[dataset.label] = dataset.group
    return group


def _drawer_pairs(image, ways):
    """int [p, 2]: the pairs of sources that share `ways` rows of image [labels, sources]."""
    present = (image >= 0).astype(np.int32)
    frequent = np.flatnonzero(present.sum(axis=0) >= ways)
    shared = present[:, frequent].T @ present[:, frequent]
    return frequent[np.argwhere(np.triu(shared >= ways, k=1))]
