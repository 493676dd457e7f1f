"""Data sets of TFDS: one defined here, prepared and read by name."""

import io
import os
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from configs import default
from siamjax import data


class Signatures(tfds.core.GeneratorBasedBuilder):
    """Ten writers of four images each, in two splits and two sites."""

    name = "test_signatures"
    VERSION = tfds.core.Version("1.0.0")
    writer_of_first = 0

    def _info(self):
        features = {
            "picture": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "writer": tfds.features.ClassLabel(names=[f"writer{number}" for number in range(10)]),
            "site": tfds.features.Text(),
            "length": np.int32,
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"first": self._generate_examples(range(2)), "second": self._generate_examples(range(2, 4))}

    def _generate_examples(self, shots):
        for writer in range(10):
            for shot in shots:
                png = io.BytesIO()  # As bytes, TFDS stores it without TensorFlow.
                Image.fromarray(np.full((20, 30, 3), 20 * writer + shot, np.uint8)).save(png, "png")
                png.seek(0)
                number = writer or self.writer_of_first
                yield f"{writer}-{shot}", {"picture": png, "writer": number, "site": f"s{writer % 2}", "length": shot}


@pytest.fixture
def config(tmp_path):
    config = default.get_config().data
    config.update(name="tfds", data_dir=str(tmp_path), size=16)
    config.tfds.update(name="test_signatures", image="picture", label="writer", group="site", source="length")
    return config


def test_a_data_set_of_tfds_is_split_by_identity(config):
    parts = data.load(config)
    names = {part: set(dataset.names) for part, dataset in parts.items()}
    assert {part: len(found) for part, found in names.items()} == {"train": 6, "validation": 2, "test": 2}
    assert len(set.union(*names.values())) == 10
    for dataset in parts.values():
        assert dataset.images.shape[1:] == (16, 16, 1) and set(dataset.group_names) <= {"s0", "s1"}
        writer = np.array([int(name.removeprefix("writer")) for name in dataset.names])[dataset.label]
        # An image is as wide as the square, and two thirds as high.
        np.testing.assert_array_equal(dataset.images[:, 8, 8, 0] // 20, writer)
        assert not dataset.images[:, 0].any()
        site = np.array(dataset.group_names)[dataset.group]
        np.testing.assert_array_equal(site, [f"s{number % 2}" for number in writer])
        assert np.bincount(dataset.label).tolist() == [4] * len(dataset.names)


def test_one_split_alone(config):
    config.tfds.splits = "second"
    config.tfds.source = ""
    parts = data.load(config)
    assert sum(len(dataset) for dataset in parts.values()) == 20
    assert {dataset.images[:, 8, 8].max() % 20 for dataset in parts.values()} == {3}


def test_the_cache_is_used_until_the_data_changes(config, monkeypatch):
    first = data.load(config)
    read = tfds.core.data_sources.array_record.ArrayRecordDataSource.__getitem__
    asked = []
    monkeypatch.setattr(
        tfds.core.data_sources.array_record.ArrayRecordDataSource,
        "__getitem__",
        lambda self, number: asked.append(number) or read(self, number),
    )
    again = data.load(config)
    assert not asked and again["test"].names == first["test"].names
    np.testing.assert_array_equal(again["test"].images, first["test"].images)
    (file,) = pathlib.Path(config.data_dir).glob("test_signatures/*/*first*.array_record*")
    os.utime(file, (1, 1))
    data.load(config)
    assert len(asked) >= 40


def test_an_image_without_a_label_is_refused(config, monkeypatch):
    monkeypatch.setattr(Signatures, "writer_of_first", -1)
    with pytest.raises(ValueError, match="4 of 40 images cannot be read: test_signatures:first:.* has no label"):
        data.load(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", "no_such_set", "data.tfds.name='no_such_set': TFDS cannot prepare it"),
        ("label", "name", "data.tfds.label='name': test_signatures has the features picture, writer, site, length"),
        ("image", "length", "data.tfds.image='length' of test_signatures is not an image feature"),
        ("splits", "first+third", "data.tfds.splits='third' is not known; choose one of first, second"),
    ],
)
def test_unknown_names_are_refused(config, key, value, message):
    config.tfds[key] = value
    with pytest.raises(ValueError, match=message):
        data.load(config)
