"""Checks of labels and masks: invalid values are refused where they are known, and give NaN in graph."""

from typing import Any

import chex
import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from siamjax.types import Array

_RENUMBER = "number the identities first: labels = np.unique(labels, return_inverse=True)[1]"


def identities(labels: Array) -> Array:
    """Labels, as whole numbers that are equal in JAX only if they were equal before.

    JAX keeps 32 bits of an integer unless `jax_enable_x64` is set. NumPy labels that need more are renumbered here. As
    arguments of a jitted function they arrive with their upper bits already cut off, which cannot be detected inside.

    Args:
      labels: whole numbers or bool of any shape, an array of NumPy or JAX.

    Raises:
      ValueError: they are not whole numbers.
    """
    labels = _whole_numbers(labels, "labels")
    return labels if _fits(labels) else np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def numbered(labels: Any) -> tuple[list, np.ndarray]:
    """The distinct labels, of any hashable kind, in the order in which they come; and the number of each, int32 [n].

    Args:
      labels: n of them, an array or any iterable.

    Raises:
      ValueError: one is None or NaN, which is no identity.
    """
    labels = labels.tolist() if hasattr(labels, "tolist") else list(labels)  # An array's own list has Python's numbers.
    for position, label in enumerate(labels):
        if label is None or label != label:
            raise ValueError(f"labels[{position}] is {label}, which is no identity: leave out what has no label")
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return list(numbers), np.array([numbers[label] for label in labels], np.int32)


def lasting_identities(labels: Array, name: str = "labels") -> Array:
    """Labels that are kept and compared with those of other calls, so that they cannot be renumbered here.

    Raises:
      ValueError: they are not whole numbers, or do not fit JAX's integers.
    """
    labels = _whole_numbers(labels, name)
    if not _fits(labels):
        narrow = jax.dtypes.canonicalize_dtype(labels.dtype)
        wide = np.asarray(labels).flat[np.argmax(labels.astype(narrow) != labels)]
        raise ValueError(
            f"{name}: found {wide}, beyond JAX's {narrow}; renumber them for the whole data set, or set jax_enable_x64"
        )
    return labels


def classes(labels: Array, count: int, where: Array | None = None) -> jax.Array:
    """Labels that are rows 0..count − 1 of something else: as int32, −1 for those outside.

    Args:
      labels: whole numbers [n].
      count: number of rows.
      where: bool [n], the items that take part; None for all. Items left out may have any label.

    Raises:
      ValueError: they are not whole numbers, or a known one that takes part is not a row.
    """
    labels = _whole_numbers(labels, "labels")
    outside = (labels < 0) | (labels >= count)
    counted = outside if where is None else outside & taking_part(where, labels.shape)
    if is_known(counted) and np.any(counted):
        wrong = np.asarray(labels)[np.asarray(counted)][0]
        raise ValueError(f"labels: found {wrong}, but there are {count} classes; give rows of these, 0 to {count - 1}")
    return jnp.where(outside, -1, labels.astype(np.int32))


def sameness(same: Array, where: Array | None = None) -> tuple[Array, Array | None]:
    """Which pairs are of the same identity, and which have a value that is neither 0 nor 1; None where there are none.

    Args:
      same: bool or {0, 1} array.
      where: bool array of the same shape, the pairs that count; None for all. Pairs left out may have any value.

    Raises:
      ValueError: a known one that counts is neither 0 nor 1.
    """
    same = same if isinstance(same, jax.Array) else np.asarray(same)
    if same.dtype == bool:
        return same, None
    neither = (same != 0) & (same != 1)
    counted = neither if where is None else neither & taking_part(where, same.shape)
    if is_known(counted):
        if np.any(counted):
            wrong = np.asarray(same)[np.asarray(counted)].flat[0]
            raise ValueError(
                f"same: found {wrong}; give True or 1 for the same identity, False or 0 for different ones"
            )
        return same == 1, None
    return same == 1, neither


def taking_part(where: Array | None, shape: tuple[int, ...], name: str = "where") -> Array:
    """The mask `where`, bool of that shape; None selects all. Errors call it `name`.

    Raises:
      ValueError: it is not a mask but floats, such as weights.
    """
    if where is None:
        return jnp.ones(shape, bool)
    where = where if isinstance(where, jax.Array) else np.asarray(where)
    chex.assert_shape(where, shape)
    if jnp.issubdtype(where.dtype, jnp.inexact):
        raise ValueError(f"{name}: found {where.dtype}, but it is a mask, not weights; give bool, True for what counts")
    return where.astype(bool)


def is_known(x: Array) -> bool:
    """Whether the values of an array can be read here: it is neither traced nor spread over several processes."""
    if isinstance(x, jax.Array):
        return not isinstance(x, jax.core.Tracer) and x.is_fully_addressable
    return True


def _whole_numbers(labels, name):
    labels = labels if isinstance(labels, jax.Array) else np.asarray(labels)
    if labels.dtype == bool:
        return labels.astype(np.int32)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"{name}: found {labels.dtype}, but an identity is a whole number; {_RENUMBER}")
    return labels


def _fits(labels):
    narrow = jax.dtypes.canonicalize_dtype(labels.dtype)
    return isinstance(labels, jax.Array) or narrow == labels.dtype or np.array_equal(labels.astype(narrow), labels)
