"""Settings on a command line, --config.KEY=VALUE: what is wrong with one that cannot be taken."""

import difflib
import json
import re
from collections.abc import Callable, Sequence

# Type of a setting -> what a value of it is, and what reads it.
_EXPECTED: dict[type, tuple[str, Callable[[str], object]]] = {
    bool: ("True or False", lambda text: ("true", "t", "1", "false", "f", "0").index(text.lower())),
    int: ("a whole number", lambda text: int(text, 0)),
    float: ("a number", float),
}


def fault(arguments: Sequence[str], error: Exception) -> str:
    """What is wrong with the first of the settings in `arguments` that is not known or has no value of its type.

    Args:
      arguments: the flags; settings that are True or False need no value, and may be set by --noconfig.KEY.
      error: what reading them raised. A setting is not known if this names it, as a configuration file may have further
        ones.

    Returns:
      What is wrong, in words; "" if it is none of the settings.
    """
    from siamjax.run import settings  # Imports JAX, which takes a second; not needed where there is no fault.

    known = settings.flat(json.loads(settings.default().to_json()))
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        found = re.fullmatch(r"--?(no)?config\.([^=]+)(?:=(.*))?", argument, re.DOTALL)
        if not found:
            continue
        unset, key, value = found.groups()
        if key not in known and not _is_missing(key, error):
            continue
        if key in known and (unset or (value is None and type(known[key]) is bool)):
            continue
        if told := _fault(key, following if value is None else value, known):
            return told
    return ""


def _is_missing(key, error):
    """Whether an error says that a part of a key is in no configuration, or names the whole key."""
    named = re.search(r"'(\w+)\\?'", str(error))
    lookup = isinstance(error, (AttributeError, KeyError)) and named is not None and named[1] in key.split(".")
    return lookup or f"config.{key}" in str(error)


def _fault(key, value, known):
    if key not in known:
        inside = [name for name in known if name.startswith(f"{key}.")]
        if inside:
            return f"--config.{key} is a group of settings; set one of them, such as --config.{inside[0]}=VALUE"
        near = difflib.get_close_matches(key, known, 1)
        remedy = f"did you mean --config.{near[0]}?" if near else "siamjax/run/settings.py lists all of them"
        return f"--config.{key} is not a setting; {remedy}"
    expected, read = _EXPECTED.get(type(known[key]), ("", str))
    try:
        read(value)
    except ValueError:
        shown = f"={value}" if value and not value.startswith("--") else " has no value"
        return f"--config.{key}{shown}: expected {expected}, such as --config.{key}={known[key]}"
    return ""
