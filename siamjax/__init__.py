"""Siamese networks in JAX: one encoder, trained so that distance in its output means identity.

    import siamjax

    network = siamjax.Network.load("runs/faces")                # the run folder of a training, or "omniglot-fast"
    network = siamjax.Network.load("mobilenet_v2")              # or an architecture, for photographs, without training
    network.verify("a.jpg", "b.jpg").probability                # do these two show the same identity?

    gallery = siamjax.Gallery("people", "runs/faces")           # a new gallery, or an existing one
    gallery.enroll(["ann.jpg", "bob.jpg"], ["Ann", "Bob"])
    (found,) = gallery.identify(network.read(["who.jpg"]))      # who is this?
    found.identity, found.ranked[0].probability

    loss = siamjax.losses.batch_all_triplet(embeddings, labels) # for training code of your own

The command `siamjax` trains, and does all of this on files: `siamjax --help`.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siamjax import augment, data, distances, encoders, heads, host, losses, mining, optimizer, pretrained, sampling
    from siamjax.data.arrays import Pairs
    from siamjax.fitting import fit
    from siamjax.folds import cross_validate
    from siamjax.gallery import Gallery
    from siamjax.network import Network

__version__ = "0.1.0"

# Imported when first used: `siamjax.host` must be able to come before JAX, and the command to start without it.
_PLACES = {
    "Gallery": "siamjax.gallery",
    "Network": "siamjax.network",
    "Pairs": "siamjax.data.arrays",
    "cross_validate": "siamjax.folds",
    "fit": "siamjax.fitting",
}
_MODULES = (
    "augment",
    "data",
    "distances",
    "encoders",
    "heads",
    "host",
    "losses",
    "mining",
    "optimizer",
    "pretrained",
    "sampling",
)

__all__ = [
    "Gallery",
    "Network",
    "Pairs",
    "Verifier",
    "augment",
    "cross_validate",
    "data",
    "distances",
    "encoders",
    "fit",
    "heads",
    "host",
    "load_pretrained",
    "losses",
    "mining",
    "optimizer",
    "pretrained",
    "sampling",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"siamjax.{name}")
    raise AttributeError(f"module 'siamjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


def Verifier(
    run: str | os.PathLike[str],
    copies: int | None = None,
    convolution: str | None = None,
    *,
    threshold: float | None = None,
    far: float | None = None,
) -> "Network":
    """The former name of `Network.load`, whose arguments it takes."""
    from siamjax.network import Network

    return Network.load(run, copies=copies, convolution=convolution, threshold=threshold, far=far)


def load_pretrained(name: str, copies: int = 0) -> "Network":
    """The network that comes with siamjax under this `name`: `Network.load`, by default without distorted copies."""
    from siamjax.network import Network

    return Network.load(name, copies=copies)
