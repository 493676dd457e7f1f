"""The package in first use: installed from a clone, imported, listed, and its version."""

import pathlib
import pydoc
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

import siamjax
from siamjax import losses

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the project in a folder called siamjax, as made by `git clone`, and its unpacked editable install."""
    pytest.importorskip("setuptools")
    clone, site = tmp_path_factory.mktemp("above") / "siamjax", tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "siamjax", clone / "siamjax", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    build = f"from setuptools import build_meta; print(build_meta.build_editable({str(site)!r}))"
    done = subprocess.run([sys.executable, "-c", build], cwd=clone, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(site.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    return clone, site


@pytest.mark.parametrize("way", ["-c", "script", "-m"])
def test_the_folder_above_a_clone_finds_the_package(clone, way):
    """The folder of the clone has the name of the package; without care, Python imports it as a namespace package."""
    clone, site = clone
    # Not the site-packages that may contain this project, but the dependencies in them.
    start = f"import site, sys; sys.path.append({sysconfig.get_path('purelib')!r}); site.addsitedir({str(site)!r}); "
    program = start + "import siamjax; print(siamjax.__file__, siamjax.distances.__name__)"
    if way == "-m":
        program = start + "import runpy; sys.argv = ['', '--version']; runpy.run_module('siamjax', run_name='__main__')"
    (clone.parent / "script.py").write_text(program)
    command = [sys.executable, "-S", *(["script.py"] if way == "script" else ["-c", program])]
    environment = {"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
    done = subprocess.run(command, cwd=clone.parent, env=environment, capture_output=True, text=True, timeout=120)
    expected = f"siamjax {siamjax.__version__}"
    if way != "-m":
        expected = f"{clone / 'siamjax' / '__init__.py'} siamjax.distances"
    assert done.stdout.strip() == expected, done.stderr


def test_dir_lists_the_public_names_and_all_can_be_imported():
    assert {"Gallery", "Verifier", "load_pretrained", "losses", "__version__"} <= set(dir(siamjax))
    assert not [name for name in dir(siamjax) if name.startswith("_") and not name.startswith("__")]
    for name in siamjax.__all__:
        assert getattr(siamjax, name) is not None
    assert siamjax.losses is losses
    page = pydoc.plain(pydoc.render_doc(siamjax))
    for words in ("class Gallery", "class Network", "Verifier(", "load_pretrained(", "gallery.identify("):
        assert words in page
    with pytest.raises(AttributeError, match="no attribute 'Galery'"):
        _ = siamjax.Galery


def test_importing_the_package_does_not_import_jax():
    program = "import siamjax, sys; print('jax' in sys.modules, siamjax.__version__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", siamjax.__version__]


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_python_m_is_the_command(flag):
    done = subprocess.run([sys.executable, "-m", "siamjax", flag], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: siamjax" if flag == "--help" else f"siamjax {siamjax.__version__}")
