"""Benchmarks can still be made: configurations that they start from change."""

import ast
import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from benchmarks import step
from siamjax.data.dataset import Dataset
from siamjax.run import parts, recipe, settings

FILES = sorted(pathlib.Path(step.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_from_siamjax_or_another_exists(path):
    """Most is imported within functions, which no test calls."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").partition(".")[0] not in (
            "siamjax",
            "benchmarks",
        ):
            continue
        for name in (f"{node.module}.{alias.name}" for alias in node.names):
            if name.startswith("benchmarks.torch_networks") and not importlib.util.find_spec("torch"):
                continue
            if not hasattr(importlib.import_module(node.module), name.rpartition(".")[2]):
                importlib.import_module(name)


@pytest.mark.parametrize("network", step.IMAGES)
def test_the_steps_that_are_compared_with_pytorch_are_those_described(network):
    config = step.configuration(network, "float32")
    settings.check(config)
    model = parts.make_model(config)
    label = np.repeat(np.arange(80, dtype=np.int32), 5)
    shape = (len(label), step.SIDE[network], step.SIDE[network], 3 if network == "mobilenet" else 1)
    data = Dataset(
        np.zeros(shape, np.uint8), label, label // 20, np.tile(np.arange(5, dtype=np.int32), 80), tuple("abcd")
    )
    recipe.make_objective(config, model, data)
    _, images = recipe.make_batches(config, data)
    assert images == step.IMAGES[network]
    assert {"koch": "cross_entropy", "local": "ranking"}.get(network, "ntxent") == config.loss.name


@pytest.mark.parametrize("network", step.IMAGES)
def test_pytorchs_networks_have_as_many_weights(network):
    pytest.importorskip("torch")
    from benchmarks import torch_networks

    shape = (2, step.SIDE[network], step.SIDE[network], 3 if network == "mobilenet" else 1)
    encoder = parts.make_model(step.configuration(network, "float32")).encoder
    ours = jax.eval_shape(encoder.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, np.float32))["params"]
    theirs = torch_networks.NETWORKS[network]().parameters()
    assert sum(x.numel() for x in theirs) == sum(x.size for x in jax.tree.leaves(ours))
