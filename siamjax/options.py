"""The options of functions and modules, with their defaults, as configurations hold them."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args

from flax import linen as nn

from siamjax import distances
from siamjax.types import Distance, PairwiseDistance

# Parameters that the caller passes; they are not options.
_STRUCTURE = {"where", "axis_name", "reduce_fn", "has_aux", "pairs", "others", "parts", "name", "parent", "dtype"}

DistanceName = Literal["squared_euclidean", "euclidean", "l1", "lp", "cosine", "dot"]
DISTANCES: dict[str, tuple[Distance, PairwiseDistance]] = {
    name: (getattr(distances, name), getattr(distances, f"pairwise_{name}")) for name in get_args(DistanceName)
}


def options(function: Callable) -> dict[str, Any]:
    """The options of a function or Flax module with their defaults, as a configuration can hold them.

    Options are keyword-only parameters, or a module's attributes; a distance is stored by its name in `DISTANCES`.
    """
    if isinstance(function, type) and issubclass(function, nn.Module):
        found = {field.name: field.default for field in dataclasses.fields(function)}
    else:
        parameters = inspect.signature(function).parameters.values()
        found = {each.name: each.default for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    return {
        name: _stored(value)
        for name, value in found.items()
        if name not in _STRUCTURE and value is not inspect.Parameter.empty
    }


def _stored(default: Any) -> Any:
    """A default as JSON can hold it."""
    names: dict[Any, str] = {function: name for name, pair in DISTANCES.items() for function in pair}
    return names[default] if callable(default) else default
