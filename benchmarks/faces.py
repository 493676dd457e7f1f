"""Face recipes, cross-validated over identities: each fifth of them is the test set of a network trained on the others.

    python benchmarks/faces.py --folder FOLDER
    python benchmarks/faces.py --folder FOLDER --recipes faces_lfw --set \
        train.start=runs/faces_lfw train.steps=100 optimizer.adamw.learning_rate=1e-3

The table gives means over the folds, with the standard deviation between them.
"""

import argparse

import numpy as np
from launched import launch
from rich.console import Console
from rich.table import Table

RECIPES = ("faces_contrastive", "faces_triplet", "faces_binary", "faces")
FOLDS = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, help="folder with a subfolder for each identity")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="names of configurations")
    parser.add_argument("--data_dir", default="", help="folder for prepared data; default ~/tensorflow_datasets")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings, such as train.steps=100")
    options = parser.parse_args()
    table = Table(title=f"{options.folder}: {FOLDS} folds of identities, seed 0; %")
    for column in ("recipe", "verification", "AUC", "EER", "1-shot identification", "recall@1"):
        table.add_column(column, justify="left" if column == "recipe" else "right")
    for recipe in options.recipes:
        rows = np.array([measure(recipe, fold, options) for fold in range(FOLDS)])
        cells = [
            f"{100 * mean:.1f} ± {100 * spread:.1f}" for mean, spread in zip(rows.mean(0), rows.std(0), strict=True)
        ]
        table.add_row(recipe, *cells)
        Console(width=110).print(table)


def measure(recipe, fold, options):
    places = ("data.name=folder", f"data.folder.path={options.folder}", f"data.data_dir={options.data_dir}")
    run = launch(recipe, *places, *options.set, f"data.folder.fold={fold}")
    identification = next(row for name, row in run.results.items() if name.startswith("identification_test"))
    test, retrieval = run.verification["test"], run.verification["retrieval"]
    accuracies = (run.results["verification"]["accuracy"], identification["accuracy"])
    return accuracies[0], test["auc"], test["eer"], accuracies[1], retrieval["recall_at_1"]


if __name__ == "__main__":
    main()
