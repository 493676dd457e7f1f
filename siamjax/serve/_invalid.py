"""What was expected in place of a request that does not fit its type: pydantic's findings, in this service's words."""

from collections.abc import Mapping, Sequence
from typing import Any

BODY = "expected a JSON object in UTF-8, with Content-Type: application/json"
_WHOLE = "expected a whole number"
# Kind of a finding -> what was expected; braces hold its numbers. The only texts with a least or most length are names.
_EXPECTED = {
    "missing": "it is required, and missing",
    "extra_forbidden": "there is no such field; /openapi.json lists all of them",
    "too_short": "expected at least {min_length}, found {actual_length}",
    "too_long": "expected at most {max_length}, found {actual_length}",
    "string_too_short": "expected a name, found an empty text",
    "string_too_long": "expected a name of at most {max_length} characters",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "string_type": "expected a text",
    "list_type": "expected a list",
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), _WHOLE),
}


def told(findings: Sequence[Mapping[str, Any]]) -> str:
    """One line on the first five findings of `RequestValidationError.errors()`."""
    return "; ".join(map(_told, findings[:5]))


def _told(finding):
    kind, place = finding["type"], finding["loc"][1:]
    if kind == "json_invalid":
        return f"the body is not JSON (at character {place[0]}: {finding['ctx']['error']}): {BODY}"
    if not place:
        return f"the body: {BODY}"
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    expected = _EXPECTED.get(kind, "expected what /openapi.json describes")
    return f"{name}: {expected.format(**finding.get('ctx', {}))}"
