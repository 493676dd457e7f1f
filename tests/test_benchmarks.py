"""Benchmarks can still be made: configurations that they start from change."""

import numpy as np
import pytest

from benchmarks import step
from siamjax.data.dataset import Dataset
from siamjax.run import parts, recipe, settings


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
