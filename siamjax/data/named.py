"""Any data set that TFDS knows by name, with images and labels, prepared as a folder of images is."""

import pathlib

import tensorflow_datasets as tfds

from siamjax.choices import choose
from siamjax.data import folder


def prepare(names, *, data_dir: str | None, **settings) -> folder.Prepared:
    """Reads all images of a data set, or finds them as an earlier call left them; says what it found.

    Args:
      names: of the data set (`name`), of its splits ("" for all, or joined by "+"), and of its features: `image`,
        `label`, and `group` and `source` or "".
      data_dir: where TFDS keeps its data sets; None stands for TFDS's default.
      settings: as for `folder.prepare`.

    Raises:
      ValueError: TFDS does not know the data set, cannot prepare it or read it at random; a feature is not there, or a
        label is missing.
    """
    builder = _builder(names, data_dir)
    features, info = builder.info.features, builder.info
    all_splits = {split: split for split in info.splits}
    splits = [
        choose("data.tfds.splits", split, all_splits) for split in (names.splits or "+".join(all_splits)).split("+")
    ]
    # Pictures stay files: the one that is asked for is decoded here, and others not at all.
    pictures = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    decoders = dict.fromkeys(pictures, tfds.decode.SkipDecoding())
    try:
        sources = [builder.as_data_source(split, decoders=decoders) for split in splits]
    except NotImplementedError as error:
        raise ValueError(
            f"{names.name} in {builder.data_dir} was prepared in a format that cannot be read at random; delete it, or "
            "prepare it with file_format='array_record'"
        ) from error
    places = [(source, number) for source in sources for number in range(len(source))]
    paths = [
        f"{names.name}:{split}:{n}" for split, source in zip(splits, sources, strict=True) for n in range(len(source))
    ]

    def record(number):
        source, place = places[number]
        return source[place]

    def describe(number):
        found = record(number)
        group = _text(features[names.group], found[names.group], paths[number]) if names.group else ""
        source = _text(features[names.source], found[names.source], paths[number]) if names.source else paths[number]
        return _text(features[names.label], found[names.label], paths[number]), group, source

    files = [file for split in splits for file in info.splits[split].filepaths]
    return folder.keep(
        [pathlib.Path(path) for path in paths],
        describe=describe,
        content=lambda number: record(number)[names.image],
        fingerprints=[str(dict(names)), *map(folder.fingerprint, files)],
        name=names.name,
        **settings,
    )


def _builder(names, data_dir):
    if not names.name:
        raise ValueError("data.tfds.name is empty: name a data set of TFDS")
    try:
        tfds.disable_progress_bar()  # They are as wide as the text in them, on a terminal or not.
        builder = tfds.builder(names.name, data_dir=data_dir)
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # Whatever the data set's own code raises.
        reason = " ".join(str(error).split())[:300]
        help_ = "; many data sets need it, once: pip install tensorflow" if "No module named" in reason else ""
        raise ValueError(f"data.tfds.name={names.name!r}: TFDS cannot prepare it ({reason}){help_}") from error
    features = builder.info.features
    for key in ("image", "label", "group", "source"):
        if names[key] not in features and (names[key] or key in ("image", "label")):
            raise ValueError(f"data.tfds.{key}={names[key]!r}: {names.name} has the features {', '.join(features)}")
    if not isinstance(features[names.image], tfds.features.Image):
        raise ValueError(f"data.tfds.image={names.image!r} of {names.name} is no image")
    return builder


def _text(feature, value, path):
    """What a value is called."""
    if not isinstance(feature, tfds.features.ClassLabel):
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if value < 0:
        raise ValueError(f"{path} has no label; leave its split out, with --config.data.tfds.splits")
    return feature.int2str(int(value))
