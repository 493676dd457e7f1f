"""Settings: defaults of the functions that they configure, ranges, and old configurations under new defaults."""

import fnmatch
import json
import math

import pytest

from siamjax.run import settings
from siamjax.training import objectives


def stored(config):
    return json.loads(config.to_json())


def test_defaults_come_from_the_functions():
    config = settings.default()
    assert stored(config.loss) == {"name": "cross_entropy"} | json.loads(json.dumps(objectives.loss_options()))
    assert config.head.aligned.scale == 14 and config.encoder.conv.pooled == (2, 3, 4)


def test_every_range_pattern_applies_to_a_setting():
    numbers = [key for key, value in settings.flat(stored(settings.default())).items() if type(value) in (int, float)]
    used = {next(p for p in settings.RANGES if fnmatch.fnmatchcase(key, p)) for key in numbers}
    # Settings that default to None are not in `numbers`; encoders of one's own may have numbers.
    assert set(settings.RANGES) - used <= {"loss.*.epsilon", "encoder.*.*"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("loss.ntxent.temperature", 0.0, "loss.ntxent.temperature=0.0 must be in \\(0, inf\\)"),
        ("optimizer.adamw.learning_rate", math.nan, "optimizer.adamw.learning_rate=nan must be in"),
        ("optimizer.average", 1.0, "optimizer.average=1.0 must be in \\[0, 1\\)"),
        ("train.steps", 0, "train.steps=0 must be in \\[1, inf\\)"),
        ("seed", -1, "seed=-1 must be"),
        ("data.turns", 3, "data.turns=3 is not known; choose one of 1, 4, 8"),
        ("head.name", "cosine", "head.name='cosine' is not known; choose one of aligned"),
        ("batch.mode", "triplets", "batch.mode='triplets' is not known; choose one of"),
        ("train.keep", "worst", "train.keep='worst' is not known; choose one of best, last"),
        ("evaluation.trials", 30, "evaluation.trials=30 must be a multiple of evaluation.ways=20"),
        ("evaluation.copies", -1, "evaluation.copies=-1 must be"),
        ("head.distance.scale", -1.0, "head.distance.scale=-1.0 must be in"),
    ],
)
def test_values_out_of_range_are_refused_with_their_key(key, value, message):
    config = settings.default()
    part, name = key.rsplit(".", 1) if "." in key else ("", key)
    target = config
    for each in filter(None, part.split(".")):
        target = target[each]
    target[name] = value
    with pytest.raises(ValueError, match=message):
        settings.check(config)


def test_copies_need_an_augmentation():
    config = settings.default()
    config.augment.name, config.evaluation.copies = "none", 2
    with pytest.raises(ValueError, match="evaluation.copies=2 needs an augmentation"):
        settings.check(config)


def test_settings_missing_in_an_older_configuration_get_their_defaults():
    before = stored(settings.default())
    before["train"]["steps"] = 7
    del before["loss"]["info_nce"], before["data"]["variants"], before["augment"]["photo"]
    config = settings.read(before)
    assert config.train.steps == 7 and config.data.variants == 1
    assert [change.key for change in settings.changes(settings.default(), config)] == ["train.steps"]


def test_unknown_settings_and_wrong_types_are_refused():
    with pytest.raises(ValueError, match="data.planet is not a setting of this version"):
        settings.read({"data": {"planet": "mars"}})
    with pytest.raises(ValueError, match="not a configuration of this version"):
        settings.read({"train": {"steps": "many"}})
