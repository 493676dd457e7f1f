"""Siamese networks in JAX."""

__all__ = ["load_pretrained"]


def load_pretrained(name: str, copies: int = 0):
    """The trained network called `name`; see `siamjax.pretrained.load`."""
    from siamjax import pretrained  # It brings JAX, which `siamjax.host` must be able to come before.

    return pretrained.load(name, copies)
