"""A long-tailed subset: the share of identities with one or two images is that of whales, and some queries are new."""

import numpy as np

from siamjax.data import _longtail as longtail
from siamjax.data.dataset import Dataset, checked


def characters(count=400, drawers=20):
    label = np.repeat(np.arange(count), drawers).astype(np.int32)
    source = np.tile(np.arange(drawers), count).astype(np.int32)
    images = np.zeros((len(label), 2, 2, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0], images[:, 1, 1, 0] = label // 256, label % 256, source
    return Dataset(images, label, label // 40, source, tuple(f"a{number}" for number in range(-(-count // 40))))


def test_training_images_are_few_and_queries_are_other_images():
    parts = longtail.cut(characters(), seed=1)
    numbers = {}
    for part, dataset in parts.items():
        checked(dataset, part)
        images = dataset.images[np.arange(len(dataset))]
        character = images[:, 0, 0, 0].astype(int) * 256 + images[:, 0, 1, 0]
        numbers[part] = set(zip(character.tolist(), images[:, 1, 1, 0].tolist(), strict=True))
        # One number is one character, in all parts.
        named = {(int(label), int(name)) for label, name in zip(dataset.label, character, strict=True)}
        assert len(named) == dataset.label.max() + 1
        parts[part] = dataset, dict(named)
    train, known = parts["train"]
    assert parts["gallery"][0] is train
    images = np.bincount(train.label)
    shares = [np.mean(images == number) for number in (1, 2, 3)]
    np.testing.assert_allclose(shares, [2073 / 5004, 1285 / 5004, 568 / 5004], atol=0.01)
    assert images.max() == 16 and len(known) == 289
    for part in ("validation", "test"):
        dataset, names = parts[part]
        assert {label: names[label] for label in known} == known
        assert 0.25 < np.mean(dataset.label >= len(known)) < 0.3
        assert not numbers[part] & numbers["train"]
    assert not numbers["validation"] & numbers["test"]
    new = [{name for label, name in parts[part][1].items() if label >= len(known)} for part in ("validation", "test")]
    assert new[0] and new[1] and not new[0] & new[1]
