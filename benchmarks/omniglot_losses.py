"""One encoder trained on Omniglot with one loss after another, for the same number of steps on the same batches.

    python benchmarks/omniglot_losses.py --manual_dir FOLDER --json rows.json

Runs configs/omniglot_LOSS.py of every loss, and configs/omniglot.py (cross-entropy under the weighted-L1 head).
Accuracy is on 10,000 one-shot trials within the five validation alphabets, for the network of the last step and the
untrained one.
"""

import argparse
import json
import pathlib

import jax
import ml_collections
import optax
from launched import launch
from rich.console import Console
from rich.table import Table

LOSSES = ("angular", "contrastive", "multi_similarity", "ntxent", "supcon", "triplet")
CONFIGS = ["omniglot", *(f"omniglot_{loss}" for loss in LOSSES)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=CONFIGS, choices=CONFIGS)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--manual_dir", default="", help="folder with Omniglot's archives; downloaded if not given")
    parser.add_argument("--data_dir", default="", help="folder for prepared data; default ~/tensorflow_datasets")
    parser.add_argument("--json", metavar="FILE", help="file to write the rows to")
    options = parser.parse_args()
    rows = [measure(name, options) for name in options.configs]
    rows.sort(key=lambda row: -row["trained"])
    table = Table(title=f"20-way one-shot within validation alphabets, {options.steps} steps, seed {options.seed}")
    for column in ("loss", "head", "untrained %", "trained %", "seconds"):
        table.add_column(column, justify="left" if column in ("loss", "head") else "right")
    for row in rows:
        percent = (f"{100 * row[key]:.1f}" for key in ("untrained", "trained"))
        table.add_row(row["loss"], row["head"], *percent, f"{row['seconds']:.0f}")
    Console(width=110).print(table)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=1))


def measure(name, options):
    """Trains configs/`name`.py and returns its row of the table."""
    run = launch(
        name,
        f"data.manual_dir={options.manual_dir}",
        f"data.data_dir={options.data_dir}",
        f"seed={options.seed}",
        f"train.steps={options.steps}",
        f"train.validate_every={options.steps}",
    )
    return {
        "loss": run.config["loss"]["name"],
        "head": run.config["head"]["name"],
        "untrained": untrained(run.config),
        "trained": run.results["validation_within_alphabet_20way_1shot"]["accuracy"],
        "seconds": run.seconds,
    }


def untrained(config):
    """Accuracy of the untrained network on the same trials, with its initial running statistics."""
    from siamjax import data
    from siamjax.evaluation import one_shot
    from siamjax.network import Network
    from siamjax.run import parts
    from siamjax.training import state

    config = ml_collections.ConfigDict(config)
    validation = data.load(config.data, train=False)["validation"]
    model = parts.make_model(config)
    weights_key, _ = jax.random.split(jax.random.key(config.seed))
    start = state.create(model, weights_key, validation.images.shape[1:], optax.identity())
    scorer = Network(model, start.params, start.batch_stats)
    settings = config.evaluation
    trials = one_shot.within_group(validation, trials=settings.trials, ways=settings.ways, seed=settings.seed)
    return float(one_shot.right(scorer.score_trials(scorer.embed(validation.images), trials), trials.answer).mean())


if __name__ == "__main__":
    main()
