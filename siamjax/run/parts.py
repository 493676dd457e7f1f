"""Makes the network and the augmentation of a configuration; `siamjax.run.recipe` makes what trains it."""

import functools
from typing import Any

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from siamjax import augment, encoders, heads, parallel, pretrained, streams
from siamjax.choices import choose
from siamjax.run import settings
from siamjax.training.state import Model
from siamjax.training.types import Augment


def make_model(config: ConfigDict, encoder: Any = None, head: nn.Module | None = None) -> Model:
    """Makes the encoder and head that `config` names.

    Args:
      config: the whole configuration.
      encoder: one's own, where `config.encoder.name` is "own"; see `siamjax.encoders.own`.
      head: one's own, where `config.head.name` is "own".

    Raises:
      ValueError: one's own is missing, or given where the configuration names another.
    """
    for part, given in (("encoder", encoder), ("head", head)):
        if (config[part].name == "own") != (given is not None):
            has = f"has the {part} {config[part].name!r}: pass no other"
            raise ValueError(f"{part}: the network {f'has your own {part}: pass it' if given is None else has}")
    own = config.encoder
    names = ("name", "width", "embedding", "dtype", "unit_length", "convolution", "frozen")
    if encoder is None:
        with settings.keyed("encoder"):
            given = {name: own[name] for name in names}
            options = dict(own.get(own.name, {}))
            made = encoders.make(
                **given,
                keep_statistics=bool(own.weights or config.train.start),
                axis_name=parallel.AXIS,
                options=options,
            )
    else:
        made = encoders.own(encoder)
    if own.towers == 2:
        made = encoders.Towers(made)
    if head is None:
        with settings.keyed("head"):
            head = heads.make(config.head.name, **config.head.get(config.head.name, {}))
    return Model(made, head)


def published_weights(config: ConfigDict) -> dict[str, Any] | None:
    """The weights that `config.encoder.weights` names, as `siamjax.training.state.create` takes them; None without one.

    Raises:
      FileNotFoundError, OSError, ValueError: see `siamjax.pretrained.load`; or nothing trained would be frozen.
    """
    own = config.encoder
    if own.weights:
        with settings.keyed("encoder"):
            return pretrained.load(own.name, own.weights)
    if own.frozen and not config.train.start:
        raise ValueError(
            "encoder.frozen=True keeps the weights that encoder.weights names, and there are none: set "
            f"encoder.weights to a file, hf://ORG/NAME or {pretrained.DEFAULT!r}, or encoder.frozen=False"
        )
    return None


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
