"""Time and memory of batch losses, value and gradient: siamjax compared with pytorch-metric-learning, on CPU.

    python benchmarks/losses.py                         # every loss and size; needs the extra `parity`
    python benchmarks/losses.py --losses batch_all_triplet --batches 256 1024 --json rows.json

Each case runs in its own process, after a small batch that triggers lazy loading. Time is that of the fastest of
several runs, without compilation. Memory is the increase of peak resident memory in the first run, after inputs are
made and code is compiled. A case that needs more than `--memory-gb` or `--seconds` is stopped, and reported as such.
"""

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

DIMENSION = 128
SMALL = (64, 4)  # items, items per class: enough to start the threads
SIAMJAX, OTHER = "siamjax", "pytorch-metric-learning"
MEGABYTE = 1 << 20


def theirs_of_triplets(miner=None):
    from pytorch_metric_learning import distances, losses, miners, reducers

    plain = distances.LpDistance(normalize_embeddings=False)
    loss = losses.TripletMarginLoss(margin=0.2, distance=plain, reducer=reducers.MeanReducer())
    return loss, miner and getattr(miners, miner)(distance=plain)


def their_own(name, **parameters):
    from pytorch_metric_learning import losses

    return getattr(losses, name)(**parameters), None


# Name in siamjax.losses: its parameters, the factor between the two libraries' conventions, and a function that makes
# the other library's (loss, miner or None).
CASES = {
    "batch_all_triplet": ({}, 1, theirs_of_triplets),
    "batch_hard_triplet": ({}, 1, lambda: theirs_of_triplets("BatchHardMiner")),
    "batch_linear_contrastive": (
        {"pos_margin": 0.0, "neg_margin": 1.0, "active_only": True},
        2,  # the sum of the means of same and different pairs; here their mean
        lambda: their_own("ContrastiveLoss", pos_margin=0.0, neg_margin=1.0),
    ),
    "multi_similarity": ({}, 1, lambda: their_own("MultiSimilarityLoss", alpha=2, beta=50, base=0.5)),
    "ntxent": ({"temperature": 0.1}, 1, lambda: their_own("NTXentLoss", temperature=0.1)),
    "supervised_contrastive": ({"temperature": 0.1}, 1, lambda: their_own("SupConLoss", temperature=0.1)),
    "angular": ({"alpha": 40.0}, 1, lambda: their_own("AngularLoss", alpha=40)),
}


def main():
    options = parse()
    if options.one:
        print(json.dumps(measure(**json.loads(options.one), memory_gb=options.memory_gb)))
        return
    from siamjax import losses

    names = [name for name in options.losses if hasattr(losses, name)]
    rows = []
    for name in names:
        for batch in options.batches:
            for per_class in options.per_class:
                for impl in (SIAMJAX, OTHER):
                    case = {"loss": name, "impl": impl, "batch": batch, "per_class": per_class}
                    rows.append(case | run_apart(case, options))
                    print(rows[-1], file=sys.stderr)
    report(rows)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--batches", nargs="+", type=int, default=[256, 1024, 4096, 8192], help="items in a batch")
    parser.add_argument("--per-class", nargs="+", type=int, default=[8, 64], help="items per class")
    parser.add_argument("--json", metavar="FILE", help="file to write the rows to")
    parser.add_argument(
        "--memory-gb", type=float, default=default_memory(), help="most memory of a case; default %(default)s"
    )
    parser.add_argument("--seconds", type=float, default=300, help="most time of a case; default %(default)s")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def default_memory():
    """Half of the free memory, so that no case exhausts it; at most 12 GB, so that rows are comparable."""
    return round(min(12.0, status("/proc/meminfo", "MemAvailable") / 2 / (1 << 30)), 1)


