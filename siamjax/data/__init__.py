"""Where images come from: every source hands over `Dataset`s of the same shape."""

import pathlib

import jax

from siamjax.choices import choose
from siamjax.data import glyphs, mnist
from siamjax.data.dataset import Dataset, Images, checked, joined

__all__ = ["Dataset", "Images", "load"]

# Alphabet numbers of the fixed glyph sets; training draws its alphabets from other keys.
_FIRST_ALPHABET = {"validation": 0, "test": 1_000_000, "train": 2_000_000}


def load(config, train: bool = True) -> dict[str, Dataset]:
    """The data sets that `config` (the `data` part of a configuration) names.

    Args:
      config: see configs/default.py.
      train: whether to load the training data too.

    Returns:
      "train" (not for glyphs: training draws its own in the step), "validation", "test"; "few_shot" where the
      trials between alphabets have more drawings to take from than "test" holds; "gallery" where it is to be searched.
    """
    return choose(
        "data.name",
        config.name,
        {"omniglot": _omniglot, "glyphs": _glyphs, "mnist": _mnist, "folder": _folder, "tfds": _folder},
    )(config, train)


def _omniglot(config, train):
    if config.stream and config.glyphs.joined:
        raise ValueError("data.glyphs.joined draws images into memory; set it to 0, or data.stream to False")
    from siamjax.data import omniglot  # TFDS takes a second to import; glyphs do without it.

    datasets = omniglot.load(config.data_dir, config.manual_dir, config.splits, config.size, train, config.stream)
    if train and config.glyphs.joined:
        drawn = _draw(config, "train", config.glyphs.joined)
        datasets["train"] = checked(joined(datasets["train"], drawn), "omniglot and glyphs")
    return datasets


def _mnist(config, train):
    if train:
        raise ValueError("data.name='mnist' is there to evaluate on: use it with --mode evaluate")
    return mnist.load(config.data_dir, config.manual_dir, config.size)


def _folder(config, train):
    from siamjax.data import folder  # array_record takes its time to import.

    own = config.folder
    settings = dict(
        cache=pathlib.Path(config.data_dir or "~/tensorflow_datasets") / "siamjax",
        size=config.size,
        channels=own.channels,
        invert=own.invert,
        skip_unreadable=own.skip_unreadable,
    )
    if config.name == "tfds":
        from siamjax.data import named

        name = config.tfds.name
        prepared = named.prepare(config.tfds, data_dir=config.data_dir or None, tell=print, **settings)
    elif own.path:
        name = own.path
        prepared = folder.prepare(own.path, **settings)
    else:
        raise ValueError("data.folder.path is empty: name a folder of images, or a CSV file that lists them")
    parts = folder.split(prepared, folds=own.folds, fold=own.fold, by=own.by, seed=own.seed)
    return {
        part: folder.dataset(prepared, numbers, f"{name} {part}", config.stream and part == "train")
        for part, numbers in parts.items()
        if train or part != "train"
    }


def _glyphs(config, train):
    del train  # Images to train on are drawn in the training step.
    return {part: _draw(config, part, config.glyphs.test_alphabets) for part in ("validation", "test")}


def _draw(config, part, alphabets):
    world = config.glyphs
    return glyphs.dataset(
        jax.random.key(world.seed),
        alphabets=alphabets,
        characters=world.characters,
        drawers=world.drawers,
        size=config.size,
        first_alphabet=_FIRST_ALPHABET[part],
    )
