"""What every data source hands over: images with identity, group and source, checked once on entry."""

import dataclasses

import numpy as np

_NUMBERED = ("label", "group", "source")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images and what is known of each; `checked` is the only gate, later steps trust it.

    Attributes:
      images: uint8 [n, h, w, c], an array, or `Images` that are read as they are needed; on paper-like data ink is 255
        and paper 0, so that zero padding is paper.
      label: int32 [n], the identity, 0..k-1 without gaps.
      group: int32 [n], the alphabet (or camera site, species, ...), 0..g-1; an identity lies in one group.
      source: int32 [n], who or what made the image: drawer, camera, session; 0..s-1.
      group_names: g names, used in reports and errors.
      names: what the identities are called, where they have names; k names, or none.
      ink: whether grey images are ink 255 on paper 0, and are to be shown as black on white.
    """

    images: "np.ndarray | Images"
    label: np.ndarray
    group: np.ndarray
    source: np.ndarray
    group_names: tuple[str, ...]
    names: tuple[str, ...] = ()
    ink: bool = True

    def __len__(self) -> int:
        return len(self.images)


class Images:
    """Images in the place of an array uint8 [n, h, w, c] that are read whenever they are asked for, `images[numbers]`.

    `read` takes int [m] and gives uint8 [m, h, w, c], from any thread.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, read, shape: tuple[int, int, int, int]):
        self._read, self.shape = read, shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        return self._read(numbers)


def joined(first: Dataset, second: Dataset) -> Dataset:
    """The images of both, which share no identity, group or source, as one data set of arrays."""
    parts = (first, second)

    def numbers(field):
        shift = getattr(first, field).max() + 1
        return np.concatenate([getattr(first, field), getattr(second, field) + shift])

    images = np.concatenate([part.images[np.arange(len(part))] for part in parts])
    names = first.group_names + second.group_names
    return Dataset(images, numbers("label"), numbers("group"), numbers("source"), names)


def part_of(dataset: Dataset, chosen: np.ndarray) -> Dataset:
    """The images numbered `chosen`, int [m], with labels, groups and sources numbered anew."""
    numbers = {name: np.unique(getattr(dataset, name)[chosen], return_inverse=True) for name in _NUMBERED}
    images = Images(lambda items: dataset.images[chosen[items]], (len(chosen), *dataset.images.shape[1:]))
    groups = tuple(dataset.group_names[group] for group in numbers["group"][0])
    names = tuple(dataset.names[label] for label in numbers["label"][0]) if dataset.names else ()
    return Dataset(images, *(numbers[name][1].astype(np.int32) for name in _NUMBERED), groups, names, dataset.ink)


def checked(dataset: Dataset, name: str) -> Dataset:
    """Returns `dataset` after checking its contract; `name` says in errors which data set is at fault.

    Raises:
      ValueError: a shape, type, range or relation between the fields is not as `Dataset` promises.
    """

    def demand(holds, message):
        if not holds:
            raise ValueError(f"data set {name!r}: {message}")

    images = dataset.images
    demand(
        images.dtype == np.uint8 and images.ndim == 4,
        f"images must be uint8 [n, h, w, c], found {images.dtype} {images.shape}",
    )
    demand(len(images) > 0, "it holds no images")
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
        f"group {dataset.group.max()} has no name; {len(dataset.group_names)} names are given",
    )
    demand(
        len(np.unique(dataset.group)) == len(dataset.group_names),
        "every named group must hold images; number the groups without gaps",
    )
    pairs = np.unique(np.stack([dataset.label, dataset.group], 1), axis=0)
    demand(len(pairs) == dataset.label.max() + 1, "an identity must lie in one group")
    return dataset
