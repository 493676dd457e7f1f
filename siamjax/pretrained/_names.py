"""From arrays by the names of PyTorch, or of a saved network, to the parameters of an architecture."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from siamjax.encoders import ARCHITECTURES, Pretrained

# Our names of a layer's arrays, and PyTorch's.
_PARTS = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
# Of files of whole networks: the classifier, counters, and the token that only DINOv2's training needs.
_UNUSED = re.compile(r"(classifier|fc|head)\.|(.*\.)?num_batches_tracked$|mask_token$")
_OWN = re.compile(r"(params/encoder|batch_stats)/backbone/(.*)")


def fitted(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The variables {"params", "batch_stats"} of the "backbone" of the encoder `name`, float32.

    Args:
      name: of an architecture.
      arrays: by the names of torchvision, timm or DINOv2, or of a file of `Network.save`.

    Raises:
      ValueError: arrays are missing or left over, or have other shapes; does not name the file.
    """
    encoder = Pretrained(name, ARCHITECTURES[name].features)
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
    expected = jax.eval_shape(encoder.init, jax.random.key(0), image)
    expected = {part: expected.get(part, {}).get("backbone", {}) for part in ("params", "batch_stats")}
    paths, structure = jax.tree_util.tree_flatten_with_path(expected)
    own = any(map(_OWN.fullmatch, arrays))
    if own:
        found = {_own_name(match): arrays[match[0]] for match in map(_OWN.fullmatch, arrays) if match}
        names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    else:
        found = {key: array for key, array in _as_timm(name, arrays).items() if not _UNUSED.match(key)}
        names = [_torch_name(path) for path, _ in paths]
    shapes = {key: leaf.shape if own else _torch_shape(leaf.shape) for key, (_, leaf) in zip(names, paths, strict=True)}
    _check(name, {key: array.shape for key, array in found.items()}, shapes)
    values = [np.asarray(found[key], np.float32) for key in names]
    for key, value in zip(names, values, strict=True):
        if not np.isfinite(value).all():
            raise ValueError(f"{key} holds NaN or infinite numbers")
    return jax.tree.unflatten(structure, values if own else [_ours(value) for value in values])


def _check(name, found, expected):
    differing = [key for key in {**expected, **found} if found.get(key) != expected.get(key)]
    if not differing:
        return
    missing = [key for key in differing if key not in found]
    surplus = [key for key in differing if key not in expected]
    first = next(iter(missing or [key for key in differing if key not in surplus] or surplus))
    shapes = [str(list(each[first])) if first in each else "none" for each in (found, expected)]
    raise ValueError(
        f"it does not fit {name!r}: {len(missing)} of its {len(expected)} tensors are missing, {len(surplus)} are left "
        f"over, {len(differing) - len(missing) - len(surplus)} have other shapes ({first}: found {shapes[0]}, expected "
        f"{shapes[1]}); take weights of this architecture, or name theirs"
    )


def _own_name(match):
    return f"{match[1].partition('/')[0]}/{match[2]}"


def _torch_name(path):
    *layer, last = ".".join(entry.key for entry in path[1:]).split(".")
    return ".".join([*layer, _PARTS.get(last, last)])


def _torch_shape(shape):
    """Kernels [h, w, in, out] are PyTorch's [out, in, h, w], matrices [in, out] its [out, in]."""
    return {4: (shape[-1], *shape[2:3], *shape[:2]), 2: shape[::-1]}.get(len(shape), shape)


def _ours(array):
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim)
    return array if axes is None else np.ascontiguousarray(array.transpose(axes))


def _as_timm(name, arrays):
    """Arrays of torchvision's MobileNetV2 by timm's names, which the layers have; others as they are."""
    if name != "mobilenet_v2" or "features.0.0.weight" not in arrays:
        return dict(arrays)
    stages = [stage for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1)) for _ in range(count)]
    blocks = [f"blocks.{stage}.{number - stages.index(stage)}." for number, stage in enumerate(stages)]
    layers = {"features.0.0": "conv_stem", "features.0.1": "bn1", "features.18.0": "conv_head", "features.18.1": "bn2"}
    theirs = ("0.0", "0.1", "1.0", "1.1", "2", "3")
    for number, block in enumerate(blocks, start=1):
        ours = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
        if number == 1:  # It does not widen.
            theirs_here, ours = ("0.0", "0.1", "1", "2"), ("conv_dw", "bn1", "conv_pw", "bn2")
        else:
            theirs_here = theirs
        layers |= {f"features.{number}.conv.{a}": block + b for a, b in zip(theirs_here, ours, strict=True)}
    split = {key: key.rpartition(".") for key in arrays}
    return {f"{layers.get(layer, layer)}.{last}": arrays[key] for key, (layer, _, last) in split.items()}
