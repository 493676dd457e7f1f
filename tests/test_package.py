"""The package as a user meets it first: installed from a clone, imported, looked into, asked for its version."""

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
    """A copy of the project in a folder called siamjax, as `git clone` makes it; and its editable install, unpacked."""
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
    """Whose folder has the package's name: alone, it would be taken for an empty namespace package."""
    clone, site = clone
    # Without the site-packages that this project itself may be installed in; but with what it needs of them.
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


def test_what_the_package_offers_is_seen_and_there():
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


def test_importing_the_package_leaves_jax_for_later():
    program = "import siamjax, sys; print('jax' in sys.modules, siamjax.__version__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", siamjax.__version__]


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_python_m_is_the_command(flag):
    done = subprocess.run([sys.executable, "-m", "siamjax", flag], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: siamjax" if flag == "--help" else f"siamjax {siamjax.__version__}")
