"""Any data set with images and labels that TFDS knows by name, prepared like a folder of images."""

import io
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from siamjax import extras, files
from siamjax.choices import choose
from siamjax.data import folder, image_cache
from siamjax.data.types import Datasets, Source, Tell


def prepare(
    names: ConfigDict, how: image_cache.Preparation, *, data_dir: str | None, tell: Tell = print
) -> image_cache.Prepared:
    """Reads all images of a data set, or takes them from an earlier call's cache, and reports on them.

    Args:
      names: of the data set (`name`), of its splits ("" for all, or joined by "+"), and of its features: `image`,
        `label`, and `group` and `source` or "".
      how: how to prepare them.
      data_dir: where TFDS stores its data sets; None for TFDS's default.
      tell: called with each line of the report.

    Raises:
      ValueError: TFDS does not know the data set, cannot prepare it or read it at random; a feature is unknown, or a
        label is missing.
    """
    with extras.needed_for("data.name='tfds'"):
        import tensorflow_datasets as tfds  # It takes a second to import.

    builder = _builder(names, data_dir)
    features, info = builder.info.features, builder.info
    all_splits = {split: split for split in info.splits}
    splits = [
        choose("data.tfds.splits", split, all_splits) for split in (names.splits or "+".join(all_splits)).split("+")
    ]
    # Images stay files: only the chosen feature is decoded, by `prepare_images`.
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    decoders = dict.fromkeys(images, tfds.decode.SkipDecoding())
    try:
        tables = [builder.as_data_source(split, decoders=decoders) for split in splits]
    except NotImplementedError as error:
        raise ValueError(
            f"{names.name} in {builder.data_dir} was prepared in a format that cannot be read at random; delete it, or "
            "prepare it with file_format='array_record'"
        ) from error
    rows = [(table, row) for table in tables for row in range(len(table))]
    paths = [
        f"{names.name}:{split}:{n}" for split, table in zip(splits, tables, strict=True) for n in range(len(table))
    ]

    def record(number):
        table, row = rows[number]
        return table[row]

    def describe(number):
        found = record(number)
        group = _text(features[names.group], found[names.group], paths[number]) if names.group else ""
        source = _text(features[names.source], found[names.source], paths[number]) if names.source else paths[number]
        return _text(features[names.label], found[names.label], paths[number]), group, source

    files = [file for split in splits for file in info.splits[split].filepaths]
    return image_cache.prepare_images(
        [pathlib.Path(path) for path in paths],
        how,
        describe=describe,
        content=lambda number: io.BytesIO(record(number)[names.image]),
        fingerprints=[str(dict(names)), *map(image_cache.fingerprint, files)],
        name=names.name,
        tell=tell,
    )


def _check_features(names: ConfigDict, data_dir: str | None) -> None:
    """Refuses a prepared data set whose features are not TFDS's own: TFDS would import any module that it names."""
    from tensorflow_datasets.core import constants

    root = pathlib.Path(data_dir or constants.DATA_DIR).expanduser()
    for path in (root / names.name.split(":")[0].split("/")[0]).rglob("features.json"):
        try:
            classes = list(_classes(json.loads(files.read(path))))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is damaged ({error}); delete this folder, and prepare it again") from error
        if foreign := [name for name in classes if not name.startswith("tensorflow_datasets.")]:
            raise ValueError(
                f"data.tfds.name={names.name!r}: {path} names {files.shown(foreign[0])!r}, which is not a feature of "
                "TFDS, and would be imported; delete this folder, and prepare it again"
            )


def _classes(features: Any) -> Iterator[str]:
    """The names of classes in a features.json."""
    for key, value in features.items() if isinstance(features, dict) else enumerate(features):
        if key in ("type", "pythonClassName", "python_class_name"):
            yield str(value)
        elif isinstance(value, dict | list):
            yield from _classes(value)


def _builder(names: ConfigDict, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    if not names.name:
        raise ValueError("data.tfds.name is empty: name a data set of TFDS")
    _check_features(names, data_dir)
    try:
        tfds.disable_progress_bar()  # Its bars change their width with their text, on a terminal or not.
        builder: Any = tfds.builder(names.name, data_dir=data_dir)
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
        raise ValueError(f"data.tfds.image={names.image!r} of {names.name} is not an image feature")
    return builder


def _text(feature: Any, value: Any, path: str) -> str:
    """The name of a label, group or source, whose feature may number it."""
    if not hasattr(feature, "int2str"):
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if value < 0:
        raise ValueError(f"{path} has no label; leave its split out, with --config.data.tfds.splits")
    return feature.int2str(int(value))


def _load(config: ConfigDict, train: bool) -> Datasets:
    prepared = prepare(config.tfds, folder.preparation(config), data_dir=config.data_dir or None)
    return folder.parts_of(prepared, config, config.tfds.name, train)


SOURCE = Source(
    _load,
    title=lambda config: config.tfds.name,
    evaluators=folder.SOURCE.evaluators,
    channels=folder.SOURCE.channels,
    invert=folder.SOURCE.invert,
    ink=folder.SOURCE.ink,
    faces=folder.SOURCE.faces,
)
