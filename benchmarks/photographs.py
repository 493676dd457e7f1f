"""A recipe on all folds of a data set with an official protocol: each fold is judged by a network of its own.

    python benchmarks/photographs.py faces_front_profile --manual_dir FOLDER
    python benchmarks/photographs.py signatures --manual_dir FOLDER --folds 5
    python benchmarks/photographs.py faces_triplet --manual_dir FOLDER --set data.name=cfp batch.across_sources=True

The table gives means over the folds, with the standard deviation between them. It is printed after each fold; folds can
be trained one by one, with --first. LFW's ten folds without outside data take ten networks, because each may learn from
the people of the other nine only; a single network for all ten is possible only with outside data:
siamjax evaluate RUN --config.data.name=lfw --config.data.protocol=all.
"""

import argparse

import numpy as np
from launched import launch
from rich.console import Console
from rich.table import Table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="name of a configuration")
    parser.add_argument("--manual_dir", required=True, help="folder with the data set, as a zip file or unpacked")
    parser.add_argument("--data_dir", default="", help="folder for prepared data; default ~/tensorflow_datasets")
    parser.add_argument("--folds", type=int, default=10, help="how many to train")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings, such as train.steps=100")
    options = parser.parse_args()
    rows = []
    for fold in range(options.first, options.first + options.folds):
        rows.append(measure(fold, options))
        show(options.recipe, rows)


def show(recipe, rows):
    table = Table(title=f"{recipe}: {len(rows)} folds; %")
    for column in ("measure", "mean", "deviation", "folds"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for name in rows[0]:
        values = 100 * np.array([row[name] for row in rows])
        deviation = f"{values.std(ddof=1):.2f}" if len(values) > 1 else ""
        table.add_row(name, f"{values.mean():.2f}", deviation, " ".join(f"{value:.1f}" for value in values))
    Console(width=120).print(table)


def measure(fold, options):
    """The figures of one fold's protocols: {measure: 0..1}."""
    places = (f"data.manual_dir={options.manual_dir}", f"data.data_dir={options.data_dir}")
    run = launch(options.recipe, *places, *options.set, f"data.folder.fold={fold}")
    others = run.verification["protocols"]
    names = [name.removesuffix("_auc") for name in others if name.endswith("_auc")]
    return {name: run.results[name]["accuracy"] for name in names} | others


if __name__ == "__main__":
    main()
