"""Files of weights in the formats that exist, told by their content: names -> arrays."""

import os
import pathlib
import zipfile
from typing import Any, BinaryIO

import numpy as np
import safetensors

from siamjax import files
from siamjax.pretrained import _torch

_NESTED = ("state_dict", "model")  # under which a checkpoint of a training has the weights


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays in a file of safetensors, PyTorch (`torch.save` of a state_dict) or NumPy (.npz), by name.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, of another format, or holds more than arrays; the message names it.
    """
    with files.opened(path) as file:
        try:
            found = _read(path, file)
        except Exception as error:  # Whatever a damaged file makes the readers of its format raise.
            about = files.shown(error) or type(error).__name__
            raise ValueError(
                f"{files.shown(path)} cannot be read as weights ({about}); expected .safetensors, PyTorch's .pth or "
                "NumPy's .npz: download it again"
            ) from error
    return found


def _read(path, file: BinaryIO):
    start = file.read(16)
    file.seek(0)
    if start[8:9] == b"{":  # Safetensors: the header's length, and the header.
        with safetensors.safe_open(path, framework="np") as content:
            return {name: content.get_tensor(name) for name in content.offset_keys()}
    if start.startswith(b"PK") and _is_npz(file):
        with np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    found: Any = _torch.read(file)
    for name in _NESTED:
        found = found[name] if isinstance(found, dict) and isinstance(found.get(name), dict) else found
    if not isinstance(found, dict) or not all(isinstance(each, np.ndarray) for each in found.values()):
        raise ValueError("it holds no dictionary of tensors: save the state_dict alone")
    return {str(name): array for name, array in found.items()}


def _is_npz(file):
    """Whether the zip is of NumPy; leaves the file at its start."""
    with zipfile.ZipFile(file) as archive:
        expected, names = sum(info.file_size for info in archive.infolist()), archive.namelist()
    # A compressed file of a few bytes may say that it holds more than memory does.
    if expected > 100 * os.fstat(file.fileno()).st_size:
        raise ValueError("it is compressed beyond what weights can be")
    file.seek(0)
    return all(name.endswith(".npy") for name in names)
