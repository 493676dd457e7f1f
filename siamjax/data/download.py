"""Downloads a file, complete or not at all."""

import http.client
import pathlib
import urllib.request
from collections.abc import Callable

from siamjax import files

# What a failed download raises.
FAILURES = (http.client.HTTPException, OSError)


def fetch(
    address: str, path: pathlib.Path, *, timeout: float, check: Callable[[bytes], None] = lambda content: None
) -> None:
    """Downloads `address` to `path`, and creates its folder if necessary.

    Args:
      address: URL of the file.
      path: written only when the download is complete.
      timeout: seconds without data after which the download fails.
      check: called with the content; raises OSError if it is not that of the file.

    Raises:
      OSError, HTTPException: `FAILURES`.
    """
    with urllib.request.urlopen(address, timeout=timeout) as answer:
        content = answer.read()
    check(content)
    files.write(path, content)
