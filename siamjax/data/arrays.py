"""Data of one's own as arrays: inputs with labels of any kind, or pairs of inputs."""

import dataclasses
import os
import pathlib
import zipfile
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from ml_collections import ConfigDict

from siamjax.data import splits
from siamjax.data.dataset import Dataset, checked, part_of
from siamjax.data.types import Datasets, Source
from siamjax.labels import numbered as number_labels


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of inputs to train or validate on.

    Attributes:
      a, b: the first and the second input of each pair, [n, ...] each, of the same shape; also for `fit(towers=2)`,
        whose two encoders have the same layers.
      same: bool or {0, 1} [n], 1 for the same identity.
    """

    a: Any
    b: Any
    same: Any


def inputs(x: npt.ArrayLike, name: str = "x") -> np.ndarray:
    """`x` as an encoder takes it: uint8 as it is, other numbers as float32; [n, ...].

    Raises:
      ValueError: there are no items, or they are not finite numbers.
    """
    array = np.asarray(x)
    if array.dtype != np.uint8:
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) or np.iscomplexobj(array):
            raise ValueError(f"{name}: found {array.dtype}, expected numbers: one array [n, ...] of n inputs")
        array = array.astype(np.float32)
    if array.ndim < 2 or not array.size:
        raise ValueError(f"{name}: found shape {list(array.shape)}, expected [n, ...]: n inputs of at least one number")
    bad = [] if array.dtype == np.uint8 else np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
    if len(bad):
        raise ValueError(f"{name}[{bad[0]}] holds NaN or infinity; leave it out, or fill in what is missing")
    return array


def numbered(labels: Iterable[Hashable], count: int, name: str = "y") -> tuple[tuple[str, ...], np.ndarray]:
    """The names [k] of the distinct labels, in the order in which they come, and the number of each item's, int32 [n].

    Raises:
      ValueError: there is not one label for each of the `count` items, or one is not hashable or NaN.
    """
    values = getattr(labels, "tolist", lambda: list(labels))()
    if len(values) != count:
        raise ValueError(f"{name}: found {len(values)} labels for {count} inputs; expected one each")
    for position, value in enumerate(values):
        if not isinstance(value, Hashable) or value != value:
            raise ValueError(f"{name}[{position}]={value!r} is no label: expected a number, a string or a tuple")
    names, label = number_labels(values)
    return tuple(map(str, names)), label


def dataset(
    x: npt.ArrayLike,
    y: Iterable[Hashable],
    group: Iterable[Hashable] | None = None,
    source: Iterable[Hashable] | None = None,
    *,
    name: str = "",
) -> Dataset:
    """The `Dataset` of inputs [n, ...] and their labels [n], of any hashable kind.

    Args:
      x: see `inputs`.
      y: labels [n].
      group, source: [n], see `Dataset`; None for one of all.
      name: comes before the names of the arguments, in errors.

    Raises:
      ValueError: see `inputs` and `numbered`; or images of an identity are in two groups.
    """
    array = inputs(x, f"{name}x")
    names, label = numbered(y, len(array), f"{name}y")
    groups, of_group = numbered([0] * len(array) if group is None else group, len(array), f"{name}group")
    _, of_source = numbered([0] * len(array) if source is None else source, len(array), f"{name}source")
    return checked(Dataset(array, label, of_group, of_source, groups, names, ink=False), f"{name}x, {name}y")


def of_pairs(pairs: Pairs, name: str = "") -> Dataset:
    """The inputs of n pairs as a `Dataset` of 2 n items, first a, then b.

    Raises:
      ValueError: the three do not fit together, or all pairs are of one kind.
    """
    a, b, same = inputs(pairs.a, f"{name}a"), inputs(pairs.b, f"{name}b"), np.asarray(pairs.same)
    if a.shape != b.shape or a.dtype != b.dtype or same.shape != (len(a),):
        raise ValueError(
            f"{name}Pairs: found a {a.dtype} {list(a.shape)}, b {b.dtype} {list(b.shape)}, same {list(same.shape)}; "
            "expected a and b of the same shape [n, ...] and type, and same [n]"
        )
    if not np.isin(same, (0, 1)).all() or same.all() or not same.any():
        raise ValueError(f"{name}same: found {np.unique(same)[:5].tolist()}; expected both 1 (same) and 0 (different)")
    zeros = np.zeros(2 * len(a), np.int32)
    label = np.arange(2 * len(a), dtype=np.int32)
    given = label.reshape(2, -1).T, same.astype(bool)
    return Dataset(np.concatenate([a, b]), label, zeros, zeros, ("all",), ink=False, pairs=given)


def _read(config, names):
    """Those of the arrays `names` that the file of `config` has, by name."""
    path = pathlib.Path(config.arrays.path).expanduser()
    if not config.arrays.path:
        raise ValueError("data.arrays.path is empty: name a file .npz with the arrays x [n, ...] and y [n]")
    if not path.is_file():
        raise FileNotFoundError(f"data.arrays.path={path} not found")
    try:
        with np.load(path) as file:
            return {name: file[name] for name in names if name in file.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"data.arrays.path={path} is not a file of arrays, made by numpy.savez ({error})") from error


def _load(config: ConfigDict, train: bool) -> Datasets:
    found, own = _read(config, ("x", "y", "group", "source")), config.folder
    if not {"x", "y"} <= found.keys():
        raise ValueError(f"data.arrays.path={config.arrays.path} holds no arrays x and y, but {list(found)}")
    whole = dataset(**found, name=f"{config.arrays.path}: ")
    by = np.array(whole.group_names)[whole.group] if own.by == "group" else np.array(whole.names)[whole.label]
    parts = splits.split_by(own, by)
    return {part: part_of(whole, rows) for part, rows in parts.items() if train or part != "train"}


def _inputs(config):
    own = config.arrays
    if own.shape:
        return tuple(own.shape), False, own.dtype
    x = inputs(_read(config, ("x",))["x"])
    return x.shape[1:], False, x.dtype.name


SOURCE = Source(
    _load,
    title=lambda config: pathlib.Path(config.arrays.path).stem or "arrays",
    evaluators=lambda config: ("verification", "identification", "retrieval", "open_set"),
    inputs=_inputs,
    form=("data.arrays.shape", "data.arrays.dtype"),
    path=lambda config: os.path.abspath(config.arrays.path),
    places=("data.data_dir", "data.manual_dir", "data.arrays.path"),
)
