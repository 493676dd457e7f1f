"""JSON files with a digest of their content."""

import json
import pathlib
from typing import Any

from siamjax import digests, files

Json = dict[str, Any]


def read(path: pathlib.Path, remedy: str) -> Json:
    """The content of a JSON file, which must be an object; {} if it does not exist.

    Raises:
      ValueError: it is damaged; the message ends with `remedy`.
    """
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError(f"expected an object, found {str(content)[:40]!r}")
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from error
    if content.pop("digest", digest := _digest(content)) != digest:
        raise ValueError(
            f"{path} is damaged, or was edited: its content differs from its digest; {remedy}. If the edit is yours, "
            'remove the entry "digest"'
        )
    return content


def write(path: pathlib.Path, content: Json) -> None:
    """Writes a JSON object; raises OSError if it cannot."""
    files.write(path, f"{json.dumps(content, indent=2)}\n".encode())


def write_sealed(path: pathlib.Path, content: Json) -> None:
    """Writes a JSON object with a digest of it, which `read` compares."""
    write(path, {**content, "digest": _digest(content)})


def _digest(content):
    return digests.of([json.dumps({key: content[key] for key in content.keys() - {"digest"}}, sort_keys=True)])
