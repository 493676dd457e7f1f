"""The network and the distortions that a configuration names: what a trained run needs to be used, too."""

import functools

import jax

from siamjax import augment, encoders, heads, parallel
from siamjax.choices import choose
from siamjax.training.state import Model


def make_model(config) -> Model:
    """The network that `config` names."""
    head = config.head
    return Model(
        encoders.make(**config.encoder, axis_name=parallel.AXIS), heads.make(head.name, **head.get(head.name, {}))
    )


def make_augment(config, hide: bool = True):
    """The distortion that `config` names: (keys [n], images float [n, h, w, c]) -> images.

    Unless they are to `hide` parts of the image, as in training, they only show it otherwise, as copies to average do.
    """
    table = {"affine": _affine, "photo": functools.partial(_photo, hide=hide), "none": _unchanged}
    return choose("augment.name", config.augment.name, table)(config.augment)


def _affine(config):
    return functools.partial(augment.affine, **config.affine)


def _photo(config, hide):
    """Other views, then other light: what lies beyond the image stays dark."""
    move, options = _affine(config), dict(config.photo)
    options["erase"] *= hide

    def distort(keys, images):
        return augment.photo(jax.vmap(jax.random.fold_in, (0, None))(keys, 102), move(keys, images), **options)

    return distort


def _unchanged(config):
    return lambda keys, images: images
