"""The training step and the embedding of images: siamjax compared with PyTorch, on CPU.

    python benchmarks/step.py                                # needs the extra `parity`
    python benchmarks/step.py --work small_step --json rows.json

Same network, batch, loss and optimizer in both; PyTorch with channels last, oneDNN and its fused AdamW. siamjax runs
with the settings of its command (`siamjax.host`), PyTorch with its defaults; "PyTorch, large pages" adds the one of
these settings that helps PyTorch, too. bfloat16 is the requested precision: PyTorch's autocast, and in siamjax, on CPU,
float32. Each case runs in its own process, the implementations in turn; the speed is that of the median step in the
fastest of the processes. The limit is the time that the step's multiply-adds, counted for direct convolutions, would
take at the speed of a large float32 matrix product, measured in the same process; a step with fewer multiply-adds can
be faster.

koch: Koch's network at 105×105, 16 pairs, weighted-L1 head, cross-entropy. small: five 3×3 convolutions with batch
normalisation at 28×28 (width 32), 60 identities × 4 images, NT-Xent. local: configs/omniglot_fast.py, 40 × 4 images at
56×56, the head `aligned` on all pairs, ranking loss, which is NT-Xent of its logits. mobilenet: MobileNetV2 at 112×112
in colour, 8 × 4 images, NT-Xent. In siamjax, a step also draws the batch, distorts its images, and teaches the head on
the side.
"""

import argparse
import functools
import importlib
import json
import os
import subprocess
import sys
import time

import numpy as np

ROOT = os.path.join(os.path.dirname(__file__), "..")
sys.path.insert(0, ROOT)

from siamjax import host  # noqa: E402

