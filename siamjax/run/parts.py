"""Makes the network and the augmentation of a configuration; `siamjax.run.recipe` makes what trains it."""

import functools

import jax
from ml_collections import ConfigDict

from siamjax import augment, encoders, heads, parallel, streams
from siamjax.choices import choose
from siamjax.run import settings
from siamjax.training.state import Model
from siamjax.training.types import Augment


def make_model(config: ConfigDict) -> Model:
    """Makes the encoder and head that `config` names."""
    own, head = config.encoder, config.head
    names = ("name", "width", "embedding", "dtype", "unit_length", "convolution")
    with settings.keyed("encoder"):
        given = {name: own[name] for name in names}
        encoder = encoders.make(**given, axis_name=parallel.AXIS, options=dict(own.get(own.name, {})))
    with settings.keyed("head"):
        return Model(encoder, heads.make(head.name, **head.get(head.name, {})))


def make_augment(config: ConfigDict, hide: bool = True) -> Augment:
    """Makes the augmentation that `config` names.

    Args:
      config: the whole configuration.
      hide: also erase random parts (training). Off for the copies averaged at evaluation.
    """
    table = {"affine": _affine, "photo": functools.partial(_photo, hide=hide), "none": _unchanged}
    return choose("augment.name", config.augment.name, table)(config.augment)


def _affine(config):
    return functools.partial(augment.affine, **config.affine)


def _photo(config, hide):
    """Geometry first, then light, so that areas outside the image stay dark."""
    move, options = _affine(config), dict(config.photo)
    options["erase"] *= hide

    def distort(keys, images):
        return augment.photo(
            jax.vmap(jax.random.fold_in, (0, None))(keys, streams.OfImage.PHOTO), move(keys, images), **options
        )

    return distort


def _unchanged(config):
    return lambda keys, images: images
