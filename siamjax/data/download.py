"""Fetches one file over the network, whole or not at all."""

import http.client
import pathlib
import urllib.request

from siamjax import files

# What a failed download raises.
FAILURES = (http.client.HTTPException, OSError)


def fetch(address: str, path: pathlib.Path, *, timeout: float, check=lambda content: None):
    """Writes what lies at `address` to `path`, whose folder is made if need be.

    Args:
      address: of the file.
      path: where it goes; nothing is written unless all of it came.
      timeout: seconds of silence after which the attempt ends.
      check: called with the bytes that came; raises OSError if they are not what was asked for.

    Raises:
      OSError, HTTPException: `FAILURES`.
    """
    with urllib.request.urlopen(address, timeout=timeout) as answer:
        content = answer.read()
    check(content)
    files.write(path, content)
