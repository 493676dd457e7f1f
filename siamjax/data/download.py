"""Downloads a file, complete or not at all."""

import hashlib
import http.client
import pathlib
import urllib.request

from siamjax import files

# What a failed download raises.
FAILURES = (http.client.HTTPException, OSError)


def fetch(address: str, path: pathlib.Path, *, timeout: float, size: int, sha256: str) -> None:
    """Downloads `address` to `path`, and creates its folder if necessary.

    Args:
      address: URL of the file.
      path: written only when the download is complete.
      timeout: seconds without data after which the download fails.
      size, sha256: bytes of the file and their digest.

    Raises:
      OSError, HTTPException: `FAILURES`: it cannot be downloaded, or is another file.
    """
    with urllib.request.urlopen(address, timeout=timeout) as answer:
        content = answer.read(size + 1)
    if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
        raise OSError("the download is not the official file: its size or its sha256 is another")
    files.write(path, content)
