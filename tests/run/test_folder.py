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
    assert (
        Run(workdir).title(config, {"best_step": 300, "best_accuracy": 0.5})
        == f"{workdir}: step 300, the last checkpoint, on people"
    )
    assert Run(workdir).about(config, "test", 300) == "run run, step 300; test data of people"
    config = default.get_config()
    config.data.name = "omniglot"
    assert Run(workdir).about(config, "test") == "run run; test data of omniglot (lake)"


def test_a_second_training_in_a_folder_is_refused_while_the_first_runs(tmp_path):
    first, second = Run(tmp_path / "run"), Run(tmp_path / "run")
    refused = pytest.raises(ValueError, match=r"workdir=.*run: another training runs in this folder")
    with first.locked(), refused, second.locked():
        pass
    with second.locked():
        pass


@pytest.mark.parametrize("name", ["checkpoints", "metrics.csv", "identities.json", "results.json"])
def test_no_configuration_is_written_into_a_folder_that_has_lost_its_own(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"{name} exists, but .*config.json does not: restore that file from a copy"):
        Run(tmp_path).check_resumable(default.get_config())


DECISION = {"threshold": 0.5, "slope": 2.0, "even": 0.5, "false_accepts": None}
ACCEPTS = {"pairs": 9, "identities": 3, "accepted": [0, 1], "threshold": [0.9, 0.8]}


@pytest.mark.parametrize(
    "changed,words",
    [
        ({"threshold": float("nan")}, "threshold=nan must be a finite number"),
        ({"even": "0.5"}, "even='0.5' must be a finite number"),
        ({"slope": -1.0}, "slope=-1.0 must not be negative"),
        ({"least": 0.6}, "least=0.6 and most=1.0 must be in 0 to 0.5, and in 0.5 to 1"),
        ({"familiar": {"low": [0.1] * 5, "high": [0.2] * 4 + [0.1]}}, "a range, low < high, of each of 5 numbers"),
        ({"familiar": {"low": [0.1], "high": [0.2]}}, "of each of 5 numbers"),
        ({"false_accepts": {**ACCEPTS, "accepted": [1, 0]}}, "increasing numbers of accepted pairs"),
        ({"false_accepts": {**ACCEPTS, "threshold": [0.9]}}, "a finite threshold for each number"),
    ],
)
def test_a_decision_that_cannot_be_is_refused(tmp_path, changed, words):
    figures = Run(tmp_path).figures
    figures.write_verification({"decision": {**DECISION, "false_accepts": ACCEPTS}})
    assert figures.decisions(0, 7)[0].slope == 2.0
    figures.write_verification({"decision": DECISION | changed})
    with pytest.raises(ValueError, match=f"verification.json is damaged.*{words}.*siamjax evaluate "):
        figures.decisions(0, 7)


def test_a_decision_belongs_to_the_checkpoint_that_was_evaluated(tmp_path):
    """Training may continue after an evaluation; a newer checkpoint needs its own threshold."""
    figures = Run(tmp_path).figures
    figures.write_verification({"decision": DECISION, "step": 30})
    assert list(figures.decisions(8, 30)) == [8] and figures.decisions(8, 40) == {}


def test_an_edited_file_is_refused_unless_its_digest_is_removed(tmp_path):
    Run(tmp_path).start(default.get_config(), {})
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(ValueError, match="config.json is damaged, or was edited"):
        _ = Run(tmp_path).settings
    edited = json.loads(path.read_text())
    del edited["digest"]
    path.write_text(json.dumps(edited))
    assert Run(tmp_path).settings.seed == 1


@pytest.mark.parametrize("name", ["identities.json", "results.json"])
@pytest.mark.parametrize("content", ["[1]", "{", '{"train": 5}', "\xff", "[" * 100_000])
def test_other_files_that_cannot_be_read_are_named(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        _ = Run(tmp_path).identities, Run(tmp_path).figures.results
