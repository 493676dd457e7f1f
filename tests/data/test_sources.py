"""The records of the data sources: which evaluators judge them, and what they say about their images."""

import subprocess
import sys

import numpy as np
import pytest

from configs import default
from siamjax import data
from siamjax.data import SOURCES, Dataset, Source

ALPHABETS = ("verification", "within_group", "koch_400_trials", "validation_within_group")
OFFICIAL = ("run_alphabets", "official_runs", "tutorial_20_pairs")
OWN_CHANNELS = ("folder", "pairs", "tfds", "cfp", "lfw", "cedar")
OWN = ("verification", "identification", "retrieval", "open_set")


def settings(name, splits="lake"):
    config = default.get_config().data
    config.name, config.splits = name, splits
    return config


@pytest.mark.parametrize(
    ("name", "splits", "expected"),
    [
        ("glyphs", "", (*ALPHABETS, "between_groups")),
        ("mnist", "", (*ALPHABETS, "between_groups")),
        ("omniglot", "lake", (*ALPHABETS, *OFFICIAL, "between_groups")),
        ("omniglot", "choose", (*ALPHABETS, "between_groups")),
        ("omniglot", "small1", (*ALPHABETS, *OFFICIAL, "between_groups")),
        ("omniglot", "background", (*ALPHABETS, *OFFICIAL, "between_groups")),
        ("omniglot", "longtail", ("verification", "reidentification")),
        ("folder", "", OWN),
        ("tfds", "", OWN),
    ],
)
def test_evaluators(name, splits, expected):
    assert SOURCES[name].evaluators(settings(name, splits)) == expected


def test_trials_on_validation_alphabets_that_were_seen_are_skipped_with_a_reason():
    skipped = {splits: SOURCES["omniglot"].skipped(settings("omniglot", splits)) for splits in ("lake", "choose")}
    assert skipped["lake"] == {}
    assert skipped["choose"] == {"validation_within_group": "the split 'choose' tests on its validation alphabets"}
    background = SOURCES["omniglot"].skipped(settings("omniglot", "background"))
    assert "trains on its validation alphabets" in background["validation_within_group"]


def test_the_tutorials_trials_need_all_evaluation_alphabets():
    skipped = SOURCES["omniglot"].skipped(settings("omniglot", "koch"))
    assert skipped == {"tutorial_20_pairs": "the split 'koch' tests on 10 of the 20 evaluation alphabets"}


def test_own_images_have_the_channels_and_ink_of_their_settings_and_alphabets_are_grey_ink():
    for name in SOURCES.keys() - {"arrays"}:
        config = settings(name)
        config.folder.channels, config.folder.invert = 3, False
        expected = (3, name == "cedar") if name in OWN_CHANNELS else (1, True)
        assert (SOURCES[name].channels(config), SOURCES[name].invert(config)) == expected


def test_a_run_on_other_splits_is_warned_of_alphabets_in_common():
    trained = settings("omniglot", "small1")
    assert SOURCES["omniglot"].overlap(trained, trained) == ""
    assert "trained on the split 'small1', evaluated on 'lake'" in SOURCES["omniglot"].overlap(
        trained, settings("omniglot")
    )


def test_mnist_is_not_trained_on():
    with pytest.raises(ValueError, match="data.name='mnist' is evaluation-only: use it with siamjax evaluate"):
        data.load(settings("mnist"))


def test_square_images_have_no_width_of_their_own():
    for name, turns in (("omniglot", 1), ("glyphs", 1), ("folder", 4)):
        config = settings(name)
        config.width, config.turns = 40, turns
        with pytest.raises(ValueError, match=f"data.width=40: .*'{name}' with data.turns={turns} needs square images"):
            data.load(config)


def test_a_source_can_be_added_from_outside(monkeypatch):
    number = np.arange(4, dtype=np.int32)
    dots = Dataset(np.zeros((4, 2, 2, 1), np.uint8), number // 2, number // 4, number % 2, ("dots",))
    added = Source(lambda config, train: {"test": dots}, lambda config: "dots", lambda config: ("verification",))
    monkeypatch.setitem(SOURCES, "dots", added)
    assert data.load(settings("dots"))["test"] is dots
    with pytest.raises(
        ValueError, match="data.name='marks' is not known; choose one of arrays, cedar, cfp, dots, folder"
    ):
        data.load(settings("marks"))


def test_importing_the_sources_is_light():
    program = "import sys, siamjax.data.sources; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow_datasets", "array_record", "matplotlib", "flax", "sklearn", "requests"} & set(modules)
