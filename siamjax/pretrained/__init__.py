"""Published weights of the architectures in `siamjax.encoders.ARCHITECTURES`: where they are, and how they are read."""

import os
import pathlib
from typing import Any

from siamjax import files, host
from siamjax.encoders import ARCHITECTURES
from siamjax.pretrained import _files, _hub, _names

__all__ = ["DEFAULT", "FOLDER", "load"]

DEFAULT = "default"
FOLDER = "SIAMJAX_WEIGHTS"  # the variable with a folder of weights
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".npz")


def load(name: str, weights: str | os.PathLike[str] = DEFAULT) -> dict[str, Any]:
    """The published weights of an architecture: the variables {"params", "batch_stats"} of its layers, float32.

    Args:
      name: of an architecture, such as "mobilenet_v2".
      weights: a file: safetensors, PyTorch's .pth, or .npz, with torchvision's, timm's or DINOv2's names, or one that
        `Network.save` wrote; "hf://ORG/NAME", a repository of the Hugging Face Hub; or "default": the file whose name
        starts with `name` in the folder $SIAMJAX_WEIGHTS, or else in ~/.cache/siamjax/weights, or else timm's on the
        Hub.

    Raises:
      FileNotFoundError: there is no such file, or no default that can be downloaded.
      OSError: "hf://ORG/NAME" cannot be downloaded.
      ValueError: the file is damaged, of another format or of another architecture; or several could be the default.
    """
    if name not in ARCHITECTURES:
        raise ValueError(
            f"weights={str(weights)!r} are for encoders with published weights ({', '.join(ARCHITECTURES)}), not "
            f"{name!r}: choose one of these, or leave weights empty"
        )
    if str(weights) == DEFAULT:
        path = _default(name)
    elif str(weights).startswith(_hub.PREFIX):
        path = _hub.fetched(str(weights))
    else:
        path = pathlib.Path(weights).expanduser()
        if not path.exists():
            raise FileNotFoundError(
                f"weights={str(weights)!r} is not there: name a file of weights, hf://ORG/NAME, or {DEFAULT!r}"
            )
    arrays = _files.read(path)
    try:
        return _names.fitted(name, arrays)
    except ValueError as error:
        raise ValueError(f"{files.shown(path)}: {error}") from error


def _default(name):
    folders = [pathlib.Path(place) for place in (os.environ.get(FOLDER), f"{host.cache(os.environ)}/weights") if place]
    for folder in folders:
        found = sorted(path for path in folder.glob(f"{name}*") if path.suffix in _ENDINGS and path.is_file())
        if len(found) > 1:
            raise ValueError(
                f"{folder} has {found[0].name} and {found[1].name}, of which any could be {name!r}: keep one, or name "
                "the file, weights=FILE"
            )
        if found:
            return found[0]
    try:
        return _hub.fetched(f"{_hub.PREFIX}{ARCHITECTURES[name].published}")
    except OSError as error:
        raise FileNotFoundError(
            f"no file {name}* of weights in {' or '.join(map(str, folders))}, and {error}; or pass "
            "weights=FILE, of torchvision or timm"
        ) from error
