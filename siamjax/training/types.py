"""The contracts of the training functions; see `siamjax.training.step` for how they fit together."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex

from siamjax import sampling

Metrics = dict[str, chex.Array]
Augment = Callable[[chex.PRNGKey, chex.Array], chex.Array]  # keys [m], images float [m, h, w, c] -> images
Sample = Callable[[chex.PRNGKey, sampling.Index], sampling.Drawn]
Fetch = Callable[[chex.PRNGKey, Any, chex.Array], chex.Array]  # key, source, item int32 [m] -> uint8 [m, h, w, c]


@chex.dataclass(frozen=True)
class Batch:
    """One batch inside the step: images of this device, identities of the whole batch.

    Attributes:
      images: float [m, h, w, c] in 0..1, augmented; this device's share.
      noise: PRNG keys [m], one per image, for layers that draw at random.
      label: int32 [n], identities of the whole batch.
      group: int32 [n], their groups.
    """

    images: chex.Array
    noise: chex.PRNGKey
    label: chex.Array
    group: chex.Array


class Objective(NamedTuple):
    """The loss of a whole batch, and what to report with it.

    Attributes:
      init: (key, length of an embedding) -> the loss's own parameters, such as proxies; {} for none.
      value: (params, embeddings [n, d], batch) -> (loss, metrics), float scalars; `params` has the parts "encoder",
        "head" and, where the loss has parameters, "loss".
    """

    init: Callable[[chex.PRNGKey, int], Any]
    value: Callable[[Any, chex.Array, Batch], tuple[chex.Array, Metrics]]


class Batches(NamedTuple):
    """A way to make batches, in two halves.

    Attributes:
      inputs: (replicated state, number of the step) -> what `make_batch` needs for that step, replicated.
      make_batch: (inputs, key, number) -> `Batch`, a pure function inside the step; `key` is the run's.
      images: how many images a step embeds, over all devices.
      constant: whether `inputs` are the same for every step, so that several steps can be one program.
    """

    inputs: Callable[[Any, int], Any]
    make_batch: Callable[[Any, chex.PRNGKey, chex.Array], Batch]
    images: int
    constant: bool
