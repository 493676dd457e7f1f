"""Image files to enroll: their pixels, as the network takes them, and thumbnails."""

import concurrent.futures
import io
import os
from collections.abc import Sequence

import numpy as np

from siamjax.data.images import refusal, upright
from siamjax.network import Network

_THUMBNAIL = 96  # pixels

Path = str | os.PathLike[str]


def read(network: Network, paths: Sequence[Path]) -> list[tuple[np.ndarray, bytes] | Exception]:
    """The pixels uint8 [h, w, c] and the JPEG thumbnail of each file; or why it cannot be read."""

    def one(path):
        try:
            return network.read([path])[0], _thumbnail(path)
        except (ValueError, OSError) as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, paths))


def refused(errors: list[Exception], count: int) -> Exception:
    """The error if some of `count` files cannot be read: FileNotFoundError if all of those are missing."""
    missing = all(isinstance(error, FileNotFoundError) for error in errors)
    message = refusal([str(error) for error in errors], count, "--skip-unreadable")
    return FileNotFoundError(message) if missing else ValueError(message)


def _thumbnail(path):
    with upright(path, "RGB", 2 * _THUMBNAIL) as image:
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=85)
    return buffer.getvalue()
