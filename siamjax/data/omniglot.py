"""Omniglot under the splits of the literature, prepared once by TFDS and read without TensorFlow."""

import numpy as np
from ml_collections import ConfigDict

from siamjax import extras
from siamjax.choices import choose
from siamjax.data import _longtail, glyphs
from siamjax.data.dataset import Dataset, Images, checked, joined
from siamjax.data.omniglot_archives import BACKGROUND, DRAWERS, EVALUATION, FIRST_LABEL, SIDE, SMALL1, SMALL2
from siamjax.data.types import Datasets, Source

# The evaluation alphabets of Lake's 20 official one-shot runs.
RUN_ALPHABETS = (
    "Atlantean",
    "Ge_ez",
    "Glagolitic",
    "Gurmukhi",
    "Kannada",
    "Malayalam",
    "Manipuri",
    "Old_Church_Slavonic_(Cyrillic)",
    "Tengwar",
    "Tibetan",
)

# Background alphabets held out for model selection: of several families, none in small1 or small2.
HELD_OUT = ("Armenian", "Bengali", "Futurama", "Hebrew", "Japanese_(hiragana)")

_ALL = range(1, DRAWERS + 1)
_TRAIN = ("background", tuple(a for a in BACKGROUND if a not in HELD_OUT), _ALL)
_CHOOSE = ("background", HELD_OUT, _ALL)
_TEST = ("evaluation", tuple(EVALUATION), _ALL)

# Named split -> part -> (TFDS split, alphabets, drawers).
SPLITS = {
    "koch": {
        "train": ("background", tuple(BACKGROUND), range(1, 13)),
        "validation": ("evaluation", tuple(a for a in EVALUATION if a not in RUN_ALPHABETS), range(13, 17)),
        "test": ("evaluation", RUN_ALPHABETS, range(17, 21)),
        # Five shots and a query need more than four drawings of a character.
        "few_shot": ("evaluation", RUN_ALPHABETS, _ALL),
    },
    "lake": {"train": _TRAIN, "validation": _CHOOSE, "test": _TEST},
    # For choosing a recipe without the evaluation alphabets.
    "choose": {"train": _TRAIN, "validation": _CHOOSE, "test": _CHOOSE},
    # For training a chosen recipe: it trains on its validation alphabets.
    "background": {"train": ("background", tuple(BACKGROUND), _ALL), "validation": _CHOOSE, "test": _TEST},
    "small1": {"train": ("small1", tuple(SMALL1), _ALL), "validation": _CHOOSE, "test": _TEST},
    "small2": {"train": ("small2", tuple(SMALL2), _ALL), "validation": _CHOOSE, "test": _TEST},
}


def _dataset(drawings: np.ndarray, alphabets: tuple[str, ...], drawers: range, size: int, stream: bool) -> Dataset:
    """The drawings by these drawers in these alphabets."""
    group_of = {list(FIRST_LABEL).index(name): g for g, name in enumerate(alphabets)}
    chosen = np.flatnonzero(np.isin(drawings["alphabet"], list(group_of)) & np.isin(drawings["drawer"], drawers))

    def read(numbers):
        return drawings["image"][chosen[numbers]]

    _, label = np.unique(drawings["label"][chosen], return_inverse=True)
    return Dataset(
        images=Images(read, (len(chosen), size, size, 1)) if stream else read(np.arange(len(chosen))),
        label=label.astype(np.int32),
        group=np.array([group_of[alphabet] for alphabet in drawings["alphabet"][chosen]], np.int32),
        source=drawings["drawer"][chosen] - 1,
        group_names=alphabets,
    )


