"""Which extra of the installation brings a module that is missing; the one place where such errors are worded."""

import contextlib
from collections.abc import Iterator

# Module -> the extra in pyproject.toml that installs it. Everything else that siamjax imports is always installed.
EXTRAS = {
    "array_record": "train",
    "faiss": "gallery",
    "fastapi": "serve",
    "grain": "train",
    "importlib_resources": "train",
    "lancedb": "gallery",
    "matplotlib": "train",
    "mtcnn": "faces",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "orbax": "train",
    "pillow_heif": "heic",
    "prometheus_client": "serve",
    "pyarrow": "gallery",
    "requests": "train",
    "tensorboardX": "train",
    "tensorflow_datasets": "train",
    "uvicorn": "serve",
}


def remedy(module: str) -> str:
    """The command that installs `module`, a key of `EXTRAS`."""
    return f"pip install 'siamjax[{EXTRAS[module]}]'"


@contextlib.contextmanager
def needed_for(purpose: str) -> Iterator[None]:
    """Imports in this context name what needs them, and the extra that brings them.

    Args:
      purpose: the start of the message, such as "a training in a folder".

    Raises:
      ModuleNotFoundError: a module of an extra is missing, in one line with the remedy.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS or "siamjax[" in str(error):
            raise
        raise ModuleNotFoundError(f"{purpose} needs {module}: {remedy(module)}", name=error.name) from error
