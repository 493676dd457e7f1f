"""Where figures are stored, depending on the settings that differ from those of the run."""

import json

import pytest

from configs import default, faces
from siamjax.run import Run


@pytest.fixture
def run(tmp_path):
    config = faces.get_config()
    config.data.folder.path = str(tmp_path / "one" / "people")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(config.to_json())
    return config, tmp_path / "run"


def evaluated(config, workdir):
    folder = Run(workdir).figures_of(config).folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results_config.json").write_text(config.to_json())
    return str(folder.relative_to(workdir))


def test_figures_are_stored_in_the_run_wherever_prepared_data_is_stored(run):
    config, workdir = run
    config.data.data_dir, config.data.stream, config.train.steps = "elsewhere", True, 7
    assert evaluated(config, workdir) == "."


def test_other_data_and_settings_have_their_own_folders(run, tmp_path):
    config, workdir = run
    config.data.folder.path = str(tmp_path / "two" / "people")
    assert evaluated(config, workdir) == "evaluations/people"
    config.data.folder.path = str(tmp_path / "three" / "people")
    assert evaluated(config, workdir) == evaluated(config, workdir) == "evaluations/people-2"
    config.evaluation.copies = 0
    assert evaluated(config, workdir) == "evaluations/people,evaluation.copies=0"
    config = faces.get_config()
    config.data.name = "omniglot"
    assert evaluated(config, workdir) == "evaluations/omniglot"


def test_settings_that_an_older_version_lacked_have_their_defaults(run):
    config, workdir = run
    saved = json.loads((workdir / "config.json").read_text())
    del saved["evaluation"]["copies"], saved["data"]["glyphs"]
    (workdir / "config.json").write_text(json.dumps(saved))
    assert evaluated(Run(workdir).settings, workdir) == "."
    assert config.evaluation.copies == 8 and evaluated(config, workdir) == "evaluations/evaluation.copies=8"


@pytest.mark.parametrize(
    "content,message",
    [("null", " is damaged .expected an object"), ('{"data": {"name": "gone"}}', ": data.name='gone'")],
)
def test_a_configuration_that_cannot_be_read_is_named(run, content, message):
    _, workdir = run
    (workdir / "config.json").write_text(content)
    with pytest.raises(ValueError, match=f"config.json{message}"):
        _ = Run(workdir).settings


def test_titles_name_the_run_its_checkpoint_and_the_data(run):
    config, workdir = run
    assert Run(workdir).title(config, 300) == f"{workdir}: step 300, the last checkpoint, on people"
    assert Run(workdir).about(config, "test", 300) == "run run, step 300; test data of people"
    config = default.get_config()
    config.data.name = "omniglot"
    assert Run(workdir).about(config, "test") == "run run; test data of omniglot (lake)"
