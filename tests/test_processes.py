"""Two processes on this machine train like one process with two devices, and stop and resume together."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import compiling
import numpy as np
import pytest
from PIL import Image

from configs import quickstart
from siamjax import parallel
from siamjax.train import train
from siamjax.training import metrics

pytestmark = pytest.mark.thorough

ROOT = pathlib.Path(__file__).parents[1]
COMPILED = tempfile.TemporaryDirectory()
SMALL = [
    "--config.data.size=16",
    "--config.data.glyphs.test_alphabets=1",
    "--config.encoder.name=conv4",
    "--config.encoder.width=4",
    "--config.encoder.embedding=16",
    "--config.augment.name=none",
    "--config.optimizer.adamw.learning_rate=5e-3",
    "--config.train.steps=40",
    "--config.train.validate_every=20",
    "--config.batch.identities=8",
    "--config.batch.per_group=4",
    "--config.evaluation.trials=100",
    "--config.evaluation.validation_trials=100",
    "--config.evaluation.pairs=100",
]


def launch(workdir, *arguments, devices=1):
    clusters = ("SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri")  # The tests themselves may run on a cluster.
    environment = {name: value for name, value in os.environ.items() if name not in clusters}
    settings = {
        "XLA_FLAGS": compiling.for_child(devices),
        "JAX_COMPILATION_CACHE_DIR": COMPILED.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, str(ROOT / "launch.py"), "--workdir", str(workdir), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment | settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def launch_two(workdir, *arguments, own=((), ())):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    return [
        launch(workdir, "--coordinator", place, "--processes", 2, "--process", number, *arguments, *own[number])
        for number in range(2)
    ]


def finish(process, timeout=300):
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders of one process with two devices and of two processes with one device each, and what these printed.

    Process 1 is killed after the first checkpoint; then the same commands resume and finish the run.
    """
    root = tmp_path_factory.mktemp("processes")
    alone = launch(root / "one", *SMALL, devices=2)
    two = launch_two(root / "two", *SMALL)
    deadline = time.monotonic() + 300
    while not (root / "two" / "checkpoints" / "latest" / "20").exists() and time.monotonic() < deadline:
        assert all(process.poll() is None for process in two), [finish(process) for process in two]
        time.sleep(0.02)
    two[1].send_signal(signal.SIGKILL)
    finish(two[1])
    broken = finish(two[0], timeout=120)
    for process in [alone, *launch_two(root / "two", *SMALL)]:
        code, output, errors = finish(process)
        assert code == 0, errors
    return root / "one", root / "two", broken, output


def test_if_a_process_dies_the_other_stops_with_a_message(runs):
    _, _, (code, _, errors), _ = runs
    assert code == 1
    assert "launch.py: process 0 of 2 stopped, most likely because another one ended" in errors
    assert "Run the same command on all of them to resume" in errors and "Traceback" not in errors


def test_two_processes_give_the_numbers_of_one_even_after_kill_and_resume(runs):
    """Bit-identical on CPU: each device has the same share of every batch, and a sum of two numbers does not depend on
    their order."""
    one, two, *_ = runs
    rows = [metrics.read(folder / "metrics.csv") for folder in (one, two)]
    assert [row["step"] for row in rows[1]] == [10, 20, 30, 40]
    for alone, together in zip(*rows, strict=True):
        for name in ("step", "loss", "gradient_norm", "pair_accuracy", "validation_one_shot"):
            assert alone.get(name) == together.get(name), name
    results = [json.loads((folder / "results.json").read_text()) for folder in (one, two)]
    assert len(results[0]) == 10 and results[0] == results[1]


def test_only_the_main_process_writes_and_prints(runs):
    _, two, _, output = runs  # The output of process 1.
    assert output == ""  # Not even messages of Gloo.
    assert len(list((two / "tensorboard").glob("events.*"))) == 2  # One per start.
    assert (two / "report" / "trials.png").stat().st_size > 0


@pytest.mark.parametrize(
    "place",
    [
        (None, 2, None),
        ("127.0.0.1", 2, 0),
        ("127.0.0.1:7000", 2, 2),
        ("127.0.0.1:7000", None, 0),
        ("auto", 2, 0),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(place):
    with pytest.raises(ValueError, match="--coordinator=HOST:PORT of process 0, --processes=N and --process=0..N-1"):
        parallel.start(*place)


def test_a_process_with_a_different_configuration_is_refused_with_the_difference(tmp_path, monkeypatch):
    there = quickstart.get_config()
    there.seed = 9
    monkeypatch.setattr(parallel, "from_main", lambda function: there.to_json())  # What process 0 has.
    with pytest.raises(ValueError, match="process 0 runs a different configuration: seed is 9 there, 0 here"):
        train(quickstart.get_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_process_with_other_images_under_the_same_names_is_refused(tmp_path):
    for number in range(2):
        rng = np.random.default_rng(0)
        for image in range(20):
            place = tmp_path / str(number) / f"person {image // 2}" / f"{image % 2}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (16, 16), np.uint8)
            pixels[0, 0] ^= number
            Image.fromarray(pixels).save(place)
    folder = ["--config.data.name=folder", f"--config.data.data_dir={tmp_path / 'cache'}"]
    paths = [[f"--config.data.folder.path={tmp_path / str(number)}"] for number in range(2)]
    processes = launch_two(tmp_path / "run", *SMALL, *folder, own=paths)
    code, _, errors = finish(processes[1], timeout=120)
    assert code == 1
    assert errors.startswith("launch.py: the test data differs from that of process 0, with equal settings: let all")
    assert len(errors.strip().splitlines()) == 1, errors
    code, _, errors = finish(processes[0], timeout=120)
    assert code == 1 and "Traceback" not in errors
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_missing_cluster_is_reported_in_one_line(tmp_path):
    code, _, errors = finish(launch(tmp_path / "run", "--coordinator=auto"))
    assert code == 1
    assert errors.startswith("launch.py: ") and len(errors.strip().splitlines()) == 1, errors
    assert "neither SLURM, a TPU pod nor Open MPI" in errors
    assert not (tmp_path / "run").exists()
