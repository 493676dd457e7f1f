"""The time of a training step by operation, on this machine.

    python benchmarks/parts.py                    # the two networks of benchmarks/step.py, float32
    python benchmarks/parts.py --json rows.json

Each operation runs by itself, on arrays of its shape in the step; "GFLOP/s" counts a multiply-add of direct
convolutions as two operations. Gradients are timed with the parts of the forward pass that they need (in the frequency
domain, spectra), which the step computes once. "The rest" is the time of the whole step minus the sum of its parts:
sampling, loss, and arrays that are read from memory rather than from the cache; minus computations shared by the parts.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from siamjax import host  # noqa: E402

RUNS = 9


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="file to write the rows to")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    rows = []
    for network in ("koch", "small"):
        command = [sys.executable, __file__, "--one", network]
        done = subprocess.run(command, env=os.environ | host.settings(os.environ), stdout=subprocess.PIPE, check=True)
        rows += json.loads(done.stdout.splitlines()[-1])
    report(rows)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=1))


def measure(network):
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import jax.numpy as jnp
    from flax import linen as nn
    from jax import lax

    from benchmarks import step
    from siamjax import encoders
    from siamjax.run import parts, recipe
    from siamjax.training import state

    n, rows = step.IMAGES[network], []
    normal = lambda *shape: jax.random.normal(jax.random.key(0), shape)  # noqa: E731

    def add(name, function, *arguments, multiply_adds=0):
        program = jax.jit(function)
        seconds = min(step.seconds(lambda: jax.block_until_ready(program(*arguments)), RUNS))
        rate = f"{2 * multiply_adds / seconds / 1e9:.0f}" if multiply_adds else ""
        rows.append({"network": network, "part": name, "ms": 1000 * seconds, "gflops": rate})

    def after(x, scale, shift):
        """The operations between a convolution and pooling."""
        if network == "small":
            mean, square = x.mean((0, 1, 2)), (x * x).mean((0, 1, 2))
            x = (x - mean) * (lax.rsqrt(square - mean * mean + 1e-5) * scale)
        return nn.relu(x + shift)

    pooled = {"koch": (1, 2, 3), "small": (2, 3, 4)}[network]
    padding = {"koch": "VALID", "small": "SAME"}[network]
    for number, (side, inputs, outputs, kernel) in enumerate(step.CONVOLUTIONS[network], start=1):
        before = side + kernel - 1 if network == "koch" else side
        x, weights = normal(n, before, before, inputs), normal(kernel, kernel, inputs, outputs)
        y, scale = normal(n, side, side, outputs), jnp.ones(outputs)
        count = dict(multiply_adds=n * side**2 * kernel**2 * inputs * outputs)
        convolve = lambda x, weights, padding=padding: encoders.convolve(x, weights, padding=padding)  # noqa: E731
        add(f"convolution {number}, forward", convolve, x, weights, **count)
        if number > 1:
            back = lambda x, weights, y, f=convolve: jax.vjp(f, x, weights)[1](y)  # noqa: E731
            add(f"convolution {number}, both gradients", back, x, weights, y, multiply_adds=2 * count["multiply_adds"])
        else:
            back = lambda x, weights, y, f=convolve: jax.vjp(lambda weights: f(x, weights), weights)[1](y)  # noqa: E731
            add(f"convolution {number}, gradient by the kernel", back, x, weights, y, **count)
        rest = lambda x, *of, last=number in pooled: (encoders.max_pool if last else lambda x: x)(after(x, *of))  # noqa: E731
        dy = jax.eval_shape(rest, y, scale, scale)
        back = lambda dy, *of, f=rest: jax.vjp(f, *of)[1](dy)  # noqa: E731
        name = "batch norm, ReLU" if network == "small" else "bias, ReLU"
        add(
            f"{name}{', pool' if number in pooled else ''} {number}, both ways",
            back,
            normal(*dy.shape),
            y,
            scale,
            scale,
        )
    inputs, outputs = step.DENSE[network]
    x, weights, dy = normal(n, inputs), normal(inputs, outputs), normal(n, outputs)
    both = lambda x, weights, dy: (x @ weights, *jax.vjp(jnp.matmul, x, weights)[1](dy))  # noqa: E731
    add("dense, both ways", both, x, weights, dy, multiply_adds=3 * n * inputs * outputs)
    config = step.configuration(network, "float32")
    model = parts.make_model(config)
    transform = recipe.make_optimizer(config, recipe.make_objective(config, model, None))
    start = state.create(model, jax.random.key(0), (config.data.size,) * 2 + (1,), transform)
    add("optimizer", transform.update, start.params, start.opt_state, start.params)
    whole = 1000 * min(step.seconds(step.ours(network, "step", "float32"), RUNS))
    rest = whole - sum(row["ms"] for row in rows)
    rows.append({"network": network, "part": "the rest", "ms": rest, "gflops": ""})
    rows.append({"network": network, "part": "the whole step", "ms": whole, "gflops": ""})
    return rows


def report(rows):
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Milliseconds of a training step")
    for column in ("network", "part", "ms", "GFLOP/s"):
        table.add_column(column, justify="right" if column in ("ms", "GFLOP/s") else "left")
    for row in rows:
        table.add_row(row["network"], row["part"], f"{row['ms']:.1f}", row["gflops"])
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
