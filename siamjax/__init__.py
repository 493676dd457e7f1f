"""Siamese networks in JAX: one encoder, trained so that distance in its output means identity.

    import siamjax

    verifier = siamjax.Verifier("runs/faces")                       # the run folder of a training
    verifier.verify("a.jpg", "b.jpg").probability                   # are these two of the same identity?

    gallery = siamjax.Gallery("people", "runs/faces")               # a new gallery, or one that exists
    gallery.enroll(["ann.jpg", "bob.jpg"], ["Ann", "Bob"])
    (found,) = gallery.identify(verifier.read(["who.jpg"]))         # who is this?
    found.identity, found.ranked[0].probability

    network = siamjax.load_pretrained("omniglot-fast")              # comes with the package
    loss = siamjax.losses.batch_all_triplet(embeddings, labels)     # for training code of your own

Training is `launch.py`, and the command `siamjax` does all of this on files; both have `--help`.
"""

import importlib

__version__ = "0.1.0"

# Imported when first asked for: `siamjax.host` must be able to come before JAX, and the command to start without it.
_PLACES = {"Gallery": "siamjax.gallery", "Verifier": "siamjax.verifier"}
_MODULES = ("augment", "data", "distances", "encoders", "heads", "host", "losses", "mining", "optimizer", "sampling")

__all__ = ["Gallery", "Verifier", "load_pretrained", *_MODULES]


def __getattr__(name):
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"siamjax.{name}")
    raise AttributeError(f"module 'siamjax' has no attribute {name!r}")


def __dir__():
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


def load_pretrained(name: str, copies: int = 0):
    """The trained network called `name`; see `siamjax.pretrained.load`."""
    from siamjax import pretrained

    return pretrained.load(name, copies)
