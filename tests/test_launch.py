"""launch.py in separate processes: small but real training runs."""

import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import compiling
import numpy as np
import orbax.checkpoint as ocp
import pytest

from siamjax.training import metrics

pytestmark = pytest.mark.thorough

ROOT = pathlib.Path(__file__).parents[1]
COMPILED = tempfile.TemporaryDirectory()
# Background processes ignore Ctrl-C (SIGINT), and children inherit that; launch.py must receive it.
INTERRUPTIBLE = """import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"""
SMALL = [
    "--config.data.size=20",
    "--config.data.glyphs.test_alphabets=2",
    "--config.encoder.name=conv4",
    "--config.encoder.width=8",
    "--config.encoder.embedding=32",
    "--config.augment.name=none",
    "--config.optimizer.adamw.learning_rate=5e-3",
    "--config.train.steps=120",
    "--config.train.validate_every=30",
    "--config.batch.identities=20",
    "--config.evaluation.trials=400",
    "--config.evaluation.validation_trials=400",
    "--config.evaluation.pairs=400",
]


def launch(*arguments, **kwargs):
    # Most tests compile the same programs: the cache compiles each once per test session.
    settings = {
        "XLA_FLAGS": compiling.for_child(),
        "JAX_COMPILATION_CACHE_DIR": COMPILED.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-c", INTERRUPTIBLE, str(ROOT / "launch.py"), *map(str, arguments)]
    return subprocess.Popen(
        command, env=os.environ | settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs
    )


def finish(process, timeout=500):
    output, errors = process.communicate(timeout=timeout)
    return process.returncode, output, errors


def parameters(workdir):
    manager = ocp.CheckpointManager(workdir / "checkpoints" / "latest")
    restored = manager.restore(manager.latest_step(), args=ocp.args.Composite(state=ocp.args.StandardRestore()))
    return restored.state


def flat(tree, prefix=""):
    if isinstance(tree, dict):
        return {name: value for key, part in tree.items() for name, value in flat(part, f"{prefix}/{key}").items()}
    if isinstance(tree, (list, tuple)):
        return flat(dict(enumerate(tree)), prefix)
    return {prefix: np.asarray(tree)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "whole"
    code, output, errors = finish(launch("--workdir", workdir, *SMALL))
    assert code == 0, errors
    return workdir, output


def test_a_run_writes_all_files_of_the_readme(finished):
    workdir, output = finished
    for name in ("config.json", "metrics.csv", "results.json", "report/curves.png", "report/trials.png"):
        assert (workdir / name).stat().st_size > 0, name
    assert b"koch_400_trials" in (workdir / "report" / "index.html").read_bytes()
    started = json.loads((workdir / "started.json").read_text())
    assert started["command"] == shlex.join(["python", "launch.py", "--workdir", str(workdir), *SMALL])
    assert list((workdir / "tensorboard").glob("events.*"))
    rows = metrics.read(workdir / "metrics.csv")
    assert [row["step"] for row in rows] == list(range(10, 130, 10))
    assert [row["step"] for row in rows if "validation_one_shot" in row] == [30, 60, 90, 120]
    results = json.loads((workdir / "results.json").read_text())
    expected = {"verification", "within_alphabet_20way_1shot", "koch_400_trials"}
    expected |= {"validation_within_alphabet_20way_1shot"}
    expected |= {f"between_{ways}way_{shots}" for ways in (5, 20) for shots in ("1shot", "5shot", "5shot_prototypes")}
    assert set(results) == expected
    for name, row in results.items():
        assert row["trials"] == 400 and row["seed"] == 0, name
        if row["over"] == "identities":
            assert row["units"] == 52 and row["ci95"][0] < row["accuracy"] < row["ci95"][1], name
        else:  # Two units are too few for an interval.
            assert (row["over"], row["units"], row["ci95"]) == ("alphabets", 2, None), name
        assert name in output
    # Well above chance (5 and 20 %) on unseen alphabets, so it learned.
    assert results["within_alphabet_20way_1shot"]["accuracy"] > 0.15
    assert results["between_5way_1shot"]["accuracy"] > 0.4


def test_evaluation_needs_only_the_run_folder_and_reproduces_its_figures(finished, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / "moved")
    before = json.loads((workdir / "results.json").read_text())
    code, _, errors = finish(launch("--mode", "evaluate", "--workdir", workdir))
    assert code == 0, errors
    assert json.loads((workdir / "results.json").read_text()) == before


def test_figures_for_other_settings_are_stored_in_their_own_folder(finished, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / "moved")
    files = [path for path in workdir.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    code, output, errors = finish(launch("--mode=evaluate", f"--workdir={workdir}", "--config.evaluation.seed=1"))
    assert code == 0, errors
    own = workdir / "evaluations" / "evaluation.seed=1"
    assert f"evaluation.seed differ(s) from the run's training: figures are stored in {own}" in output
    assert json.loads((own / "results.json").read_text())["verification"]["seed"] == 1
    assert json.loads((own / "results_config.json").read_text())["evaluation"]["seed"] == 1
    assert (own / "verification.json").exists() and (own / "report" / "trials.png").exists()
    assert {path: path.read_bytes() for path in files} == before


def test_a_finished_run_is_neither_trained_nor_evaluated_again(finished, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / "moved")
    results = (workdir / "results.json").read_bytes()
    code, output, errors = finish(launch("--workdir", workdir))
    assert code == 0, errors
    assert "training is complete, at step 120" in output and "evaluated" in output and "koch_400_trials" in output
    assert "compil" not in output and "trials.png" not in output
    saved = json.loads((workdir / "verification.json").read_text())
    del saved["digest"]
    (workdir / "verification.json").write_text(
        json.dumps({**saved, "step": 30})
    )  # As if evaluated before training ended.
    (workdir / "results.json").write_text("{}")
    code, output, errors = finish(launch("--workdir", workdir))
    assert code == 0, errors
    assert (workdir / "results.json").read_bytes() == results


def test_mnist_test_files_alone_are_evaluated_with_the_threshold_of_the_run(finished, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / "moved")
    rng, digits = np.random.default_rng(0), tmp_path / "digits"
    digits.mkdir()
    (digits / "t10k-images-idx3-ubyte").write_bytes(bytes(16) + rng.bytes(10_000 * 28 * 28))
    label = (np.arange(10_000) % 10).astype(np.uint8)
    (digits / "t10k-labels-idx1-ubyte").write_bytes(bytes(8) + label.tobytes())
    mnist = ("--config.data.name=mnist", f"--config.data.manual_dir={digits}")
    code, output, errors = finish(launch("--mode=evaluate", f"--workdir={workdir}", *mnist))
    assert code == 0, errors
    assert "verified with the threshold of the run" in output
    results = json.loads((workdir / "evaluations" / "mnist" / "results.json").read_text())
    assert set(results) == {
        "verification",
        *(f"between_10way_{shots}" for shots in ("1shot", "5shot", "5shot_prototypes")),
    }


def test_a_different_configuration_does_not_overwrite_a_run(finished):
    workdir, _ = finished
    code, _, errors = finish(launch("--workdir", workdir, "--config.seed=5"))
    assert code == 1
    assert "seed was 0, now 5" in errors and "a new workdir" in errors and "Traceback" not in errors
    assert f"--config.train.start={workdir}" in errors


def test_killed_runs_resume_bit_identically(finished, tmp_path):
    """SIGKILL while compiling, between checkpoints and right after one; the result is that of an uninterrupted run."""
    whole, _ = finished
    workdir = tmp_path / "killed"

    def logged(step):
        return any(row["step"] >= step for row in metrics.read(workdir / "metrics.csv"))

    def saved(step):
        names = [path.name for path in (workdir / "checkpoints" / "latest").glob("*")]
        return any(name.isdigit() and int(name) >= step for name in names)

    moments = [
        lambda: (workdir / "config.json").exists(),
        lambda: logged(40),
        lambda: saved(90),
    ]
    for moment in moments:
        process = launch("--workdir", workdir, *SMALL)
        deadline = time.monotonic() + 300
        while not moment() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None, finish(process)
        process.send_signal(signal.SIGKILL)
        finish(process)
    code, _, errors = finish(launch("--workdir", workdir))  # Uses the configuration in the folder.
    assert code == 0, errors
    results = [json.loads((folder / "results.json").read_text()) for folder in (whole, workdir)]
    assert results[0] == results[1]  # Of the best checkpoint.
    expected, got = (flat(parameters(folder)) for folder in (whole, workdir))
    assert set(expected) == set(got) and len(expected) > 20
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
    for rows in zip(*(metrics.read(folder / "metrics.csv") for folder in (whole, workdir)), strict=True):
        for name in ("step", "loss", "gradient_norm", "validation_one_shot"):
            assert rows[0].get(name) == rows[1].get(name)


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["--config.train.steps=many"], ["--config.train.steps=many: expected a whole number, such as --config.train"]),
        (["--config", "configs/absent.py"], ["configs/absent.py not found", "configs/quickstart.py"]),
        (["--workdir=WORKDIR/file/run"], ["workdir=", "file is a file; choose another folder"]),
        (["--workdir=WORKDIR/broken"], ["broken/config.json is damaged", "another workdir"]),
        (["--config=WORKDIR/bad.py"], ["ZeroDivisionError: division by zero", "bad.py"]),
        (["--workdri=x"], ["workdri", "workdir"]),
        (["train"], ["'train'", "--config.KEY=VALUE"]),
        (["--config.encoder.name=resnet"], ["encoder.name='resnet'", "koch"]),
        (["--config.data.size=7"], ["at least 8×8 pixels", "data.size"]),
        (["--mode=evaluate", "--workdir=WORKDIR/none"], ["none has no checkpoint"]),
    ],
)
def test_a_mistake_is_reported_in_one_line(arguments, words, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "bad.py").write_text("1 / 0")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"seed": 0, "data": {')
    arguments = [argument.replace("WORKDIR", str(tmp_path)) for argument in arguments]
    if "--workdir" not in arguments[-1]:
        arguments += ["--workdir", str(tmp_path / "run")]
    code, _, errors = finish(launch(*arguments, cwd=ROOT))
    assert code == 1
    assert errors.startswith("launch.py: ") and len(errors.strip().splitlines()) == 1, errors
    for word in words:
        assert word in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "moment,told",
    [
        ("config.json", "interrupted before the first checkpoint; the same command starts from the beginning"),
        ("checkpoints/latest/[0-9]?", "interrupted; the same command resumes from the latest checkpoint"),
    ],
)
def test_an_interrupted_run_reports_how_to_resume(moment, told, tmp_path):
    process = launch("--workdir", tmp_path / "run", *SMALL)
    while not list((tmp_path / "run").glob(moment)):
        assert process.poll() is None, finish(process)
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    code, _, errors = finish(process)
    assert code == 130
    assert errors.strip() == f"launch.py: {told}"


def test_help_describes_flags_and_settings():
    code, output, _ = finish(launch("--help"))
    assert code in (0, 1)
    for words in ("--workdir", "--mode", "configs/koch_omniglot.py", "--config.KEY=VALUE"):
        assert words in output
