"""Every Python block of README and docs runs: those of a page one after the other, with the data that they name.

Where a page says `x`, `paths` or "runs/faces", a function below makes it, as small as it can be; `fit` takes two steps,
and a multilayer perceptron where the page names no encoder.
"""

import functools
import pathlib
import re
import shutil
import types
from typing import Any

import jax
import numpy as np
import optax
import photographs
import PIL.Image
import pytest
from flax import linen as nn

import siamjax
from siamjax import encoders, export

pytestmark = pytest.mark.thorough

ROOT = pathlib.Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if BLOCK.search(page.read_text()) and "_build" not in page.parts
]


class OwnEncoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(16)(x.reshape(len(x), -1))


class SmallArchitecture(nn.Module):
    """A small stand-in for MobileNetV2 with as many features, 1280, so that what the pages say of these holds."""

    dtype: Any = "float32"
    convolution: str = "auto"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x.mean(axis=(1, 2)))
        return nn.Dense(1280)(x)


def images(identities=8, each=4, shape=(32, 32, 3), seed=0):
    """Images uint8 [n, ...], of one pattern for each identity and with noise, and their labels."""
    rng = np.random.default_rng(seed)
    pattern = np.repeat(rng.integers(0, 200, (identities, *shape)), each, axis=0)
    return (pattern + rng.integers(0, 50, pattern.shape)).astype(np.uint8), np.arange(identities).repeat(each)


def pairs(shape=(12,), count=32):
    rng = np.random.default_rng(0)
    a, same = rng.normal(size=(count, *shape)).astype(np.float32), np.arange(count) % 2 == 0
    return a, np.where(same.reshape(-1, *[1] * len(shape)), a, -a), same


def photographs_called(*names):
    for name, image in zip(names, images(len(names), 1)[0], strict=True):
        PIL.Image.fromarray(image).save(name)


def saved_network(folder, shape=(6, 6, 1)):
    """A network of two steps, with a threshold, as if `folder` were the run of a training."""
    x, y = images(24, shape=shape)
    network = siamjax.fit(x[:64], y[:64], validation=(x[64:], y[64:]), embedding=8)
    network.save(folder)
    return network


def of_readme():
    x, y = images()
    saved_network("runs/faces")
    photographs_called("ann.jpg", "bob.jpg", "who.jpg")
    return dict(
        x=x,
        y=y,
        new=x,
        a=x,
        b=np.roll(x, 1, axis=0),
        same=y == np.roll(y, 1),
        MyFlaxModule=OwnEncoder,
        labels=y,
    )


def of_index():
    x, y = images(shape=(12,))
    return dict(x=x, y=y, new=x)


def of_train():
    x, y = images(8, shape=(12,))
    x_other, y_other = images(8, shape=(12,), seed=1)
    a, b, same = pairs()
    sketches, photos, sketches_2, photos_2 = (images(32, 1, (6, 6, 1), seed)[0] for seed in range(4))
    photographs_called("ann.jpg", "bob.jpg", "sketch.png")
    logged = []
    return dict(
        x=x.astype(np.float32), y=y, new=x.astype(np.float32), x_other=x_other.astype(np.float32), y_other=y_other,
        a=a, b=b, same=same, sketches=sketches, photos=photos, sketches_2=sketches_2, photos_2=photos_2, same_2=same,
        new_sketches=sketches[:3], new_photos=photos[:5], nn=nn, optax=optax, names=[str(name) for name in y],
        wandb=types.SimpleNamespace(log=lambda metrics, step: logged.append(step)), np=np,
        mlflow=types.SimpleNamespace(log_metrics=lambda metrics, step: logged.append(step)), logged=logged,
    )  # fmt: skip


def of_your_images():
    network = saved_network("runs/faces")
    photographs_called("a.jpg", "b.jpg", "stranger.jpg")
    siamjax.Gallery.create("gallery", "runs/faces").enroll(["a.jpg"], ["ann"])
    export.export("runs/faces", "exported")
    export.export("runs/faces", "models", "onnx")
    x, labels = images(20, shape=(6, 6, 1))
    embeddings = network.embed(x)
    known = labels < 12
    return dict(
        images=x, labels=labels, queries=embeddings[1::2], query_labels=labels[1::2],
        reference=embeddings[known][::2], reference_labels=labels[known][::2],
    )  # fmt: skip


def of_faces():
    for path, content in photographs.cfp().items():
        file = pathlib.Path("FOLDER", path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    saved_network("runs/RUN", (56, 56, 1))
    return {}


def of_gallery():
    vectors, identities = np.random.default_rng(0).normal(size=(12, 8)), [str(n // 2) for n in range(12)]
    return dict(vectors=vectors, identities=identities, paths=[f"{n}.jpg" for n in range(12)], queries=vectors[:3])


def of_omniglot():
    return dict(images=images(2, 2, (56, 56, 1))[0], pairs=[[0, 1], [0, 2]])


def of_pretrained():
    x, y = images()
    photographs_called("ann.jpg", "bob.jpg", "this.jpg")
    return dict(x=x, y=y, paths=["ann.jpg", "bob.jpg"], names=["ann", "bob"])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder; `fit` takes two steps of a small network, and `cross_validate` three folds."""
    fit, cross_validate = siamjax.fit, siamjax.cross_validate
    short = functools.partial(fit, steps=2, encoder="mlp")
    for name in ("siamjax.fit", "siamjax.folds.fit"):
        monkeypatch.setattr(name, short)
    monkeypatch.setattr("siamjax.cross_validate", lambda x, y, folds: cross_validate(x, y, folds=3))
    monkeypatch.chdir(tmp_path)
    jax.config.update("jax_disable_most_optimizations", True)  # compiling takes longest
    yield tmp_path
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def published(place, monkeypatch):
    """A small architecture called mobilenet_v2, and weights for it where those of ImageNet would be."""
    known = encoders.ARCHITECTURES["mobilenet_v2"]
    monkeypatch.setitem(encoders.ARCHITECTURES, "mobilenet_v2", known._replace(make=SmallArchitecture))
    siamjax.fit(*images(), encoder="mobilenet_v2").save("small")
    (place / "weights").mkdir()
    shutil.copy("small/network.safetensors", "weights/mobilenet_v2.safetensors")
    monkeypatch.setenv("SIAMJAX_WEIGHTS", str(place / "weights"))


def run(page, names):
    """Runs the blocks of a page with `names`, and returns all names; errors show the page's lines."""
    text = page.read_text()
    for block in BLOCK.finditer(text):
        above = text[: block.start(1)].count("\n")
        exec(compile("\n" * above + block[1], str(page), "exec"), names)
    return names


LONG = ("train.md", "pretrained.md")  # half a minute each: every call of `fit` is compiled


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page.name in LONG else (), id=page.name) for page in PAGES],
)
def test_the_blocks_of_a_page_run(page, place, request):
    if "mobilenet_v2" in "".join(BLOCK.findall(page.read_text())):
        request.getfixturevalue("published")
    setup = globals().get(f"of_{page.stem.lower().replace('-', '_')}", dict)
    run(page, {"siamjax": siamjax} | setup())