def load(
    data_dir: str | None, manual_dir: str | None, splits: str, size: int, train: bool = True, stream: bool = False
) -> Datasets:
    """Loads the training, validation and test images of a named split; prepares Omniglot first where needed.

    - `koch` trains on the 30 background alphabets by drawers 1-12, validates on the 10 evaluation alphabets outside
      Lake's runs by drawers 13-16, and tests on the 10 alphabets of the runs by drawers 17-20. Koch et al. (2015),
      https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf
    - `lake` trains on 25 background alphabets, validates on the other 5 (`HELD_OUT`), and tests on the 20 evaluation
      alphabets, all drawers. Lake et al. (2019), https://arxiv.org/abs/1902.03477
    - `choose` is `lake` tested on its validation alphabets, for choosing a recipe without the evaluation alphabets.
    - `background` trains on all 30 background alphabets, including `lake`'s validation alphabets: for a chosen recipe
      that trains for a fixed number of steps.
    - `longtail` trains on a few drawings each of most of the 964 background characters; queries are other drawings of
      them, and unseen characters, see `_longtail.cut`.
    - `small1` and `small2`, the minimal settings, train on 5 background alphabets; the rest is as in `lake`.

    Args:
      data_dir: where TFDS stores its data sets; None for TFDS's default, `~/tensorflow_datasets`.
      manual_dir: folder with the four archives, zipped or unpacked; None downloads them from the official address.
      splits: a key of `SPLITS`, or "longtail".
      size: side of the images in pixels, 1 to 105; below 105 each new pixel is the mean over its area.
      train: whether to load the training images too.
      stream: whether training images are read from disk on access.

    Returns:
      "train" (if wanted), "validation" and "test"; for koch "few_shot", the test characters by all drawers; for
      longtail "gallery". Ink is 255 on paper 0; `source` is the drawer's number minus one.

    Raises:
      FileNotFoundError: an archive is not in `manual_dir`, or the download failed.
      ValueError: `splits` or `size` is unknown, an archive is damaged, or the prepared data is.
    """
    parts = choose("data.splits", splits, SPLITS | {"longtail": {}})
    parts = {part: images for part, images in parts.items() if train or part != "train"}
    if not 1 <= size <= SIDE:
        raise ValueError(f"data.size={size}: Omniglot's images are {SIDE} pixels wide; expected 1 to {SIDE}")
    with extras.needed_for("Omniglot"):
        from siamjax.data import _omniglot_builder as builder  # TFDS takes a second to import.

    names = {"background"} if splits == "longtail" else {split for split, *_ in parts.values()}
    drawings = builder.drawings(data_dir, manual_dir, sorted(names), size)
    if splits == "longtail":
        everything = _dataset(drawings["background"], tuple(BACKGROUND), _ALL, size, stream)
        return {
            part: checked(dataset, f"omniglot {splits} {part}")
            for part, dataset in _longtail.cut(everything).items()
            if train or part != "train"
        }
    return {
        part: checked(
            _dataset(drawings[split], alphabets, drawers, size, stream and part == "train"), f"omniglot {splits} {part}"
        )
        for part, (split, alphabets, drawers) in parts.items()
    }


def _load(config: ConfigDict, train: bool) -> Datasets:
    if config.stream and config.glyphs.joined:
        raise ValueError("data.glyphs.joined draws images into memory; set it to 0, or data.stream to False")
    datasets = load(config.data_dir, config.manual_dir, config.splits, config.size, train, config.stream)
    if train and config.glyphs.joined:
        drawn = glyphs.fixed(config, "train", config.glyphs.joined)
        datasets["train"] = checked(joined(datasets["train"], drawn), "omniglot and glyphs")
    return datasets


def _evaluators(config: ConfigDict) -> tuple[str, ...]:
    if config.splits == "longtail":
        return ("verification", "reidentification")
    first, last = glyphs.EVALUATORS[:-1], glyphs.EVALUATORS[-1:]
    # These are protocols of the evaluation alphabets, which `choose` leaves alone.
    return first + (() if config.splits == "choose" else ("run_alphabets", "official_runs", "tutorial_20_pairs")) + last


def _skipped(config: ConfigDict) -> dict[str, str]:
    reasons = {
        "background": ("validation_within_group", "trains on its validation alphabets, too"),
        "choose": ("validation_within_group", "tests on its validation alphabets"),
        "koch": ("tutorial_20_pairs", "tests on 10 of the 20 evaluation alphabets"),
    }
    if config.splits not in reasons:
        return {}
    evaluator, reason = reasons[config.splits]
    return {evaluator: f"the split {config.splits!r} {reason}"}


def _overlap(trained: ConfigDict, evaluated: ConfigDict) -> str:
    if trained.splits == evaluated.splits:
        return ""
    return (
        f"trained on the split {trained.splits!r}, evaluated on {evaluated.splits!r}: alphabets of its validation or "
        "test data may have been used in training, or to choose the checkpoint"
    )


SOURCE = Source(
    _load,
    title=lambda config: f"omniglot ({config.splits})",
    evaluators=_evaluators,
    skipped=_skipped,
    overlap=_overlap,
    square=True,
)
