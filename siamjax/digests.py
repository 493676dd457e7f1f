"""Digests: whether data is what was written, or what another process has."""

import hashlib
from collections.abc import Iterable

import numpy as np


def of(parts: Iterable[str | np.ndarray]) -> str:
    """The SHA-256 of texts and arrays, in their order, with the types and shapes of the arrays."""
    digest = hashlib.sha256()
    for part in parts:
        text = isinstance(part, str)
        content = part.encode() if text else np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
        digest.update(f"{len(content)} {'' if text else f'{part.dtype} {list(part.shape)}'}\n".encode())
        digest.update(content)
    return digest.hexdigest()
