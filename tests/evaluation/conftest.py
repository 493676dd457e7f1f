import numpy as np
import pytest

from siamjax.data.dataset import Dataset


@pytest.fixture(scope="session")
def drawn():
    """3 alphabets of 6, 4 and 8 characters by 5 drawers; the second one lacks some drawings. Image i shows colour i."""
    rows = []
    label = 0
    for group, characters in enumerate([6, 4, 8]):
        for _ in range(characters):
            rows += [(label, group, drawer) for drawer in range(5) if group != 1 or drawer in (0, 3)]
            label += 1
    label, group, source = np.random.default_rng(1).permutation(np.array(rows, np.int32)).T
    images = np.arange(len(rows), dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(4, 1).repeat(4, 2)
    return Dataset(images, label, group, source, ("a", "b", "c"))
