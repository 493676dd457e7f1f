"""The contribution of each part of configs/omniglot_fast.py: the recipe with one change at a time.

    python benchmarks/omniglot_recipe.py --manual_dir FOLDER --minutes 1
    python benchmarks/omniglot_recipe.py --manual_dir FOLDER --steps 500

Every variant trains on 25 background alphabets, for the number of steps that fit into that time, estimated from a short
run, or for so many steps, which do not depend on what else the machine does. Accuracy is on 10,000 one-shot trials
within the five other alphabets, without and with 8 distorted copies.
"""

import argparse

from launched import launch
from rich.console import Console
from rich.table import Table

_VECTOR = (
    "encoder.name=pyramid",
    "encoder.width=20",
    "encoder.embedding=256",
    "encoder.unit_length=True",
    "head.name=distance",
    "head.distance.distance=cosine",
)
VARIANTS = {
    "the recipe": (),
    "no rotated alphabets": ("data.turns=1",),
    "rotated and mirrored": ("data.turns=8",),
    "no EMA of weights": ("optimizer.average=0.0",),
    "no distortion": ("augment.name=none", "evaluation.copies=0"),
    "bends": ("augment.affine.bend=0.015",),
    "pen": ("augment.affine.pen=0.5",),
    "learning rate 2e-3": ("optimizer.adamw.learning_rate=2e-3",),
    "three alphabets per batch": ("batch.identities=60",),
    "one alphabet, 8 drawers": ("batch.identities=20", "batch.per_identity=8"),
    "no distractors of one alphabet": ("batch.per_group=2",),
    "descriptors at the same place": ("head.aligned.reach=0",),
    "descriptors up to two steps away": ("head.aligned.reach=2",),
    "width 24": ("encoder.width=24",),
    "64 channels per descriptor": ("encoder.embedding=3136",),
    "one vector, ntxent": (*_VECTOR, "loss.name=ntxent"),
    "one vector, supervised_contrastive": (*_VECTOR, "loss.name=supervised_contrastive"),
    "one vector, multi_similarity": (*_VECTOR, "loss.name=multi_similarity"),
    "one vector, batch_hard_triplet": (*_VECTOR, "loss.name=batch_hard_triplet"),
    "conv5, ntxent": (*_VECTOR, "encoder.name=conv5", "encoder.width=32", "loss.name=ntxent"),
    "resnet12, ntxent": (*_VECTOR, "encoder.name=resnet12", "encoder.width=16", "loss.name=ntxent"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=0, help="in place of minutes")
    parser.add_argument("--manual_dir", default="", help="folder with Omniglot's archives; downloaded if not given")
    parser.add_argument("--data_dir", default="", help="folder for prepared data; default ~/tensorflow_datasets")
    options = parser.parse_args()
    length = f"{options.steps} steps" if options.steps else f"{options.minutes:g} minutes"
    table = Table(title=f"20-way one-shot within validation alphabets, {length} each, seed 0")
    for column in ("variant", "steps", "plain %", "8 copies %"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name in options.variants:
        steps, plain, copies = measure(VARIANTS[name], options)
        table.add_row(name, str(steps), f"{100 * plain:.1f}", f"{100 * copies:.1f}")
        Console(width=110).print(table)


def measure(changes, options):
    """The number of steps, and accuracy without and with copies, of the recipe with `changes`."""
    steps = options.steps or steps_of(changes, options)
    run = train(("evaluation.copies=8", *changes, f"train.steps={steps}"), steps, options)
    return steps, run.rows[-1]["validation_one_shot"], run.results["within_alphabet_20way_1shot"]["accuracy"]


def steps_of(changes, options):
    """The number of steps, in hundreds, that fit into the minutes."""
    short = 60
    rows = train((*changes, f"train.steps={short}", "train.log_every=20", "evaluation.copies=0"), short, options).rows
    seconds = rows[-1]["seconds"] - rows[0]["seconds"]
    return max(100, int(60 * options.minutes * (rows[-1]["step"] - rows[0]["step"]) / seconds) // 100 * 100)


def train(settings, steps, options):
    return launch(
        "omniglot_fast",
        *settings,
        "data.splits=choose",
        f"data.manual_dir={options.manual_dir}",
        f"data.data_dir={options.data_dir}",
        f"train.validate_every={steps}",
        "evaluation.validation_trials=10000",
    )


if __name__ == "__main__":
    main()
