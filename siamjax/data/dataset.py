"""The form of all data: images with identity, group and source, checked once on entry."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from siamjax import digests, parallel

_BLOCK = 4096  # images that are read at a time for their digest
_NUMBERED = ("label", "group", "source")


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """The comparisons of a verification protocol, in folds that share no identity; each is of a query with references.

    Attributes:
      references: int32 [t, r], image numbers: r images that are of one identity; r is 1 for pairs.
      query: int32 [t], image numbers.
      same: bool [t], whether the query is of the references' identity.
      fold: int32 [t], the fold of each comparison.
    """

    references: np.ndarray
    query: np.ndarray
    same: np.ndarray
    fold: np.ndarray

    def images(self) -> np.ndarray:
        """The numbers of the images that are compared, int32 [n], sorted."""
        return np.unique(np.append(self.references, self.query)).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images with their identities; checked once, by `checked`, and trusted by every later step.

    Attributes:
      images: uint8 [n, h, w, c], an array, or `Images` that are read on access; for writing, ink is 255 and paper 0, so
        that zero padding is paper. Other inputs are float32 [n, ...]; uint8 is divided by 255 before the encoder.
      label: int32 [n], the identity, 0..k-1 without gaps.
      group: int32 [n], the alphabet (or camera site, species, ...), 0..g-1; all images of an identity are in one group.
      source: int32 [n], the drawer, camera or session that the image is from, 0..s-1.
      group_names: [g], for reports and errors.
      names: of the identities, [k], or () if they have none.
      pairs: those that alone are known to be the same or different: image numbers int32 [p, 2], `same` bool [p]; None
        where labels say it of all images.
      ink: whether grey images are ink 255 on paper 0, so that reports show them as black on white.
      protocols: by name, comparisons of these images that verification is judged on.
      files: the names of the image files, [n], or () if they are of none.
    """

    images: "np.ndarray | Images"
    label: np.ndarray
    group: np.ndarray
    source: np.ndarray
    group_names: tuple[str, ...]
    names: tuple[str, ...] = ()
    ink: bool = True
    pairs: tuple[np.ndarray, np.ndarray] | None = None
    protocols: Mapping[str, Comparisons] = dataclasses.field(default_factory=dict)
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


class Images:
    """Images that are read on access, `images[numbers]`; they replace an array uint8 [n, h, w, c]."""

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], shape: tuple[int, int, int, int]):
        """`read`: numbers int [m] -> uint8 [m, h, w, c], called from any thread."""
        self._read, self.shape = read, shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        return self._read(numbers)


def joined(first: Dataset, second: Dataset) -> Dataset:
    """Both data sets as one, with arrays; they share no identity, group or source."""
    parts = (first, second)

    def numbers(field):
        shift = getattr(first, field).max() + 1
        return np.concatenate([getattr(first, field), getattr(second, field) + shift])

    images = np.concatenate([part.images[np.arange(len(part))] for part in parts])
    names = first.group_names + second.group_names
    return Dataset(images, numbers("label"), numbers("group"), numbers("source"), names)


def form(dataset: Dataset) -> tuple[tuple[int, ...], str]:
    """Shape and type of an input, such as ((28, 28, 1), "uint8")."""
    return tuple(map(int, dataset.images.shape[1:])), dataset.images.dtype.name


def part_of(dataset: Dataset, chosen: np.ndarray) -> Dataset:
    """The images numbered `chosen`, int [m], with labels, groups and sources renumbered from 0."""
    old = {field: np.unique(getattr(dataset, field)[chosen], return_inverse=True) for field in _NUMBERED}
    label, group, source = (old[field][1].astype(np.int32) for field in _NUMBERED)
    if dataset.images.dtype == np.uint8 and len(dataset.images.shape) == 4:
        height, width, channels = dataset.images.shape[1:]
        images = Images(lambda items: dataset.images[chosen[items]], (len(chosen), height, width, channels))
    else:
        images = dataset.images[chosen]
    groups = tuple(dataset.group_names[number] for number in old["group"][0])
    names = tuple(dataset.names[number] for number in old["label"][0]) if dataset.names else ()
    of = tuple(dataset.files[number] for number in chosen) if dataset.files else ()
    return Dataset(images, label, group, source, groups, names, dataset.ink, files=of)


def checked(dataset: Dataset, name: str) -> Dataset:
    """Returns `dataset` after checking its contract.

    Args:
      dataset: the data set.
      name: of the data set, for errors.

    Raises:
      ValueError: a shape, type, range or relation between the fields is not that of a `Dataset`.
    """

    def demand(holds, message):
        if not holds:
            raise ValueError(f"data set {name!r}: {message}")

    images = dataset.images
    demand(
        images.dtype in (np.uint8, np.float32) and images.ndim > 1,
        f"images must be uint8 [n, h, w, c], or other inputs float32 [n, ...]; found {images.dtype} {images.shape}",
    )
    demand(len(images) > 0, "it has no images")
    for field in _NUMBERED:
        values = getattr(dataset, field)
        demand(
            values.dtype == np.int32 and values.shape == (len(images),),
            f"{field} must be int32 [{len(images)}], found {values.dtype} {values.shape}",
        )
        demand(values.min() >= 0, f"{field} must not be negative, found {values.min()}")
    demand(len(np.unique(dataset.label)) == dataset.label.max() + 1, "labels must be 0..k-1 without gaps")
    demand(
        dataset.group.max() < len(dataset.group_names),
        f"group {dataset.group.max()} has no name; there are {len(dataset.group_names)} names",
    )
    demand(
        len(np.unique(dataset.group)) == len(dataset.group_names),
        "every named group must have images; number the groups without gaps",
    )
    pairs = np.unique(np.stack([dataset.label, dataset.group], 1), axis=0)
    demand(len(pairs) == dataset.label.max() + 1, "all images of an identity must be in one group")
    return dataset


def check_processes(datasets: Mapping[str, Dataset]) -> None:
    """Refuses a process whose data differs from that of process 0; all processes must call this. It reads all images.

    Raises:
      ValueError: the message names the part of the data.
    """
    if parallel.is_alone():
        return
    own = {part: _digest(datasets[part]) for part in sorted(datasets)}
    main = parallel.from_main(lambda: own)
    differing = [part for part in sorted(main.keys() | own.keys()) if main.get(part) != own.get(part)]
    if differing:
        raise ValueError(
            f"the {differing[0]} data differs from that of process 0, with equal settings: let all processes read the "
            "same files, or copy them again"
        )


def _digest(dataset):
    def parts():
        yield from (*dataset.group_names, *dataset.names)
        yield from (getattr(dataset, field) for field in _NUMBERED)
        for start in range(0, len(dataset), _BLOCK):
            yield dataset.images[np.arange(start, min(start + _BLOCK, len(dataset)))]

    return digests.of(parts())
