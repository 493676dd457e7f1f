"""All sources of data, by name. Adding one takes a file with its `Source`, and a line here."""

from ml_collections import ConfigDict

from siamjax.choices import choose
from siamjax.data import arrays, cedar, cfp, folder, glyphs, lfw, mnist, omniglot, pairs, tfds
from siamjax.data.types import Datasets, Source

SOURCES: dict[str, Source] = {
    "arrays": arrays.SOURCE,
    "cedar": cedar.SOURCE,
    "cfp": cfp.SOURCE,
    "folder": folder.SOURCE,
    "glyphs": glyphs.SOURCE,
    "lfw": lfw.SOURCE,
    "mnist": mnist.SOURCE,
    "omniglot": omniglot.SOURCE,
    "pairs": pairs.SOURCE,
    "tfds": tfds.SOURCE,
}


def load(config: ConfigDict, train: bool = True) -> Datasets:
    """The data sets named by `config`, the `data` part of a configuration.

    Args:
      config: see `siamjax.run.settings`.
      train: whether to load the training data too.

    Returns:
      The data sets by part, see `Source.load`.

    Raises:
      ValueError: the source is unknown, or cannot be trained on, or its images are square; see also its own function.
    """
    source = choose("data.name", config.name, SOURCES)
    if train and not source.trains:
        raise ValueError(f"data.name={config.name!r} is evaluation-only: use it with siamjax evaluate")
    if config.width and (source.square or config.turns > 1):
        raise ValueError(
            f"data.width={config.width}: data.name={config.name!r} with data.turns={config.turns} needs square images: "
            "set data.width=0"
        )
    return source.load(config, train)
