"""Seconds that XLA takes to compile the initial weights of encoders, as siamjax draws them and as `jax.random` would.

    python benchmarks/draws.py

Processor time, without the cache for compiled programs; the numbers drawn are the same, which is checked.
"""

import os
import sys
import time
from unittest import mock

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

import chex
import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from siamjax import draws, encoders

SIZES = {"koch_scaled": (105, 1), "conv4": (28, 1), "local56": (56, 1), "resnet12": (84, 3), "mobilenet_v2": (112, 3)}


def main():
    table = Table(title="compiling the initial weights")
    for column in ("encoder", "as jax.random, s", "siamjax, s", "times faster"):
        table.add_column(column, justify="left" if column == "encoder" else "right")
    compiled(jax.random.key, 0)  # warm-up: the first program takes longer
    for name, (size, channels) in SIZES.items():
        own, weights = initialise(name, size, channels)
        with mock.patch.object(draws, "by_rows", lambda initializer: initializer):
            plain, expected = initialise(name, size, channels)
        chex.assert_trees_all_equal(weights, expected)
        table.add_row(name, f"{plain:.1f}", f"{own:.1f}", f"{plain / own:.1f}")
    Console(width=80).print(table)


def initialise(name, size, channels):
    encoder = encoders.make(name, width=16, embedding=7 * 7 * 8, dtype="float32")
    return compiled(encoder.init, jax.random.key(0), jnp.zeros((1, size, size, channels)))


def compiled(function, *arguments):
    """Seconds of processor time, and what the function returns."""
    lowered = jax.jit(lambda *arguments: function(*arguments)).lower(*arguments)
    start = time.process_time()
    program = lowered.compile()
    return time.process_time() - start, program(*arguments)


if __name__ == "__main__":
    main()
