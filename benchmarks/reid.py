"""The recipe of configs/reid_longtail.py compared with triplets and NT-Xent, the same network on the same data.

    python benchmarks/reid.py --manual_dir FOLDER --minutes 4

Each trains for the number of steps that fit into that time, estimated from a short run. Queries of a long-tailed subset
of Omniglot are identified, or called "new": MAP@5, with the threshold for "new" fitted on validation queries.
"""

import argparse

from launched import launch
from rich.console import Console
from rich.table import Table

_EMBEDDINGS = ("batch.mode=identities", "batch.identities=64", "batch.per_identity=4", "head.name=distance")
RECIPES = {
    "assigned pairs, four features": (),
    "assigned pairs, weighted L1": ("head.name=weighted_l1",),
    "random pairs, four features": ("batch.assigned.noise=1e6", "batch.assigned.decay=1.0"),
    "batch-hard triplets": (*_EMBEDDINGS, "loss.name=batch_hard_triplet", "encoder.unit_length=True"),
    "NT-Xent": (*_EMBEDDINGS, "loss.name=ntxent", "encoder.unit_length=True", "head.distance.distance=cosine"),
}
_COLUMNS = ("map_at_5", "map_at_5_of_known", "map_at_5_of_new", "rank_1_of_known")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--manual_dir", default="", help="folder with Omniglot's archives; downloaded if not given")
    parser.add_argument("--data_dir", default="", help="folder for prepared data; default ~/tensorflow_datasets")
    options = parser.parse_args()
    table = Table(title=f"long-tailed Omniglot, {options.minutes:g} minutes of training each, seed 0; %")
    for column in ("recipe", "steps", *_COLUMNS):
        table.add_column(column, justify="left" if column == "recipe" else "right")
    for name in options.recipes:
        steps, figures = measure(RECIPES[name], options)
        table.add_row(name, str(steps), *(f"{100 * figures[column]:.1f}" for column in _COLUMNS))
        Console(width=130).print(table)


def measure(changes, options):
    """The number of steps, and the measures of the test queries."""
    places = (f"data.manual_dir={options.manual_dir}", f"data.data_dir={options.data_dir}")

    def train(steps):
        return launch("reid_longtail", *places, *changes, f"train.steps={steps}")

    rows = train(320).rows
    between = [row["seconds"] for row in rows if row["step"] in (160, 320)]
    steps = max(1, round(60 * options.minutes / (between[1] - between[0]))) * 160
    return steps, train(steps).verification["retrieval"]


if __name__ == "__main__":
    main()
