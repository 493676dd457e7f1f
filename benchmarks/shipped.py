"""Makes a network that comes with siamjax from a run on Omniglot: weights, decisions, scores for the demo, and a card.

    python benchmarks/shipped.py RUN omniglot-fast --manual_dir FOLDER

Its decisions, with copies and without, are fitted to 10,000 pairs of the 20 evaluation alphabets, as the run saw all
others: its verification accuracy on those is no test figure. The scores are of the pairs in the official runs' trials.
"""

import argparse
import json
import os
import pathlib
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from siamjax import host

host.tune()

import numpy as np  # noqa: E402

from siamjax import Network  # noqa: E402
from siamjax.data import omniglot  # noqa: E402
from siamjax.evaluation import drawn, official_runs  # noqa: E402
from siamjax.run import parts  # noqa: E402

_BINS = 48
_FIGURES = {
    "official_runs": "20-way one-shot, Lake's 20 official runs (400 trials)",
    "within_alphabet_20way_1shot": "20-way one-shot, 10,000 random trials within the 20 evaluation alphabets",
    "tutorial_20_pairs": "the same pair among 20 separate ones (weaker than one-shot)",
}


def main() -> None:
    """Writes the folder `siamjax/weights/NAME`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="folder of a run that is trained and evaluated")
    parser.add_argument("name")
    parser.add_argument("--manual_dir", required=True, help="folder with Omniglot's archives and all_runs.zip")
    options = parser.parse_args()
    folder = pathlib.Path(__file__).parents[1] / "siamjax" / "weights" / options.name
    trained = Network.load(options.run)
    size, config = trained.inputs.shape[0], trained.settings
    test = omniglot.load(None, options.manual_dir, "background", size, train=False)["test"]
    pairs = drawn.pairs(config.evaluation, {"validation": test})["validation"]
    images, trials = official_runs.load(pathlib.Path(options.manual_dir) / "all_runs.zip", size)
    decisions, scores = {}, {}
    for copies in sorted({0, trained.copies}):
        network = Network.load(options.run, copies=copies)
        decisions[copies] = drawn.decision(network, test, drawn.embed(network, test), pairs)
        scores[copies] = _histogram(network, images, trials)
    encoder = trained.variables["encoder"]
    variables = {**trained.variables, "encoder": encoder["params"]}
    shipped = Network(
        trained.model,
        variables,
        encoder["batch_stats"],
        inputs=trained.inputs,
        decisions=decisions,
        settings=config,
        copies=trained.copies,
        distort=parts.make_augment(config),
    )
    shipped.save(folder, precision="float16")
    what = "400 same and 7,600 different pairs of drawings, from the trials of Omniglot's 20 official one-shot runs"
    (folder / "scores.json").write_text(json.dumps({"pairs": what, "copies": scores}, indent=1) + "\n")
    (folder / "card.md").write_text(_card(options, config, json.loads((options.run / "results.json").read_text())))
    print(folder)


def _histogram(network, images, trials):
    """Numbers of same and different pairs of the trials in equal bins of their score."""
    found = network.score_trials(network.embed(images), trials.query, trials.support)
    same = np.zeros(found.shape, bool)
    np.put_along_axis(same, trials.answer[..., None], True, axis=-1)
    edges = np.linspace(found.min(), found.max(), _BINS + 1)
    of_same, of_different = (np.histogram(found[kind], edges)[0].tolist() for kind in (same, ~same))
    return {"edges": edges.astype(np.float64).round(4).tolist(), "same": of_same, "different": of_different}


def _card(options, config, results):
    """What it was made from and how good it is, as Markdown."""
    name, side = options.name.replace("-", "_"), config.data.size
    lines = [
        f"# {options.name}",
        "",
        f"Trained by `python launch.py --config configs/{name}.py` (seed {config.seed}, {config.train.steps} steps)",
        "on all 30 background alphabets of Omniglot (Lake et al., 2015; MIT licence). It takes drawings uint8",
        f"[n, {side}, {side}, 1], ink 255 on paper 0, and averages over {config.evaluation.copies} distorted",
        "copies. Its decisions are fitted to pairs of the 20 evaluation alphabets.",
        "",
        "| protocol | % | 95 % interval |",
        "| --- | --- | --- |",
    ]
    for name, meaning in _FIGURES.items():
        figure = results[name]
        low, high = (100 * end for end in figure["ci95"])
        lines.append(f"| {meaning} | {100 * figure['accuracy']:.2f} | {low:.1f} to {high:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