IMPLS = {"siamjax": "siamjax", "pytorch": "PyTorch", "pytorch_large_pages": "PyTorch, large pages"}
IMAGES = {"koch": 32, "small": 240, "local": 160, "mobilenet": 32}
WORK = tuple(f"{network}_{kind}" for kind in ("step", "embed") for network in IMAGES)
PRECISIONS = ("float32", "bfloat16")
SIDE = {"koch": 105, "small": 28, "local": 56, "mobilenet": 112}
RUNS = {"koch": 8, "small": 30, "local": 20, "mobilenet": 20}
# Output side, input channels, output channels and kernel of each convolution; inputs and outputs of the dense layer.
CONVOLUTIONS = {
    "koch": [(96, 1, 64, 10), (42, 64, 128, 7), (18, 128, 128, 4), (6, 128, 256, 4)],
    "small": [(28, 1, 32, 3), (28, 32, 32, 3), (14, 32, 64, 3), (7, 64, 64, 3), (3, 64, 64, 3)],
    "local": [(28, 1, 16, 5), (28, 16, 16, 3), (14, 16, 48, 3), (7, 48, 96, 3), (7, 96, 96, 3), (7, 96, 33, 1)],
}
DENSE = {"koch": (9216, 4096), "small": (576, 256), "local": (0, 0), "mobilenet": (1280, 256)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", default=WORK, choices=WORK)
    parser.add_argument("--precision", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--repeats", type=int, default=2, help="processes per case; the fastest counts")
    parser.add_argument("--json", metavar="FILE", help="file to write the rows to")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    rows = []
    for work in options.work:
        for precision in options.precision:
            tries = {impl: [] for impl in IMPLS}
            for _ in range(options.repeats):
                for impl, tried in tries.items():
                    tried.append(run_apart(work, precision, impl))
            rows += [max(tried, key=lambda row: row["images_per_s"]) for tried in tries.values()]
            print(*rows[-len(tries) :], sep="\n", flush=True)
    report(rows)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


def run_apart(*case):
    settings = host.settings(os.environ)
    of = {"siamjax": tuple(settings), "pytorch": (), "pytorch_large_pages": ("GLIBC_TUNABLES",)}[case[-1]]
    added = {name: value for name, value in settings.items() if name in of}
    command = [sys.executable, __file__, "--one", *case]
    done = subprocess.run(command, env=os.environ | added, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{case} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(work, precision, impl):
    network, kind = work.split("_")
    make = ours if impl == "siamjax" else theirs
    run = make(network, kind, precision)
    median = float(np.median(seconds(run, RUNS[network])))
    limit = multiply_adds(network, kind) * IMAGES[network] / matrix_product_rate()
    return {
        "work": work,
        "impl": impl,
        "precision": precision,
        "images_per_s": IMAGES[network] / median,
        "limit_ratio": median / limit,
    }


def seconds(run, times):
    """The duration of each of several calls, after a first one that compiles."""
    run()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return taken


def multiply_adds(network, kind):
    """Multiply-adds per image: each layer forward, and its gradients by weights and input (not the first one's)."""
    shapes = mobilenet_convolutions() if network == "mobilenet" else CONVOLUTIONS[network]
    layers = [side**2 * inputs * outputs * kernel**2 for side, inputs, outputs, kernel in shapes]
    layers.append(DENSE[network][0] * DENSE[network][1])
    if kind == "embed":
        return sum(layers)
    if network == "local":  # five products of the descriptors of each place with those of all images
        layers.append(5 * 49 * 32 * IMAGES["local"])
    return 3 * sum(layers) - layers[0]


def mobilenet_convolutions():
    """As `CONVOLUTIONS`; where each channel is convolved by itself, it has one input."""
    from siamjax.encoders._inverted import MOBILENET_V2

    side, inputs, found = 56, 32, [(56, 3, 32, 3)]
    for widening, channels, blocks, stride, kernel in MOBILENET_V2:
        for number in range(blocks):
            inside, before = widening * inputs, side
            side //= stride if number == 0 else 1
            found += [(before, inputs, inside, 1)] if widening > 1 else []
            found += [(side, 1, inside, kernel), (side, inside, channels, 1)]
            inputs = channels
    return [*found, (side, inputs, 1280, 1)]


def matrix_product_rate():
    """Float32 multiply-adds per second."""
    a = np.ones((2048, 2048), np.float32)
    return 2048**3 / min(seconds(lambda: a @ a, 4))


def configuration(network, precision):
    name = {"koch": "koch_full", "local": "omniglot_fast"}.get(network, "omniglot_ntxent")
    config = importlib.import_module(f"configs.{name}").get_config()
    config.encoder.dtype = precision
    config.data.size = SIDE[network]
    if network == "koch":
        config.batch.pairs, config.optimizer.name, config.encoder.name = IMAGES["koch"] // 2, "adamw", "koch_scaled"
    else:
        config.batch.identities = IMAGES[network] // 4
    if network == "small":
        config.encoder.width = 32
    if network == "mobilenet":
        config.encoder.name = "mobilenet_v2"
    return config


def ours(network, kind, precision):
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    from siamjax import parallel
    from siamjax.data.dataset import Dataset
    from siamjax.run import parts, recipe
    from siamjax.training import state
    from siamjax.training.step import stepper, update

    config = configuration(network, precision)
    model = parts.make_model(config)
    label = np.repeat(np.arange(400, dtype=np.int32), 5)
    images = pictures(len(label), network)
    names = tuple(map(str, range(20)))
    data = Dataset(images, label, label // 20, np.tile(np.arange(5, dtype=np.int32), 400), names)
    objective = recipe.make_objective(config, model, data)
    transform = recipe.make_optimizer(config, objective)
    start = state.create(model, jax.random.key(0), images.shape[1:], transform)
    if kind == "embed":
        variables = {"params": start.params["encoder"], "batch_stats": start.batch_stats}
        embed = jax.jit(lambda variables, x: model.encoder.apply(variables, x.astype("float32") / 255, train=False))
        batch = jax.device_put(images[: IMAGES[network]])
        return lambda: jax.block_until_ready(embed(variables, batch))
    make_batches, _ = recipe.make_batches(config, data)
    step = functools.partial(update, model=model, objective=objective, optimizer=transform)
    key = jax.random.key(1)
    take = stepper(step, make_batches(key, 0, 1000), key)
    current = [parallel.replicate(start)]

    def run():
        current[0], metrics = take(current[0], 0, 1)
        jax.block_until_ready((current[0], metrics))

    return run


def theirs(network, kind, precision):
    import contextlib

    import torch

    from benchmarks import torch_networks as networks

    torch.manual_seed(0)
    model = networks.NETWORKS[network]().to(memory_format=torch.channels_last)
    of_pairs, head = networks.of_pairs(DENSE["koch"][1])
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=1e-4, fused=True)
    logits_of = networks.similarities_of_maps if network == "local" else networks.similarities

    def loss_of(embeddings):
        return of_pairs(embeddings) if network == "koch" else networks.ntxent(logits_of(embeddings))

    x = torch.tensor(pictures(IMAGES[network], network)).movedim(3, 1).float() / 255
    x = x.contiguous(memory_format=torch.channels_last)
    half = torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()

    def train():
        optimizer.zero_grad(set_to_none=True)
        with half:
            embeddings = model(x)
        loss_of(embeddings.float()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def embed():
        with torch.inference_mode(), half:
            model(x)

    if kind == "embed":
        model.eval()
    return train if kind == "step" else embed


def pictures(count, network):
    """uint8 [count, side, side, channels], as sparse as characters."""
    shape = count, SIDE[network], SIDE[network], 3 if network == "mobilenet" else 1
    return (255 * (np.random.default_rng(0).uniform(size=shape) < 0.1)).astype(np.uint8)


def report(rows):
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Images per second on CPU, and time relative to the arithmetic limit")
    for column in ("work", "precision", "implementation", "images/s", "siamjax is faster by", "time / limit"):
        table.add_column(column, justify="right" if "/" in column or "by" in column else "left")
    for first in range(0, len(rows), len(IMPLS)):
        mine, *others = rows[first : first + len(IMPLS)]
        for row in (mine, *others):
            table.add_row(
                row["work"],
                row["precision"],
                IMPLS[row["impl"]],
                f"{row['images_per_s']:.1f}",
                "" if row is mine else f"{mine['images_per_s'] / row['images_per_s']:.2f}",
                f"{row['limit_ratio']:.2f}",
            )
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
