"""Where a network is stored: in the folder of a run, in a file, or as published weights of an architecture."""

import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from siamjax import pretrained
from siamjax.decision import Decision
from siamjax.encoders import ARCHITECTURES
from siamjax.network._file import filled, read, shipped, stored_in
from siamjax.run import Run, settings
from siamjax.training.state import Model, State


class Stored(NamedTuple):
    """A stored network.

    Attributes:
      config: its configuration.
      decisions: a restored state -> how its scores decide, by number of copies; none of another checkpoint's.
      restore: (model, shape of an input) -> its state, on the host.
      place: what finds it again: the folder, or a name; "" if nothing does.
    """

    config: ConfigDict
    decisions: Callable[[State], dict[int, Decision]]
    restore: Callable[[Model, tuple[int, ...]], State]
    place: str


def stored(place: str | os.PathLike[str], weights: str | os.PathLike[str] | None) -> Stored:
    """The network at `place`; arguments and errors as of `Network.load`."""
    folder, run, file = pathlib.Path(place).expanduser(), Run(place), stored_in(place)
    found = str(folder.resolve()) if folder.is_dir() else str(place)
    if str(place) in ARCHITECTURES and not folder.is_dir():
        return _published(str(place), weights)
    if weights is not None:
        raise ValueError(
            f"weights={str(weights)!r} are for an architecture ({', '.join(ARCHITECTURES)}), and {place} is a network "
            "that has its own: leave weights out"
        )
    if run.is_started or (file is None and folder.is_dir()):
        config = run.settings
        copies = config.evaluation.copies
        return Stored(
            config,
            lambda trained: run.figures.decisions(copies, int(trained.step)),
            lambda model, shape: run.restore(model, shape)[0],
            found,
        )
    if file is None:
        raise FileNotFoundError(
            f"{place} not found: it is neither a folder, nor one of the networks that come with siamjax "
            f"({', '.join(shipped())}), nor an architecture with published weights ({', '.join(ARCHITECTURES)}); pass "
            "a run folder (workdir of the training)"
        )
    config, arrays, decisions = read(file)
    return Stored(config, lambda _: decisions, lambda model, shape: filled(model, shape, arrays, file), found)


def _published(name: str, weights: str | os.PathLike[str] | None) -> Stored:
    """The features of an architecture, compared by their cosine; no decision was fitted to any pairs."""
    known, config = ARCHITECTURES[name], settings.default()
    config.data.name, config.data.size, config.data.folder.channels = "folder", known.size, 3
    config.augment.name = "none"
    config.encoder.update(name=name, embedding=known.features)
    config.head.name, config.head.distance.distance = "distance", "cosine"

    def restore(model, shape):
        published = pretrained.load(name, pretrained.DEFAULT if weights is None else weights)
        nothing = jnp.zeros((1, known.features))
        head = jax.device_get(model.head.init(jax.random.key(0), nothing, nothing)["params"])
        params = {"encoder": {"backbone": published["params"]}, "head": head}
        stats = {"backbone": published["batch_stats"]} if published["batch_stats"] else {}
        return State(step=0, params=params, batch_stats=stats, opt_state=())

    return Stored(config, lambda _: {}, restore, name if weights is None else "")