def run_apart(case, options):
    """Seconds, megabytes, value and a note of one case, measured in its own process."""
    command = [sys.executable, __file__, "--one", json.dumps(case), "--memory-gb", str(options.memory_gb)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds)
    except subprocess.TimeoutExpired:
        return nothing(f"over {options.seconds:g} s")
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    # Out of memory, some libraries raise and some abort.
    text = done.stderr.lower()
    if any(word in text for word in ("memory", "resource_exhausted", "bad_alloc")) or done.returncode < 0:
        return nothing(f"over {options.memory_gb:g} GB")
    raise RuntimeError(f"{case} failed:\n{done.stderr}")


def nothing(note):
    return {"seconds": None, "added_mb": None, "value": None, "note": note}


def measure(loss, impl, batch, per_class, memory_gb):
    make = ours if impl == SIAMJAX else theirs
    run = make(loss, *points(batch, per_class))
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory freed by compilation would otherwise hide the run's own
    own = status("/proc/self/status", "VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (own + int(memory_gb * (1 << 30)), resource.RLIM_INFINITY))
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts from here
    before = status("/proc/self/status", "VmRSS")
    seconds = []
    while not seconds or (len(seconds) < 10 and sum(seconds) < 5):
        start = time.perf_counter()
        value = run()
        seconds.append(time.perf_counter() - start)
        if len(seconds) == 1:
            added = status("/proc/self/status", "VmHWM") - before
    return {"seconds": min(seconds), "added_mb": added / MEGABYTE, "value": float(value), "note": ""}


def status(path, key):
    """Bytes in an entry of a file in /proc."""
    with open(path) as file:
        for line in file:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    raise KeyError(key)


def points(batch, per_class):
    """Float32 unit vectors [batch, DIMENSION] around the centres of their classes, in random order, and labels."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(batch) // per_class
    x = rng.normal(size=(batch, DIMENSION)) + 0.5 * rng.normal(size=(batch, DIMENSION))[labels]
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels.astype(np.int32)


def ours(name, x, labels):
    """Function that computes value and gradient once, already compiled."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    from siamjax import losses

    parameters, factor, _ = CASES[name]
    loss = getattr(losses, name)
    step = jax.jit(jax.value_and_grad(lambda x, labels: factor * loss(x, labels, **parameters)))
    jax.block_until_ready(step(*points(*SMALL)))
    x, labels = jax.device_put((x, labels))
    step = step.lower(x, labels).compile()
    return lambda: jax.block_until_ready(step(x, labels))[0]


def theirs(name, x, labels):
    """Function that computes value and gradient once."""
    import torch

    loss, miner = CASES[name][2]()

    def step(x, labels):
        x.grad = None
        value = loss(x, labels, miner(x, labels)) if miner else loss(x, labels)
        value.backward()
        return value.detach()

    def tensors(x, labels):
        return torch.tensor(x, requires_grad=True), torch.tensor(labels)

    step(*tensors(*points(*SMALL)))
    x, labels = tensors(x, labels)
    return lambda: step(x, labels)


def report(rows):
    """One table of all rows, both libraries in each row."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Value and gradient of batch losses, on CPU")
    for column in (
        "loss",
        "batch",
        "per class",
        "siamjax s",
        "PML s",
        "times faster",
        "siamjax +MB",
        "PML +MB",
        "note",
    ):
        table.add_column(column, justify="left" if column in ("loss", "note") else "right", no_wrap=column == "loss")
    for mine, other in zip(rows[::2], rows[1::2], strict=True):
        both = mine["seconds"] and other["seconds"]
        notes = [f"{row['impl']}: {row['note']}" for row in (mine, other) if row["note"]]
        if both and abs(mine["value"] - other["value"]) > 1e-3 * abs(other["value"]):
            notes.append(f"values differ: {mine['value']:.6g}, {other['value']:.6g}")
        table.add_row(
            mine["loss"],
            str(mine["batch"]),
            str(mine["per_class"]),
            *(f"{row['seconds']:.4f}" if row["seconds"] else "-" for row in (mine, other)),
            f"{other['seconds'] / mine['seconds']:.1f}" if both else "-",
            *(f"{row['added_mb']:.0f}" if row["seconds"] else "-" for row in (mine, other)),
            "; ".join(notes),
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    main()
