"""From images to distorted batches, and from a file to training steps: siamjax compared with a host pipeline.

    python benchmarks/pipeline.py                                            # needs the extra `parity`
    python benchmarks/pipeline.py --manual_dir FOLDER --json rows.json       # the second part too, on Omniglot

batches: P×K batches of 28×28 and 105×105 images with Koch's random affine maps, on the CPU. siamjax: sampled, gathered
and distorted in graph, from uint8 images on the device. PyTorch: OpenCV's warpAffine in a DataLoader with two
workers, shuffled.

steps: training steps of configs/omniglot_ntxent.py on 20 copies of Omniglot's background set. resident: images are on
the device. streamed: they are read from the file for each batch. The two alternate in one process, so that both have
the same conditions; the speeds are medians.
"""

import argparse
import functools
import importlib
import json
import math
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from siamjax import host  # noqa: E402

LIMITS = dict(probability=0.5, rotation=10.0, shear=0.3, scale=0.2, shift=2 / 105)
IDENTITIES, PER_IDENTITY = 60, 4
SECONDS = 5  # of each measurement
TIMES_LARGER = 20
TURNS, STEPS = 6, 20  # of the comparison of streamed and resident steps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manual_dir", default="", help="folder with Omniglot's archives; without it, no streaming")
    parser.add_argument("--data_dir", default="", help="folder for prepared data; default ~/tensorflow_datasets")
    parser.add_argument("--json", metavar="FILE", help="file to write the rows to")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, *rest = options.one
        print(json.dumps({"siamjax": in_graph, "pytorch": on_host, "streamed": streamed}[name](*rest)))
        return
    rows = []
    for side in (28, 105):
        rows += [run_apart(impl, str(side)) for impl in ("siamjax", "pytorch")]
    if options.manual_dir:
        rows += run_apart("streamed", options.data_dir, options.manual_dir)
    report(rows)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=1))


