"""PyTorch's files of tensors, read without PyTorch, and without running what a pickle asks for.

A pickle can call any function by its name. Here it can name the few that make tensors and their dictionary; any other
is refused.
"""

import collections
import io
import math
import pickle
import zipfile
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

_DTYPES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.dtype("bfloat16"),
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_MAGIC = 0x1950A86A20F9469CFC6C  # of the format before PyTorch 1.6


class _Storage(NamedTuple):
    key: str
    dtype: Any
    count: int


class _Tensor(NamedTuple):
    """A view of a storage, whose numbers may be read later."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(file: BinaryIO) -> Any:
    """What `torch.save` wrote: dictionaries whose tensors are arrays.

    Raises:
      Exception: of many kinds, if the file is damaged, is not of PyTorch, or holds more than tensors.
    """
    if zipfile.is_zipfile(file):
        return _read_zip(file)
    file.seek(0)
    if _load(file) != _MAGIC:
        raise ValueError("it is not a file of PyTorch")
    _, _, content = (_load(file) for _ in range(3))  # After the version, and facts on the machine that wrote it.
    contents = {}
    storages = {each.key: each for each in _storages(content)}
    for key in _load(file):
        count, storage = int(np.frombuffer(file.read(8), "<i8")[0]), storages[key]
        if count != storage.count:
            raise ValueError(f"a storage has {count} numbers, expected {storage.count}")
        contents[key] = file.read(count * np.dtype(storage.dtype).itemsize)
    return _filled(content, contents)


def _read_zip(file):
    with zipfile.ZipFile(file) as archive:
        index = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if index is None:
            raise ValueError("the zip is not of PyTorch: it has no data.pkl")
        root = index.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("its bytes are in big-endian order")
        content = _load(io.BytesIO(archive.read(index)))
        contents = {each.key: archive.read(f"{root}data/{each.key}") for each in _storages(content)}
        return _filled(content, contents)


def _load(file):
    return _Tensors(file, encoding="utf-8").load()


class _Tensors(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        allowed = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) not in allowed:
            raise ValueError(f"it asks for {module}.{name}, which a file of tensors does not need; it is not run")
        return allowed[module, name]

    def persistent_load(self, pid: Any, /) -> _Storage:
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or (len(pid) > 5 and pid[5] is not None):
            raise ValueError("it holds views of storages, as no file of weights does")
        return _Storage(str(key), dtype, int(count))


def _tensor(storage, offset, shape, strides, *_):
    least = min((offset, *shape, *strides))
    if not isinstance(storage, _Storage) or len(shape) != len(strides) or least < 0:
        raise ValueError("a tensor has no storage, or an impossible shape")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and (last >= storage.count or math.prod(shape) > storage.count):
        raise ValueError(f"a tensor of shape {list(shape)} reaches beyond its storage of {storage.count} numbers")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor, *_):
    return tensor


def _storages(content):
    if isinstance(content, _Tensor):
        return [content.storage]
    values = content.values() if isinstance(content, dict) else content if type(content) in (list, tuple) else ()
    return [storage for value in values for storage in _storages(value)]


def _filled(content, contents):
    """`content` with arrays in place of tensors."""
    if isinstance(content, _Tensor):
        numbers = np.frombuffer(contents[content.storage.key], content.storage.dtype)
        if len(numbers) != content.storage.count:
            raise ValueError(f"a storage has {len(numbers)} numbers, expected {content.storage.count}: it is cut off")
        strides = [stride * numbers.itemsize for stride in content.strides]
        return np.lib.stride_tricks.as_strided(numbers[content.offset :], content.shape, strides, writeable=False)
    if isinstance(content, dict):
        return {key: _filled(value, contents) for key, value in content.items()}
    return content
