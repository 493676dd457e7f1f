"""Every configuration gives a network, an optimizer and a training state that fit its images."""

import importlib
import pathlib

import jax
import pytest

from siamjax.run import parts, recipe, settings
from siamjax.training import state

NAMES = sorted(path.stem for path in (pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "saved"])
def test_configuration_can_be_built(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    settings.check(config)
    model = parts.make_model(config)
    transform = recipe.make_optimizer(config, recipe.make_objective(config, model, None))
    shape = (config.data.size, config.data.width or config.data.size, 1)
    made = jax.eval_shape(lambda: state.create(model, jax.random.key(0), shape, transform))
    assert set(made.params) == {"encoder", "head"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"identities": 1}, r"batch.identities=1 must be in \[2, inf\)"),
        ({"per_identity": 1}, r"batch.per_identity=1 must be in \[2, inf\)"),
        ({"per_identity": 200}, "batch.per_identity=200 is more than the training data's 78 images can fill"),
        ({"per_group": 1}, "batch.across_groups=False compares identities of one group, but a batch has one of each"),
    ],
)
def test_batches_with_nothing_to_learn_from_are_refused(changed, message, drawn):
    config = settings.default()
    config.data.name = "folder"
    config.batch.update(changed)
    with pytest.raises(ValueError, match=message):
        settings.check(config)
        recipe.make_batches(config, drawn)
