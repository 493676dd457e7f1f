"""The file of a network: its arrays by name, with the configuration and the decisions."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
import optax
import safetensors
import safetensors.numpy
from ml_collections import ConfigDict

from siamjax import digests, files
from siamjax.data import SOURCES
from siamjax.decision import Decision
from siamjax.network._types import Inputs
from siamjax.run import settings
from siamjax.training.state import Model, State, create

FILE = "network.safetensors"
_SCORES = "scores.json"
_SHIPPED = pathlib.Path(__file__).parents[1] / "weights"


def shipped() -> list[str]:
    """The names of the networks that come with siamjax."""
    return sorted(path.parent.name for path in _SHIPPED.glob(f"*/{FILE}"))


def stored_in(place: str | os.PathLike[str]) -> pathlib.Path | None:
    """The file of the network in a folder, or of the one with this name that comes with siamjax; None without one."""
    folders = pathlib.Path(place).expanduser(), _SHIPPED / place
    return next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)


def tested(place: str | os.PathLike[str], copies: int) -> dict[str, Any] | None:
    """The scores of the pairs that a network which comes with siamjax was tested on, averaged over this many `copies`.

    Returns:
      {"pairs": of what, "edges": of n bins, n + 1 scores, "same" and "different": n numbers of pairs}; None for others.
    """
    if place not in shipped() or not (file := _SHIPPED / place / _SCORES).is_file():
        return None
    saved = json.loads(file.read_text())
    found = saved["copies"].get(str(copies))
    return found and {"pairs": saved["pairs"], **found}


def portable(config: ConfigDict, inputs: Inputs | None) -> ConfigDict:
    """A copy of `config` that states the form of an input, and names no places of this machine."""
    places = {place for source in SOURCES.values() for place in source.places}
    copy = (
        config.copy_and_resolve_references()
        if inputs is None
        else settings.with_form(config, inputs.shape, inputs.dtype)
    )
    elsewhere = {*places, "data.folder.pairs", "encoder.weights", "train.start", "train.teacher"}
    copy.update_from_flattened_dict(dict.fromkeys(sorted(elsewhere), ""))
    return copy


def write(
    path: pathlib.Path,
    config: ConfigDict,
    variables: Mapping[str, Any],
    decisions: Mapping[int, Decision],
    precision: npt.DTypeLike,
) -> None:
    """Writes a network, whose `variables` are as in `Network`, to a file that `read` and `filled` read.

    Raises ValueError if its folder has other files in it, and none of this name.
    """
    if not path.is_file():
        files.check_empty(path.parent, "a saved network")
    encoder = variables["encoder"]
    tree = {
        "params": {"encoder": encoder["params"], "head": variables["head"]},
        "batch_stats": encoder["batch_stats"],
    }
    fitted = {copies: dataclasses.asdict(decision) for copies, decision in decisions.items()}
    arrays = {name: at(value, precision) for name, value in named(tree).items()}
    texts = {"config": config.to_json(), "decisions": json.dumps(fitted)}
    content = safetensors.numpy.save(arrays, metadata={**texts, "digest": digest(arrays, texts)})
    files.write(path, content)


def named(tree: Any) -> dict[str, Any]:
    """{path: array} of a tree of arrays, such as "params/encoder/Dense_0/kernel"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def at(array: npt.ArrayLike, precision: npt.DTypeLike) -> np.ndarray:
    """Floats in this precision, other numbers as they are."""
    array = np.asarray(array)
    return array.astype(precision) if np.issubdtype(array.dtype, np.floating) else array


def read(path: pathlib.Path) -> tuple[ConfigDict, dict[str, np.ndarray], dict[int, Decision]]:
    """Configuration, arrays by name and decisions from a file that `Network.save` wrote."""
    try:
        with safetensors.safe_open(path, framework="np") as file:
            saved = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.offset_keys()}
        if not {"config"} <= saved.keys() <= {"config", "decisions", "digest"}:
            raise ValueError(f"found {', '.join(sorted(saved))}")
        found = saved.pop("digest", None)
        if found not in (None, digest(arrays, saved)):
            raise ValueError("its content differs from its digest")
        config = settings.read(json.loads(saved["config"]))
        decisions = json.loads(saved.get("decisions", "{}"))
        decisions = {int(copies): Decision.read(decision) for copies, decision in decisions.items()}
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged, or of another version ({error}); save the network again") from error
    return config, arrays, decisions


def filled(model: Model, shape: tuple[int, ...], arrays: Mapping[str, np.ndarray], path: pathlib.Path) -> State:
    """The state of `model` with the arrays that `save` stored in the file `path`."""
    like = jax.eval_shape(lambda: create(model, jax.random.key(0), shape, optax.identity()))
    tree = {"params": like.params, "batch_stats": like.batch_stats}
    found = {name: list(array.shape) for name, array in arrays.items()}
    expected = {name: list(leaf.shape) for name, leaf in named(tree).items()}
    differing = sorted(name for name in found | expected if found.get(name) != expected.get(name))
    if differing:
        name = differing[0]
        raise ValueError(
            f"{path} does not fit the encoder or head: {name} has shape {found.get(name)} in the file, "
            f"{expected.get(name)} in the network (None where it has no such array)"
        )
    values = [at(arrays[name], np.float32) for name in expected]
    filled = jax.tree.unflatten(jax.tree.structure(tree), values)
    return like.replace(params=filled["params"], batch_stats=filled["batch_stats"])


def digest(arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> str:
    """Of names and arrays, and of names and texts."""
    return digests.of(part for items in (texts, arrays) for name in sorted(items) for part in (name, items[name]))
