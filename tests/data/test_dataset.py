import dataclasses

import numpy as np
import pytest

from siamjax.data.dataset import Dataset, checked, joined

INT = np.int32
GOOD = Dataset(
    images=np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1),
    label=np.array([0, 1, 2, 2, 1, 3], INT),
    group=np.array([0, 1, 1, 1, 1, 2], INT),
    source=np.array([0, 5, 0, 5, 0, 2], INT),
    group_names=("a", "b", "c"),
)


def test_a_valid_data_set_is_returned_unchanged():
    assert checked(GOOD, "good") is GOOD


@pytest.mark.parametrize(
    "change,words",
    [
        (dict(images=GOOD.images.astype(np.float64)), "images must be uint8"),
        (dict(images=GOOD.images[:, 0, 0, 0]), "images must be uint8"),
        (dict(images=GOOD.images[:5]), "label must be int32 .5."),
        (dict(label=GOOD.label.astype(np.int64)), "label must be int32"),
        (dict(label=np.array([0, 1, 2, 2, 1, 4], INT)), "labels must be 0..k-1 without gaps"),
        (dict(source=np.array([0, -1, 0, 5, 0, 2], INT)), "source must not be negative"),
        (dict(group=np.array([0, 1, 1, 2, 1, 2], INT)), "all images of an identity must be in one group"),
        (dict(group_names=("a", "b")), "group 2 has no name"),
        (dict(group_names=("a", "b", "c", "d")), "every named group must have images"),
    ],
)
def test_errors_name_the_field_that_breaks_the_contract(change, words):
    with pytest.raises(ValueError, match=f"data set 'bad': {words}"):
        checked(dataclasses.replace(GOOD, **change), "bad")


def test_joined_data_sets_share_nothing_and_lose_nothing():
    both = checked(joined(GOOD, dataclasses.replace(GOOD, group_names=("d", "e", "f"))), "both")
    np.testing.assert_array_equal(both.label, [*GOOD.label, *(GOOD.label + 4)])
    np.testing.assert_array_equal(both.group, [*GOOD.group, *(GOOD.group + 3)])
    np.testing.assert_array_equal(both.source, [*GOOD.source, *(GOOD.source + 6)])
    np.testing.assert_array_equal(both.images, np.concatenate([GOOD.images, GOOD.images]))
    assert both.group_names == ("a", "b", "c", "d", "e", "f")
