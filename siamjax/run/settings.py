"""All settings of a run with their meaning, default and range; each file in configs/ changes a few of them.

The options of losses, heads, encoders, augmentations and optimizers are those of the functions and modules with these
names, with the same defaults; see their docstrings.
"""

import contextlib
import dataclasses
import fnmatch
import json
import math
import re
from collections.abc import Collection, Iterator
from typing import Any

from ml_collections import ConfigDict, config_dict

from siamjax import augment, encoders, heads, optimizer, parallel
from siamjax.choices import choose
from siamjax.data import SOURCES, images
from siamjax.options import options
from siamjax.training import objectives

_COMMON = ("width", "embedding", "unit_length", "convolution")  # options common to all encoders


def default() -> ConfigDict:
    """All settings with their default values."""
    config = ConfigDict()
    config.seed = 0  # seed of initialisation, batch sampling and augmentation
    config.data = _data()
    config.batch = _batch()

    config.augment = ConfigDict()
    config.augment.name = "affine"  # "photo": affine plus the settings in `photo`; or "none"
    config.augment.affine = options(augment.affine)
    config.augment.photo = options(augment.photo)

    config.encoder = ConfigDict()
    config.encoder.name = "conv5"  # one of `siamjax.encoders.ENCODERS`; or "own", passed to `siamjax.fit`
    config.encoder.width = 32  # channels of the first layer
    config.encoder.embedding = 256  # dimension of the embedding
    config.encoder.unit_length = False  # whether embeddings are normalised to length 1
    config.encoder.dtype = "float32"  # of the computation; or "bfloat16", for GPU and TPU
    config.encoder.convolution = "auto"  # or "direct" or "frequency", see siamjax.encoders.convolve
    # Of encoders with published weights, see siamjax.pretrained: a file, "hf://ORG/NAME", or "default"; "" is random.
    config.encoder.weights = ""
    config.encoder.frozen = False  # whether their layers, and batch statistics, stay as they are
    config.encoder.towers = 1  # 2: one encoder for each side of given pairs, with weights of its own
    for name, encoder in encoders.ENCODERS.items():
        if isinstance(encoder, type):
            own = {key: value for key, value in options(encoder).items() if key not in _COMMON}
            if own:
                config.encoder[name] = own

    config.head = ConfigDict()
    config.head.name = "weighted_l1"  # one of `siamjax.heads.HEADS`
    for name, head in heads.HEADS.items():
        config.head[name] = options(head)

    config.loss = ConfigDict()
    # "cross_entropy" of the head's logits, or "ranking" of same above different pairs, trains encoder and head; any
    # other loss, a function of siamjax.losses, trains the encoder alone, and the head is fitted to its embeddings.
    config.loss.name = "cross_entropy"
    for name, own in objectives.loss_options().items():
        free = config_dict.placeholder(float)  # None, or a number
        config.loss[name] = {key: free if value is None else value for key, value in own.items()}

    config.optimizer = _optimizer()
    config.train = _train()
    config.evaluation = _evaluation()
    return config


def _data():
    data = ConfigDict()
    data.name = "glyphs"  # synthetic, needs no files; or another of `siamjax.data.SOURCES`
    data.size = 28  # height of the images in pixels, and their width; the originals of Omniglot have 105
    data.width = 0  # their width, if another, of files: 160 for signatures; 0: as the height
    data.splits = "lake"  # of omniglot: "lake", "choose", "background", "koch", "small1", "small2", "longtail"
    data.data_dir = ""  # where prepared data is stored; "" is ~/tensorflow_datasets
    data.manual_dir = ""  # folder with the zip files of Omniglot, CFP, LFW or CEDAR, or their content; "" downloads
    data.faces = False  # for photographs of people: find the face, turn it upright and crop it; needs the extra faces
    data.ink = False  # for scans: keep the ink, without paper, margins and how dark it is
    data.protocol = "fold"  # of data with folds of pairs; or "all", or "view1" of lfw: see siamjax.data.protocols
    data.stream = False  # whether training images (not glyphs) are read from disk at each step
    data.turns = 1  # 4: rotate each alphabet by a random multiple of 90° and treat it as a new one; 8: also mirror
    data.variants = 1  # 2: add one synthetic identity per real one, with the same stretch and bend for all its images
    data.glyphs = ConfigDict()
    data.glyphs.seed = 0  # seed of the alphabets for validation and test, and of joined ones
    data.glyphs.alphabets = 4  # per training step, new ones each time
    data.glyphs.joined = 0  # drawn alphabets added to Omniglot's for training
    data.glyphs.share = 0.5  # mode identities: probability that the first alphabet of a batch is a drawn one
    data.glyphs.characters = 26  # per alphabet
    data.glyphs.drawers = 20  # per character
    data.glyphs.test_alphabets = 10  # for test, and as many for validation

    _your_own(data)
    return data


