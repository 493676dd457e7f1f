"""Siamese networks in JAX."""

import importlib

# What brings JAX is imported when it is asked for: `siamjax.host` must be able to come before.
_PLACES = {"Gallery": "siamjax.gallery", "Verifier": "siamjax.verifier"}

__all__ = ["Gallery", "Verifier", "load_pretrained"]


def __getattr__(name):
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'siamjax' has no attribute {name!r}")


def load_pretrained(name: str, copies: int = 0):
    """The trained network called `name`; see `siamjax.pretrained.load`."""
    from siamjax import pretrained

    return pretrained.load(name, copies)
