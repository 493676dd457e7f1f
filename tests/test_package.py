"""The package in first use: installed from a clone or a wheel, imported, listed, and its version."""

import importlib.metadata
import json
import os
import pathlib
import pydoc
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import siamjax
from siamjax import extras, losses

ROOT = pathlib.Path(__file__).parents[1]


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def build(clone, kind, site):
    """Builds the wheel that `pip install` makes (kind "wheel" or "editable"), and returns its path."""
    program = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(site)!r}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=clone, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return next(site.glob("*.whl"))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the project in a folder called siamjax, as made by `git clone`."""
    pytest.importorskip("setuptools")
    clone = tmp_path_factory.mktemp("above") / "siamjax"
    for folder in ("siamjax", "configs"):
        ignored = shutil.ignore_patterns("__pycache__", "weights")
        shutil.copytree(ROOT / folder, clone / folder, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    return clone


@pytest.fixture(scope="module")
def editable(clone, tmp_path_factory):
    """The unpacked editable install of the clone."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(build(clone, "editable", site)) as wheel:
        wheel.extractall(site)
    return site


@pytest.fixture(scope="module")
def installed(clone, tmp_path_factory):
    """A folder with siamjax as pip installs it from its wheel."""
    place = tmp_path_factory.mktemp("installed")
    wheel = build(clone, "wheel", tmp_path_factory.mktemp("wheel"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", place, wheel]
    subprocess.run(pip, check=True, timeout=120)
    return place


def command(installed, *arguments, cwd, **environment):
    """Runs the installed command `siamjax` away from the clone."""
    environment = os.environ | {"PYTHONPATH": str(installed)} | environment
    environment.pop("XLA_FLAGS", None)
    program = [sys.executable, str(installed / "bin" / "siamjax"), *arguments]
    return subprocess.run(program, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("repository", ["", "https://example.org/siamjax"])
def test_the_readme_of_a_package_index_has_no_relative_link(clone, tmp_path, repository):
    program = f"from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel({str(tmp_path)!r})"
    environment = os.environ | {"SIAMJAX_REPOSITORY": repository, "SIAMJAX_REVISION": "v1"}
    subprocess.run([sys.executable, "-c", program], cwd=clone, env=environment, check=True, timeout=120)
    (written,) = tmp_path.glob("*.dist-info/METADATA")
    metadata = importlib.metadata.PathDistribution(written.parent).metadata
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload() or metadata["Description"]
    assert "# siamjax" in text
    links = re.findall(r"\]\((\S+?)\)", text)
    if repository:
        assert {f"{repository}/blob/v1/docs/train.md", f"{repository}/raw/v1/docs/images/answers.png"} <= set(links)
    assert all(link.startswith("https://") for link in links) and bool(links) == bool(repository)


@pytest.mark.parametrize("way", ["-c", "script", "-m"])
def test_the_folder_above_a_clone_finds_the_package(clone, editable, way):
    """The folder of the clone has the name of the package; without care, Python imports it as a namespace package."""
    # Not the site-packages that may contain this project, but the dependencies in them.
    start = (
        f"import site, sys; sys.path.append({sysconfig.get_path('purelib')!r}); site.addsitedir({str(editable)!r}); "
    )
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
    assert not list((clone / "siamjax").glob("carried"))


# A configuration of one's own, which changes one that comes with siamjax, and imports another of its own.
MINE = """
from configs import base, quickstart

def get_config():
    config = quickstart.get_config()
    config.data.update(name="folder", size=16, data_dir="cache")
    config.data.folder.path = base.PEOPLE
    config.batch.update(identities=8, per_identity=2, per_group=8, across_groups=True)
    config.encoder.update(name="conv4", width=4, embedding=8)
    config.train.update(steps=500, validate_every=2, log_every=1)
    config.evaluation.update(ways=4, trials=40, validation_trials=40, pairs=40, across_groups=True)
    return config
"""


@pytest.mark.thorough
def test_the_wheel_trains_and_evaluates_away_from_the_clone(installed, tmp_path):
    for number in range(20):
        (tmp_path / "people" / str(number)).mkdir(parents=True)
        for shot in range(4):
            image = np.random.default_rng((number, shot)).integers(0, 255, (16, 16), np.uint8)
            Image.fromarray(image).save(tmp_path / "people" / str(number) / f"{shot}.png")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "base.py").write_text("PEOPLE = 'people'")
    (tmp_path / "configs" / "mine.py").write_text(MINE)
    done = command(installed, "train", "configs/mine.py", "--config.train.steps=2", cwd=tmp_path)
    assert done.returncode == 0 and "identification_test_4way_1shot" in done.stdout, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    results = (run / "results.json").read_bytes()
    done = command(installed, "report", str(run), "-o", "page.html", cwd=tmp_path)
    assert done.returncode == 0 and "mine" in (tmp_path / "page.html").read_text(), done.stderr
    (run / "results.json").unlink()
    done = command(installed, "evaluate", "configs/mine.py", cwd=tmp_path)
    assert done.returncode == 0 and (run / "results.json").read_bytes() == results, done.stderr


@pytest.mark.thorough
def test_the_wheel_knows_the_configurations_by_name(installed, tmp_path):
    listed = json.loads(command(installed, "configs", "--json", cwd=tmp_path).stdout)
    assert set(listed) == {path.stem for path in (ROOT / "configs").glob("*.py")} - {"saved"}
    assert listed["omniglot_fast"].startswith("One-shot Omniglot in twenty minutes")
    done = command(installed, "train", "omniglot_fast", "--config.data.turns=9", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1) and "data.turns=9" in done.stderr
    assert done.stderr.startswith("siamjax train: ") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("extra", ["train", "gallery", "heic", "faces"])
def test_every_module_of_an_extra_is_named_with_it(extra):
    modules = importlib.metadata.packages_distributions()
    own = [module for module, name in extras.EXTRAS.items() if name == extra]
    if missing := [module for module in own if module not in modules]:
        pytest.skip(f"{missing[0]} is not installed: {extras.remedy(missing[0])}")
    named = {distribution.lower().replace("_", "-") for module in own for distribution in modules[module]}
    required = {Requirement(line).name.lower().replace("_", "-") for line in PROJECT["optional-dependencies"][extra]}
    assert required <= named


# Refuses to import what the core of the installation does not bring.
_CORE = """
import importlib.abc, sys
refused = set(sys.argv.pop(1).split())
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
"""


def without_extras(program, cwd):
    """Runs a program where only the core's dependencies, and what they depend on, can be imported."""
    core, queue = set(), [Requirement(line) for line in PROJECT["dependencies"]]
    while queue:
        requirement = queue.pop()
        name = requirement.name.lower().replace("_", "-")
        if name in core or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        core.add(name)
        try:
            queue += [Requirement(line) for line in importlib.metadata.requires(name) or []]
        except importlib.metadata.PackageNotFoundError:
            continue  # For another platform.
    kept = core | {"siamjax", "setuptools"}
    refused = {
        module
        for module, names in importlib.metadata.packages_distributions().items()
        if not kept & {name.lower().replace("_", "-") for name in names}
    }
    # They may come with something else, and are not to be needed.
    refused |= set(extras.EXTRAS)
    command = [sys.executable, "-c", _CORE + program, " ".join(sorted(refused))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.thorough
def test_the_core_does_without_the_extras(tmp_path):
    """Losses, encoders, training in one's own loop, a network and a gallery of images."""
    program = """
import numpy as np
from PIL import Image
import siamjax
network = siamjax.load_pretrained("omniglot-fast")
for name in ("a", "b"):
    Image.fromarray(np.random.default_rng(ord(name)).integers(0, 255, (56, 56), np.uint8)).save(f"{name}.png")
network.verify("a.png", "b.png")
network.save("network")
gallery = siamjax.Gallery("people", "network")
gallery.enroll(["a.png", "b.png"], ["a", "b"])
assert gallery.identify(network.read(["a.png"]))[0].ranked[0].identity == "a"
for module in (siamjax.augment, siamjax.mining, siamjax.encoders, siamjax.optimizer, siamjax.sampling, siamjax.heads):
    assert module
assert np.isfinite(siamjax.losses.batch_all_triplet(network.embed(np.zeros((2, 56, 56, 1), np.uint8)), np.arange(2)))
import siamjax.report, siamjax.evaluation, siamjax.export
x, y = np.eye(8, dtype=np.float32).repeat(4, 0), np.arange(32) // 4
few = {"steps": 1, "encoder": "mlp", "embedding": 4, "identities": 4, "per_identity": 2}
siamjax.fit(x, y, validation=(-x, y), **few).save("fitted")
try:
    siamjax.fit(x, y, workdir="folder", **few)
except ImportError as error:
    print(error, file=sys.stderr)
from siamjax import cli
cli.main(["export", "network", "--format", "onnx", "-o", "out"])
cli.main(["search", "people", "a.png", "-o", "sheet.png"])
cli.main(["train", "quickstart"])  # Ends the process.
"""
    done = without_extras(program, tmp_path)
    assert done.stderr.splitlines() == [
        "a workdir needs orbax: pip install 'siamjax[train]'",
        "siamjax export: format='onnx' needs onnxruntime: pip install 'siamjax[onnx]'",
        "siamjax search: a picture needs matplotlib: pip install 'siamjax[train]'",
        "siamjax train: evaluating a run needs matplotlib: pip install 'siamjax[train]'",
    ]
    assert done.returncode == 2
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png", "fitted", "network", "people"}


def test_importing_the_losses_is_light():
    """Nothing of files, pictures, data sets or run folders."""
    program = "import siamjax.losses, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    modules = done.stdout.split()
    heavy = {"PIL", "grain", "matplotlib", "ml_collections", "orbax", "pandas", "scipy", "sklearn", "tensorboardX"}
    heavy |= {"tensorflow", "tensorflow_datasets", "tensorstore", "torch", *extras.EXTRAS}
    assert "siamjax.losses" in modules and not heavy & {name.partition(".")[0] for name in modules}
    own = {name.split(".")[1] for name in modules if name.startswith("siamjax.")}
    assert not own & {"data", "evaluation", "network", "run", "sampling", "training"}


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
