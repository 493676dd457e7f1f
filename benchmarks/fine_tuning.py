"""What to train of a network with published weights: few people, judged on others that it never saw.

    python benchmarks/fine_tuning.py --folder FOLDER --weights FILE [--shares 0.03 0.1 0.3 1] [--seeds 0]

FOLDER has a subfolder of images for each identity. A third of the identities, drawn by the seed, is held out; on the
others `siamjax.fit` trains a linear layer alone ("frozen"), or all layers, the published ones with a share of the
learning rate. The table gives, on the held-out identities, the AUC of all pairs and the accuracy of identification with
one image of each, over all choices of these.
"""

import argparse
import os
import pathlib
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from siamjax import host

host.tune()

import numpy as np  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402

import siamjax  # noqa: E402
from siamjax.data import images  # noqa: E402
from siamjax.optimizer import adamw  # noqa: E402

_NAME = "mobilenet_v2"


def main() -> None:
    """Prints a row for each way of training, and each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--weights", default="default", help=f"of {_NAME}, see siamjax.pretrained.load")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.03, 0.1, 0.3, 1.0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--size", type=int, default=112, help="pixels a side")
    parser.add_argument("--rate", type=float, help="learning rate of the linear layer; the default is that of fit")
    options = parser.parse_args()
    paths = sorted(pathlib.Path(options.folder).glob("*/*"))
    faces, label = images.read_all(paths, options.size, 3), np.array([path.parent.name for path in paths])
    print(f"{_NAME}, {options.steps} steps of 32 images of {options.size}×{options.size}")
    print(f"{'trained':16} {'seed':>4} {'AUC':>6} {'1-shot':>7} {'seconds':>8}")
    raw = siamjax.Network.load(_NAME, weights=options.weights)
    raw = siamjax.Network(
        raw.model,
        {**raw.variables, "encoder": raw.variables["encoder"]["params"]},
        raw.variables["encoder"]["batch_stats"],
    )
    for seed in options.seeds:
        names = np.random.default_rng(seed).permutation(np.unique(label))
        held_out = np.isin(label, names[: len(names) // 3])
        ways = {"nothing": None, "frozen": {"frozen": True}}
        ways |= {f"all, {share:g}": {"optimizer": share} for share in options.shares}
        for way, given in ways.items():
            start = time.perf_counter()
            network = raw if given is None else _trained(faces[~held_out], label[~held_out], options, seed, given)
            auc, one_shot = _judged(network.embed(faces[held_out]), label[held_out])
            print(f"{way:16} {seed:4} {auc:6.3f} {one_shot:7.3f} {time.perf_counter() - start:8.0f}", flush=True)


def _trained(x, y, options, seed, given):
    rate = options.rate or 2e-3 * min(1.0, len(np.unique(y)) / 100)
    optimizer = adamw(options.steps, learning_rate=rate, pretrained_share=given.get("optimizer", 1.0))
    batch = {"identities": 8, "per_identity": 4, "steps": options.steps, "seed": seed}
    given = {**given, "optimizer": optimizer}
    return siamjax.fit(x, y, encoder=_NAME, weights=options.weights, augment="photo", **batch, **given)


def _judged(embeddings, label):
    """(AUC of the cosines of all pairs, accuracy of the nearest among one image of each identity)."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosine, same = unit @ unit.T, label[:, None] == label
    pairs = np.triu_indices(len(label), 1)
    auc = roc_auc_score(same[pairs], cosine[pairs])
    rng, right = np.random.default_rng(0), []
    for _ in range(200):
        shown = np.array([rng.choice(np.flatnonzero(label == name)) for name in np.unique(label)])
        asked = np.setdiff1d(np.arange(len(label)), shown)
        right.append(np.mean(label[shown][np.argmax(cosine[asked][:, shown], axis=1)] == label[asked]))
    return auc, np.mean(right)


if __name__ == "__main__":
    main()