def run_apart(impl, *arguments):
    """Each runs as its users run it: PyTorch in the default environment, siamjax with its own settings."""
    added = {} if impl == "pytorch" else host.settings(os.environ)
    command = [sys.executable, __file__, "--one", impl, *arguments]
    done = subprocess.run(command, env=os.environ | added, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{impl} {arguments} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def pictures(count, side):
    return (255 * (np.random.default_rng(0).uniform(size=(count, side, side)) < 0.1)).astype(np.uint8)


def in_graph(side):
    import jax
    import jax.numpy as jnp

    from siamjax import augment, sampling

    side = int(side)
    index = jax.tree.map(jnp.asarray, sampling.grid_index(groups=10, labels=20, images=20))
    images = jax.device_put(pictures(4000, side)[..., None])
    shape = dict(count=IDENTITIES, per_identity=PER_IDENTITY, per_group=20)

    @jax.jit
    def batch(key):
        sample_key, augment_key = jax.random.split(key)
        chosen = sampling.identities(sample_key, index, **shape)
        keys = jax.random.split(augment_key, len(chosen.item))
        return augment.affine(keys, images[chosen.item].astype(jnp.float32) / 255, **LIMITS)

    keys = list(jax.random.split(jax.random.key(0), 1000))
    jax.block_until_ready(batch(keys[0]))
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        jax.block_until_ready(batch(keys[count % len(keys)]))
        count += 1
    speed = count * IDENTITIES * PER_IDENTITY / (time.perf_counter() - start)
    return {"work": f"batches_{side}", "impl": "siamjax", "images_per_s": speed}


def on_host(side):
    import cv2
    import torch

    side = int(side)
    cv2.setNumThreads(0)  # The workers are the parallelism.

    class Distorted(torch.utils.data.Dataset):
        images = pictures(19280, side)

        def __len__(self):
            return len(self.images)

        def __getitem__(self, number):
            image = cv2.warpAffine(self.images[number], random_map(side), (side, side), flags=cv2.INTER_LINEAR)
            return torch.from_numpy(image)[None].float() / 255

    size = IDENTITIES * PER_IDENTITY
    loader = torch.utils.data.DataLoader(
        Distorted(), batch_size=size, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )
    list(loader)  # Starts the workers.
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        count += sum(len(batch) for batch in loader)
    return {"work": f"batches_{side}", "impl": "pytorch", "images_per_s": count / (time.perf_counter() - start)}


def random_map(side):
    """Koch's affine map in OpenCV's form: rows (x, y, 1)."""
    draw = np.random
    present = draw.rand(7) < LIMITS["probability"]
    most = [math.radians(LIMITS["rotation"])] + 2 * [LIMITS["shear"]] + 2 * [LIMITS["scale"]] + 2 * [LIMITS["shift"]]
    angle, shear_x, shear_y, scale_x, scale_y, *shift = draw.uniform(-1, 1, 7) * most * present
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = np.array([[cos, sin], [-sin, cos]]) @ [[1, shear_x], [shear_y, 1]] @ np.diag([1 + scale_x, 1 + scale_y])
    middle = np.full(2, (side - 1) / 2)
    return np.hstack([matrix, (middle - matrix @ middle + np.array(shift) * side)[:, None]])


def streamed(data_dir, manual_dir):
    import jax

    from siamjax import data, parallel
    from siamjax.run import parts, recipe
    from siamjax.training import state
    from siamjax.training.step import stepper, update

    config = importlib.import_module("configs.omniglot_ntxent").get_config()
    config.data.data_dir, config.data.manual_dir = data_dir, manual_dir
    model = parts.make_model(config)
    objective = recipe.make_objective(config, model, None)
    transform = recipe.make_optimizer(config, objective)
    start = state.create(model, jax.random.key(0), (config.data.size, config.data.size, 1), transform)
    step, key = functools.partial(update, model=model, objective=objective, optimizer=transform), jax.random.key(1)
    takers, states, taken, rates = {}, {}, {True: 0, False: 0}, {True: [], False: []}

    def advance(stream):
        states[stream], metrics = takers[stream](states[stream], taken[stream], 1)
        taken[stream] += 1
        return jax.block_until_ready(metrics)

    for config.data.stream in (False, True):
        larger = repeated(data.load(config.data)["train"])
        make_batches, images = recipe.make_batches(config, larger)
        stream = config.data.stream
        takers[stream] = stepper(step, make_batches(key, 0, 10_000), key)
        states[stream] = parallel.replicate(start)
        advance(stream)
    for _ in range(TURNS):
        for stream in takers:
            begin = time.perf_counter()
            for _ in range(STEPS):
                advance(stream)
            rates[stream].append(STEPS * images / (time.perf_counter() - begin))
    size = {"images": len(larger), "work": "steps"}
    return [
        {**size, "impl": "streamed" if stream else "resident", "images_per_s": float(np.median(rates[stream]))}
        for stream in (False, True)
    ]


def repeated(dataset):
    """The data set and 19 copies of it, with identities and alphabets of their own."""
    from siamjax.data import Dataset, Images

    count = len(dataset)
    shape = (TIMES_LARGER * count, *dataset.images.shape[1:])
    if isinstance(dataset.images, Images):
        images = Images(lambda numbers: dataset.images[numbers % count], shape)
    else:
        images = np.tile(dataset.images, (TIMES_LARGER, 1, 1, 1))
    again = functools.partial(np.tile, reps=TIMES_LARGER)
    copy = np.repeat(np.arange(TIMES_LARGER, dtype=np.int32), count)
    return Dataset(
        images,
        again(dataset.label) + copy * (dataset.label.max() + 1),
        again(dataset.group) + copy * len(dataset.group_names),
        again(dataset.source),
        dataset.group_names * TIMES_LARGER,
    )


def report(rows):
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Images per second on CPU")
    for column in ("work", "first", "images/s", "second", "images/s", "first / second"):
        table.add_column(column, justify="right" if "/" in column else "left")
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        speeds = one["images_per_s"], other["images_per_s"]
        table.add_row(
            one["work"],
            one["impl"],
            f"{speeds[0]:,.0f}",
            other["impl"],
            f"{speeds[1]:,.0f}",
            f"{speeds[0] / speeds[1]:.2f}",
        )
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