def _your_own(data):
    data.folder = ConfigDict()
    data.folder.path = ""  # folder with one folder per identity, or CSV file path,identity[,group][,source]
    data.folder.channels = 1  # 1 for grey, 3 for colour
    data.folder.invert = False  # for dark ink on white paper: makes paper 0
    data.folder.skip_unreadable = False  # whether to skip files that are damaged or not images
    data.folder.pixels = images.PIXELS  # the most pixels that are decoded of an image; larger ones are unreadable
    data.folder.folds = 5  # equal parts that the identities are split into
    data.folder.fold = 0  # the part for test; the next one is for validation, the others for training
    data.folder.pairs = ""  # pairs to be judged on, by their folds: CSV path_a,path_b,same,fold; or LFW's pairs.txt
    data.folder.by = "identity"  # or "group": the unit that is never split between parts
    data.folder.seed = 0  # seed of the split

    data.arrays = ConfigDict()  # arrays of one's own, split as in `folder`
    data.arrays.path = ""  # file .npz with x [n, ...] and y [n], and perhaps group [n] and source [n]
    data.arrays.shape = ()  # of an input; () is that of the file, and a run stores it
    data.arrays.dtype = ""  # "uint8" or "float32"; "" likewise
    data.arrays.digest = ""  # of the inputs and labels that `siamjax.fit` was given

    data.pairs = ConfigDict()  # a list of pairs, of which some are the same; images and parts as in `folder`
    data.pairs.path = ""  # CSV file path_a,path_b,same; or LFW's pairs.txt
    data.pairs.images = ""  # folder that paths are relative to; "" is that of the list

    data.tfds = ConfigDict()  # a data set of TFDS, split as in `folder`
    data.tfds.name = ""
    data.tfds.splits = ""  # such as "train+test"; "" is all
    data.tfds.image = "image"  # names of its features
    data.tfds.label = "label"
    data.tfds.group = ""
    data.tfds.source = ""


def _batch():
    batch = ConfigDict()
    batch.mode = "identities"  # P identities with K images each; or "pairs"; or "assigned", the hardest pairs
    batch.pairs = 128  # modes pairs and assigned: pairs per step, half of them same pairs
    batch.assigned = ConfigDict()  # the hardest different pairs, for many identities with few images
    batch.assigned.epochs = 5  # epochs, with one assignment each, between scorings of all images
    batch.assigned.noise = 10.0  # maximum noise added to the scores; large, so that the first pairs are random
    batch.assigned.decay = 0.5  # factor of the noise at each scoring
    batch.assigned.block = 1024  # images per assignment problem
    batch.identities = 40  # mode identities: identities per step, or all if there are fewer
    batch.per_identity = 4  # mode identities: images per identity
    batch.per_group = 20  # mode identities: identities per group, at most
    batch.across_sources = False  # mode identities: an identity's images are of as many sources as possible
    batch.chunk = 0  # images that each device embeds at a time, to save memory; 0 for all
    batch.across_groups = False  # whether different pairs for the head may be of two groups
    return batch


def _optimizer():
    config = ConfigDict()
    config.name = "adamw"  # or "koch"
    config.average = 0.0  # EMA decay of the weights (evaluation uses the EMA); 0 disables
    config.adamw = options(optimizer.adamw)
    layers = ("conv1", "conv2", "conv3", "conv4", "dense", "head", "default")
    of_layers = {layer: {"learning_rate": 0.01, "momentum": 0.9, "l2": 1e-5} for layer in layers}
    config.koch = options(optimizer.koch) | {"layers": of_layers}
    return config


def _train():
    train = ConfigDict()
    train.start = ""  # run folder or shipped network to take initial weights from; "" is random weights
    train.teacher = ""  # run folder or shipped network whose similarities are learned, too, by batches of identities
    train.teacher_share = 0.5  # of the loss that is the teacher's
    train.steps = 1000  # at most
    train.epoch_steps = 100  # steps per epoch, the unit of Koch's schedules
    train.validate_every = 100  # steps between validations, which also save the latest checkpoint
    train.log_every = 10  # steps between rows of metrics.csv
    train.patience = 20  # validations without improvement before training stops
    train.keep = "best"  # checkpoint to evaluate: best on validation; or "last", which also disables patience
    return train


