"""What each part of configs/omniglot_fast.py is worth: the recipe with one thing changed at a time, in the same time.

    python benchmarks/omniglot_recipe.py --manual_dir FOLDER --minutes 1

Every variant trains on 25 background alphabets for as many steps as it takes in that time, after a short run that tells
its speed. Accuracy is on 10,000 one-shot trials within the five other ones, without and with 8 distorted copies.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from rich.console import Console
from rich.table import Table

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from siamjax.training import metrics  # noqa: E402

VARIANTS = {
    "the recipe": (),
    "no turned alphabets": ("data.turns=1",),
    "turned and mirrored": ("data.turns=8",),
    "no running mean of weights": ("optimizer.average=0.0",),
    "no distortion": ("augment.name=none",),
    "bends": ("augment.affine.bend=0.015",),
    "pen": ("augment.affine.pen=0.5",),
    "learning rate 2e-3": ("optimizer.adamw.learning_rate=2e-3",),
    "temperature 0.05": ("loss.ntxent.temperature=0.05",),
    "temperature 0.1": ("loss.ntxent.temperature=0.1",),
    "three alphabets a batch": ("batch.identities=60",),
    "one alphabet, 8 drawers": ("batch.identities=20", "batch.per_identity=8"),
    "no distractors of one alphabet": ("batch.per_group=2",),
    "supervised_contrastive": ("loss.name=supervised_contrastive",),
    "multi_similarity": ("loss.name=multi_similarity",),
    "batch_hard_triplet": ("loss.name=batch_hard_triplet",),
    "width 16": ("encoder.width=16",),
    "width 32": ("encoder.width=32",),
    "conv5": ("encoder.name=conv5", "encoder.width=32"),
    "resnet12": ("encoder.name=resnet12", "encoder.width=16"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--manual_dir", default="", help="folder with Omniglot's archives; downloaded if not given")
    parser.add_argument("--data_dir", default="", help="where prepared data lies; default ~/tensorflow_datasets")
    options = parser.parse_args()
    table = Table(title=f"20-way one-shot within validation alphabets, {options.minutes:g} minutes each, seed 0")
    for column in ("variant", "steps", "plain %", "8 copies %"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name in options.variants:
        steps, plain, copies = measure(VARIANTS[name], options)
        table.add_row(name, str(steps), f"{100 * plain:.1f}", f"{100 * copies:.1f}")
        Console(width=110).print(table)


def measure(changes, options):
    """Steps, and accuracy without and with copies, of the recipe with `changes`."""
    short = 60
    _, rows = launch((*changes, f"train.steps={short}", "train.log_every=20", "evaluation.copies=0"), short, options)
    seconds = rows[-1]["seconds"] - rows[0]["seconds"]
    steps = max(100, int(60 * options.minutes * (rows[-1]["step"] - rows[0]["step"]) / seconds) // 100 * 100)
    return steps, *launch((*changes, f"train.steps={steps}", "evaluation.copies=8"), steps, options)[0]


def launch(settings, steps, options):
    """((accuracy at the last validation, of the evaluation), rows of metrics) of one run."""
    settings = (
        *settings,
        "data.splits=lake",
        f"data.manual_dir={options.manual_dir}",
        f"data.data_dir={options.data_dir}",
        f"train.validate_every={steps}",
        "evaluation.validation_trials=10000",
    )
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, ROOT / "launch.py", "--config", ROOT / "configs" / "omniglot_fast.py"]
        settings = [f"--config.{setting}" for setting in settings]
        subprocess.run([*command, "--workdir", workdir, *settings], check=True, stdout=subprocess.DEVNULL)
        results = json.loads((pathlib.Path(workdir) / "results.json").read_text())
        rows = metrics.read(pathlib.Path(workdir) / "metrics.csv")
    return (rows[-1]["validation_one_shot"], results["validation_within_alphabet_20way_1shot"]["accuracy"]), rows


if __name__ == "__main__":
    main()
