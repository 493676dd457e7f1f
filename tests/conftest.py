"""Eight virtual devices on the CPU, programs that compile quickly, and strict shapes, for every test."""

import collections
import os
import pathlib
import shutil

import compiling

from siamjax import host

os.environ["XLA_FLAGS"] = compiling.for_tests()
# The kernels of the command, and its folder for compiled programs, which all processes and runs share.
os.environ.update({name: value for name, value in host.settings(os.environ).items() if name != "GLIBC_TUNABLES"})
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest

from siamjax.data.dataset import Dataset

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def omniglot_dirs(tmp_path_factory):
    """(data_dir, manual_dir) of the real Omniglot, prepared once a test run; tests skip where its zips are not."""
    default = pathlib.Path(__file__).parents[2] / "shared" / "omniglot"
    manual_dir = pathlib.Path(os.environ.get("SIAMJAX_OMNIGLOT", default))
    if not (manual_dir / "images_background.zip").exists():
        pytest.skip(f"no Omniglot in {manual_dir}: set SIAMJAX_OMNIGLOT to the folder of its four zips")
    from siamjax.data import _omniglot_builder

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # All workers share the folder above their own; the first to come prepares for all.
        root = root.parent
    _omniglot_builder.prepare(str(root / "omniglot"), str(manual_dir))
    return str(root / "omniglot"), str(manual_dir)


@pytest.fixture(scope="session")
def photographs_dir():
    """The folder with the zips of CFP, LFW and CEDAR; tests skip where it is not."""
    folder = pathlib.Path(os.environ.get("SIAMJAX_PHOTOGRAPHS", pathlib.Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "cedar_320.zip").exists():
        pytest.skip(f"no photographs in {folder}: set SIAMJAX_PHOTOGRAPHS to the folder of their zips")
    return folder


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


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, driven by Playwright; tests skip where either is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'siamjax[browser]'")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium found: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module", autouse=True)
def _forgotten_programs():
    """Compiled programs are dropped after each file: a process can hold about as many as the whole suite compiles."""
    yield
    jax.clear_caches()


def pytest_collection_modifyitems(items):
    """Orders the tests, and marks those of a sweep that the quick suite leaves out as slow.

    What takes longest comes first, so that no worker is left with it alone at the end. Of a sweep over many losses or
    heads, every fourth case is quick; another fourth for each test, so that every loss has some.
    """
    longest = ("test_processes.py", "test_launch.py", "test_recipe.py", "test_gallery.py")
    items.sort(key=lambda item: item.path.name not in longest)
    sweeps = collections.defaultdict(list)
    for item in items:
        if item.get_closest_marker("sweep"):
            sweeps[item.function].append(item)
    for sweep in sweeps.values():
        first = len(sweep[0].originalname) % min(4, len(sweep))
        for number, item in enumerate(sweep):
            if (number - first) % 4:
                item.add_marker(pytest.mark.slow)
