"""One training step on several devices and processes of a machine: siamjax and PyTorch's DistributedDataParallel.

    python benchmarks/scaling.py                          # needs the extra `parity`
    python benchmarks/scaling.py --json rows.json

The step of benchmarks/step.py `small`: five 3×3 convolutions with batch normalisation over the whole batch (in PyTorch
over each process's share), and NT-Xent of all its embeddings. strong: 240 images in total. weak: 240 per device.
Devices are virtual ones of the CPU, processes are connected by loopback, each on its share of the cores: no case can be
faster than one device, and the loss of speed is the cost of sharing.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from siamjax import host  # noqa: E402

# Devices per process, processes; a single device comes first.
CASES = {"siamjax": ((1, 1), (2, 1), (1, 2), (4, 1), (2, 2)), "pytorch": ((1, 1), (1, 2))}
IMAGES = 240
RUNS = 12


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2, help="repetitions of each case; the fastest counts")
    parser.add_argument("--scaling", nargs="+", default=("strong", "weak"), choices=("strong", "weak"))
    parser.add_argument("--json", metavar="FILE", help="file to write the rows to")
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        impl, *numbers, address = options.one
        keep_to_own_cores(int(numbers[1]), int(numbers[2]))
        speed = {"siamjax": ours, "pytorch": theirs}[impl](*map(int, numbers), address)
        print(json.dumps(speed))
        return
    rows = []
    for scaling in options.scaling:
        for impl, cases in CASES.items():
            alone = 0
            for devices, processes in cases:
                images = IMAGES * (devices * processes if scaling == "weak" else 1)
                speed = max(run(impl, devices, processes, images) for _ in range(options.repeats))
                alone = alone or speed
                row = {"scaling": scaling, "impl": impl, "devices": devices, "processes": processes, "images": images}
                rows.append({**row, "images_per_s": speed, "share_step": speed / alone})
                print(rows[-1], flush=True)
    report(rows)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=1))


def run(impl, devices, processes, images):
    """Images per second of process 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = dict(os.environ)
    if impl == "siamjax":
        environment |= host.settings(os.environ)
        environment["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
        environment["JAX_PLATFORMS"] = "cpu"
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--one", impl, *map(str, (devices, processes, process, images)), address],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(processes)
    ]
    said = [process.communicate() for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError(f"{impl} on {devices} devices of {processes} processes failed:\n{said[0][1]}\n{said[-1][1]}")
    return json.loads(said[0][0].splitlines()[-1])


def keep_to_own_cores(processes, process):
    """Each process has its share of the cores if there are enough, as usual for several processes on a machine."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= processes:
        os.sched_setaffinity(0, cores[process::processes])


def ours(devices, processes, process, images, address):
    import jax

    from benchmarks import step
    from siamjax import parallel

    if processes > 1:
        parallel.start(address, processes, process)
    assert jax.device_count() == devices * processes
    step.IMAGES["small"] = images
    return images / float(np.median(step.seconds(step.ours("small", "step", "float32"), RUNS)))


def theirs(devices, processes, process, images, address):
    import torch
    from torch import distributed, nn
    from torch.distributed.nn.functional import all_gather

    from benchmarks.step import pictures, seconds
    from benchmarks.torch_networks import NETWORKS, ntxent, similarities

    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    distributed.init_process_group("gloo", f"tcp://{address}", rank=process, world_size=processes)
    model = NETWORKS["small"]().to(memory_format=torch.channels_last)
    model = nn.parallel.DistributedDataParallel(model) if processes > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    own = images // processes
    x = torch.tensor(pictures(images, "small"))[own * process : own * (process + 1)].movedim(3, 1).float() / 255
    x = x.contiguous(memory_format=torch.channels_last)

    def step():
        optimizer.zero_grad(set_to_none=True)
        embeddings = model(x)
        embeddings = torch.cat(all_gather(embeddings)) if processes > 1 else embeddings
        ntxent(similarities(embeddings)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return images / float(np.median(seconds(step, RUNS)))


def report(rows):
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Images per second on CPU, all on the same cores")
    for column in ("scaling", "implementation", "processes × devices", "images", "images/s", "of one device's"):
        table.add_column(column, justify="left" if column in ("scaling", "implementation") else "right")
    for row in rows:
        table.add_row(
            row["scaling"],
            row["impl"],
            f"{row['processes']} × {row['devices']}",
            str(row["images"]),
            f"{row['images_per_s']:,.0f}",
            f"{row['share_step']:.2f}",
        )
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
