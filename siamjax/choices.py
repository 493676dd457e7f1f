"""Looks up a name in a table of choices; the one place where unknown names are refused."""

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def choose(argument: str, name: Any, table: Mapping[Any, T]) -> T:
    """Returns `table[name]`; `argument` is the argument or setting that holds `name`.

    Raises:
      ValueError: `name` is not in the table; the message lists what is.
    """
    if name not in table:
        raise ValueError(f"{argument}={name!r} is not known; choose one of {', '.join(map(str, sorted(table)))}")
    return table[name]
