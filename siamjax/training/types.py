"""The contracts of the training functions; see `siamjax.training.step` for how they fit together."""

import pathlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
from flax import struct

from siamjax import sampling
from siamjax.types import Array

Mode = Literal["identities", "pairs", "assigned"]  # how batches are made
Metrics = dict[str, jax.Array]
Params = dict[str, Any]  # "encoder", "head" and, where the loss has parameters, "loss"
Augment = Callable[[jax.Array, jax.Array], jax.Array]  # keys [m], images float [m, h, w, c] -> images
Sample = Callable[[jax.Array, Any], sampling.Drawn]  # key, index
Fetch = Callable[[jax.Array, Any, jax.Array], jax.Array]  # key, source, item int32 [m] -> inputs [m, ...]


@struct.dataclass
class Batch:
    """One batch inside the step: images of this device, identities of the whole batch.

    Attributes:
      images: float [m, h, w, c] in 0..1, augmented; this device's share.
      noise: PRNG keys [m], one per image, for layers that draw at random.
      label: int32 [n], identities of the whole batch.
      group: int32 [n], their groups.
    """

    images: jax.Array
    noise: jax.Array
    label: Array
    group: Array


class Objective(NamedTuple):
    """The loss of a whole batch, and what to report with it.

    Attributes:
      init: (key, length of an embedding) -> the loss's own parameters, such as proxies; {} for none.
      value: (params, embeddings [n, d], batch) -> (loss, metrics), float scalars.
    """

    init: Callable[[jax.Array, int], dict[str, jax.Array]]
    value: Callable[[Params, jax.Array, Batch], tuple[jax.Array, Metrics]]


class Batches(NamedTuple):
    """A way to make batches, in two halves.

    Attributes:
      inputs: (replicated state, number of the step) -> what `make_batch` needs for that step, replicated.
      make_batch: (inputs, key, number) -> `Batch`, a pure function inside the step; `key` is the run's.
      images: images embedded per step, over all devices.
      constant: whether `inputs` are the same for every step, so that several steps can be one program.
    """

    inputs: Callable[[Any, int], Any]
    make_batch: Callable[[Any, jax.Array, jax.Array], Batch]
    images: int
    constant: bool


class Keeps(Protocol):
    """Where the loop keeps states, such as `siamjax.training.checkpoint.Checkpoints`."""

    def save(self, which: str, state: Any, progress: dict) -> None:
        """Keeps the replicated `state` as "latest" or "best", with the progress of the loop."""


Log = Callable[[int, dict[str, float], Any], None]  # step, its metrics, replicated state


class Paths(NamedTuple):
    """Where a training keeps its checkpoints (a folder), metrics (a file) and TensorBoard logs (a folder)."""

    checkpoints: pathlib.Path
    metrics: pathlib.Path
    tensorboard: pathlib.Path