def _evaluation():
    evaluation = ConfigDict()
    evaluation.seed = 0  # seed of trials and pairs
    evaluation.ways = 20  # identities per trial within a group
    evaluation.trials = 10_000  # per protocol, a multiple of ways
    evaluation.validation_trials = 800  # per validation while training, a multiple of ways
    evaluation.pairs = 10_000  # pairs to verify
    evaluation.copies = 0  # distorted copies of each image to average its embedding over
    evaluation.across_groups = False  # whether different pairs to verify may be of two groups
    return evaluation


# Range of every numeric setting: an interval, with "(" or ")" at an excluded end. The first matching pattern applies.
RANGES = {
    "seed": "[0, 9223372036854775808)",  # JAX takes 63 bits
    "*.seed": "[0, 9223372036854775808)",
    "data.size": "[1, inf)",
    "data.width": "[0, inf)",
    "data.glyphs.joined": "[0, inf)",
    "data.glyphs.share": "[0, 1)",
    "data.folder.pixels": "[1, inf)",
    "data.folder.folds": "[3, inf)",
    "data.folder.fold": "[0, inf)",
    "batch.chunk": "[0, inf)",
    **dict.fromkeys(("batch.identities", "batch.per_identity", "batch.pairs"), "[2, inf)"),  # for both kinds of pairs
    "batch.assigned.block": "[2, inf)",
    "batch.assigned.noise": "[0, inf)",
    "batch.assigned.decay": "[0, 1]",
    "augment.affine.probability": "[0, 1]",
    "augment.affine.rotation": "[0, 180]",
    "augment.affine.scale": "[0, 1)",
    "augment.affine.pen": "[0, 1]",
    "augment.affine.*": "[0, inf)",
    "augment.photo.flip": "[0, 1]",
    "augment.photo.*": "[0, inf)",
    "head.aligned.reach": "[0, inf)",
    "head.aligned.columns": "[0, inf)",
    "head.*.threshold": "(-inf, inf)",
    "head.*.*": "(0, inf)",
    "loss.*.balance": "[0, 1]",
    "loss.ranked_list.imbalance": "[0, 1]",
    "loss.ranked_list.*_temperature": "[0, inf)",
    "loss.angular*.alpha": "(0, 90)",
    "loss.angular_n_pair.angular_weight": "[0, inf)",
    "loss.*cosine_embedding.margin": "[-1, 1]",
    "loss.circle.m": "[-1, 1]",
    "loss.*arcface.m": "[0, 3.1415926]",
    "loss.tuplet_margin.m": "[0, 3.1415926]",
    "loss.sphereface.m": "[1, inf)",
    "loss.margin.alpha": "[0, inf)",
    "loss.margin.beta": "(-inf, inf)",
    "loss.ge2e.b": "(-inf, inf)",
    "loss.intra_pair_variance.*_eps": "[0, inf)",
    "loss.*.bins": "[1, inf)",
    "loss.vicreg.epsilon": "(0, inf)",
    "loss.vicreg.*": "[0, inf)",
    "loss.cosface.m": "[0, inf)",
    "loss.batch_pairwise_sigmoid.b": "(-inf, inf)",
    "loss.multi_similarity.base": "[-1, 1]",
    "loss.*.*margin": "(-inf, inf)",
    "loss.*.delta": "[0, inf)",
    "loss.*.epsilon": "[0, inf)",
    "loss.*.*": "(0, inf)",
    "optimizer.average": "[0, 1)",
    "optimizer.adamw.learning_rate": "(0, inf)",
    "optimizer.adamw.clip_norm": "(0, inf)",
    "optimizer.adamw.final_share": "[0, 1]",
    "optimizer.adamw.pretrained_share": "[0, 1]",
    "optimizer.koch.momentum_epochs": "[1, inf)",
    "optimizer.koch.*momentum": "[0, 1)",
    "optimizer.*": "[0, inf)",
    "train.teacher_share": "(0, 1]",
    "evaluation.copies": "[0, inf)",
    "evaluation.ways": "[2, inf)",
    "encoder.width": "[1, inf)",
    "encoder.embedding": "[1, inf)",
    "encoder.*.*": "(-inf, inf)",  # of an encoder's own
    "*": "[1, inf)",
}
# The possible values of settings with a few choices.
CHOICES: dict[str, Collection[Any]] = {
    "data.name": SOURCES,
    "data.turns": (1, 4, 8),
    "data.variants": (1, 2),
    "data.protocol": ("fold", "all", "view1"),
    "data.folder.channels": (1, 3),
    "data.folder.by": ("identity", "group"),
    "batch.mode": ("identities", "pairs", "assigned"),
    "augment.name": ("affine", "photo", "none"),
    "encoder.name": encoders.ENCODERS,
    "encoder.towers": (1, 2),
    "encoder.dtype": ("float32", "bfloat16"),
    "head.name": heads.HEADS,
    "optimizer.name": ("adamw", "koch"),
    "train.keep": ("best", "last"),
}


