"""One run of launch.py, as a user would start it, with the files of its run folder."""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from siamjax.training import metrics  # noqa: E402


class Launched(NamedTuple):
    """`config`, `results` and `verification` from the JSON files of the run folder, `rows` of metrics.csv, and the
    duration in `seconds`."""

    config: dict
    results: dict
    verification: dict
    rows: list[dict]
    seconds: float


def launch(name: str, *settings: str) -> Launched:
    """Trains and evaluates configs/`name`.py with `settings`, such as "train.steps=100", in a temporary folder."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, ROOT / "launch.py", "--config", ROOT / "configs" / f"{name}.py"]
        start = time.monotonic()
        flags = [f"--config.{setting}" for setting in settings]
        subprocess.run([*command, "--workdir", workdir, *flags], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - start
        folder = pathlib.Path(workdir)
        files = [json.loads((folder / f"{file}.json").read_text()) for file in ("config", "results", "verification")]
        return Launched(*files, metrics.read(folder / "metrics.csv"), seconds)
