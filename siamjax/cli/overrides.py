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


def fault(arguments: Sequence[str]) -> str:
    """What is wrong with the first of the settings in `arguments` that is not known or has no value of its type; "" if
    there is none."""
    from siamjax.run import settings  # Imports JAX, which takes a second; not needed where there is no fault.

    known = settings.flat(json.loads(settings.default().to_json()))
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        found = re.fullmatch(r"--?config\.([^=]+)(?:=(.*))?", argument, re.DOTALL)
        if found and (told := _fault(found[1], following if found[2] is None else found[2], known)):
            return told
    return ""


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
