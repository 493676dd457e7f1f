"""Files of the Hugging Face Hub, downloaded once, and compared with the digest that the Hub states.

The Hub's own package is not used: it does not compare digests, and brings a dozen others.
"""

import os
import pathlib
import re
import time
import urllib.error
import urllib.parse
import urllib.request

from siamjax import files, host
from siamjax.data import download

PREFIX = "hf://"
_NAMES = ("model.safetensors", "pytorch_model.bin")  # under which repositories have their weights
_TRIES, _PAUSE = 3, 1.0  # seconds after the first failure, twice as many after each further one
_TIMEOUT = 60.0  # seconds without data


def fetched(address: str) -> pathlib.Path:
    """The file of weights of a repository, "hf://ORG/NAME", in the cache, where it is downloaded to if necessary.

    The variable HF_ENDPOINT replaces https://huggingface.co.

    Raises:
      ValueError: it is no such address, or the repository has no weights.
      OSError: it cannot be downloaded, or is damaged on the way; names the address and where to put the file.
    """
    repository = address.removeprefix(PREFIX)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository):
        raise ValueError(f"{files.shown(address)} must be {PREFIX}ORG/NAME, a repository of the Hugging Face Hub")
    folder = pathlib.Path(host.cache(os.environ), "weights", repository)
    stored = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    if stored is not None:
        return stored
    start = f"{os.environ.get('HF_ENDPOINT') or 'https://huggingface.co'}/{repository}/resolve/main"
    for number in range(_TRIES):
        try:
            for name in _NAMES:
                if (facts := _facts(f"{start}/{name}")) is not None:
                    source, size, sha256 = facts
                    download.fetch(source, folder / name, timeout=_TIMEOUT, size=size, sha256=sha256)
                    return folder / name
            raise ValueError(f"{address} has neither {' nor '.join(_NAMES)}: name another repository, or a file")
        except download.FAILURES as error:
            if number + 1 == _TRIES or getattr(error, "code", 500) in (401, 403, 404):
                raise OSError(
                    f"{address} cannot be downloaded ({error}); check the name and the network, or download "
                    f"{start}/{_NAMES[0]} elsewhere and save it as {folder / _NAMES[0]}"
                ) from error
            time.sleep(_PAUSE * 2**number)
    raise AssertionError("unreachable")


def _facts(address):
    """(address of the content, bytes, SHA-256) of a file of the Hub, or None if there is no such file."""
    opener = urllib.request.build_opener(_Stay)
    for _ in range(5):
        try:
            with opener.open(urllib.request.Request(address, method="HEAD"), timeout=_TIMEOUT) as answer:
                headers = answer.headers
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            if error.code not in (301, 302, 303, 307, 308):
                raise
            headers = error.headers
        digest, size = headers.get("X-Linked-Etag", "").strip('"'), headers.get("X-Linked-Size", "")
        if re.fullmatch("[0-9a-f]{64}", digest) and size.isdigit():
            return address, int(size), digest
        if "Location" not in headers:
            break
        address = urllib.parse.urljoin(address, headers["Location"])
    raise OSError(f"{address} states neither size nor SHA-256")


class _Stay(urllib.request.HTTPRedirectHandler):
    """Does not follow: the Hub states size and digest in the answer that points elsewhere."""

    def redirect_request(self, *_):
        return None