def check(config: ConfigDict) -> None:
    """Refuses values that are out of range or do not fit together.

    Raises:
      ValueError: the message names the key, its value and what was expected.
    """
    for key, value in flat(json.loads(config.to_json())).items():
        if key in CHOICES and value not in CHOICES[key]:
            raise ValueError(f"{key}={value!r} is not known; choose one of {', '.join(map(str, CHOICES[key]))}")
        if key not in CHOICES and type(value) in (int, float):
            _check_range(key, value)
    for key in ("trials", "validation_trials"):
        if config.evaluation[key] % config.evaluation.ways:
            raise ValueError(
                f"evaluation.{key}={config.evaluation[key]} must be a multiple of evaluation.ways="
                f"{config.evaluation.ways}: a run queries every character of its support set"
            )
    if config.evaluation.copies and config.augment.name == "none":
        raise ValueError(
            f"evaluation.copies={config.evaluation.copies} needs an augmentation, but augment.name='none'; set "
            "augment.name='affine' or 'photo', or evaluation.copies=0"
        )


def _check_range(key, value):
    interval = next(interval for pattern, interval in RANGES.items() if fnmatch.fnmatchcase(key, pattern))
    least, most = (float(end) for end in interval[1:-1].split(","))
    above = value > least or (value == least and interval[0] == "[")
    below = value < most or (value == most and interval[-1] == "]")
    if math.isnan(value) or not above or not below:
        raise ValueError(f"{key}={value} must be in {interval}")


def read(saved: dict[str, Any]) -> ConfigDict:
    """Reads a saved configuration; settings that it lacks, because they are newer, have their defaults.

    Raises:
      ValueError: a key or the source of data is unknown, or a value has the wrong type.
    """
    if not isinstance(saved, dict):
        raise ValueError(f"not a configuration, but {saved!r}; restore the file")
    config = default()
    unknown = sorted(flat(saved).keys() - flat(json.loads(config.to_json())).keys())
    if unknown:
        raise ValueError(f"{unknown[0]} is not a setting of this version of siamjax; use the version that saved it")
    try:
        config.update(saved)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(
            f"not a configuration of this version of siamjax ({error}); use the version that saved it"
        ) from error
    choose("data.name", config.data.name, SOURCES)
    return config


@dataclasses.dataclass(frozen=True)
class Change:
    """A setting that differs between two configurations."""

    key: str
    before: Any
    after: Any


def changes(before: ConfigDict, after: ConfigDict) -> list[Change]:
    """The settings that differ between two configurations, sorted by key."""
    first, second = (flat(json.loads(config.to_json())) for config in (before, after))
    keys = sorted({**first, **second})
    return [Change(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]


def check_processes(config: ConfigDict) -> None:
    """Refuses a process with a different configuration from process 0; the location of data may differ.

    Raises:
      ValueError: the message names the settings that differ.
    """
    before = ConfigDict(json.loads(parallel.from_main(config.to_json)))
    places = SOURCES[config.data.name].places if config.data.name in SOURCES else ()
    changed = [change for change in changes(before, config) if change.key not in places]
    if changed:
        values = "; ".join(f"{change.key} is {change.before} there, {change.after} here" for change in changed)
        raise ValueError(
            f"process 0 runs a different configuration: {values}. Start all processes with the same --config, or with "
            "a workdir that all can read"
        )


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dicts: {"a": {"b": 1}} -> {"a.b": 1}."""
    values = {}
    for key, value in tree.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return values


def with_form(config: ConfigDict, shape: tuple[int, ...], dtype: str) -> ConfigDict:
    """A copy of `config` that states the form of an input, where its source leaves that to the data (`Source.form`).

    Args:
      config: the whole configuration.
      shape, dtype: of an input.

    Raises:
      ValueError: it states another form.
    """
    config = config.copy_and_resolve_references()
    keys, stated = SOURCES[config.data.name].form, flat(json.loads(config.to_json()))
    for key, value in zip(keys, (list(shape), dtype), strict=False):
        if stated[key] and stated[key] != value:
            raise ValueError(
                f"{key}={stated[key]!r}, but the data has {value!r}: convert the inputs, or train another network"
            )
    config.update_from_flattened_dict(dict(zip(keys, (tuple(shape), dtype), strict=False)))
    return config


@contextlib.contextmanager
def keyed(part: str) -> Iterator[None]:
    """Prefixes the argument in a ValueError with its part of the configuration: name='x' -> loss.name='x'."""
    try:
        yield
    except ValueError as error:
        named = re.match(r"[a-z_0-9.]+=", str(error))
        raise ValueError(f"{part}.{error}" if named else f"{part}: {error}") from error
