"""A batch larger than memory: peak memory and time of a step, whole and in chunks.

    python benchmarks/chunks.py
    python benchmarks/chunks.py --images 2048 --chunks 0 64 256

Five 3×3 convolutions of width 32 at 28×28 without batch normalisation, embeddings of 256 components, NT-Xent, AdamW;
random images, 4 per identity. Each case runs in its own process; the time is that of the fastest of three steps after
the first.
"""

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import time

ROOT = os.path.join(os.path.dirname(__file__), "..")
sys.path.insert(0, ROOT)

from siamjax import host  # noqa: E402

STEPS = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--chunks", type=int, nargs="+", default=(0, 256, 1024), help="images at a time; 0 for all")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure(options.images, options.one)))
        return
    rows = []
    for chunk in options.chunks:
        command = [sys.executable, __file__, "--images", str(options.images), "--one", str(chunk)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | host.settings(os.environ))
        if done.returncode:
            sys.exit(f"chunk {chunk}: exit {done.returncode}\n{done.stderr[-2000:]}")
        rows.append((chunk, *json.loads(done.stdout.splitlines()[-1])))
    print(
        f"| {options.images} images, in chunks of | peak memory, MB | of the step, MB | s per step | loss, last step |"
    )
    print("| --- | --- | --- | --- | --- |")
    for chunk, peak, own, seconds, loss in rows:
        print(f"| {chunk or 'all'} | {peak:.0f} | {own:.0f} | {seconds:.2f} | {loss:.6f} |")


def measure(images, chunk):
    """(peak memory of the process, what the steps added to it, both MB; seconds per step; loss of the last step)."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from flax import linen as nn

    from siamjax import encoders, heads, parallel
    from siamjax.training import objectives, state
    from siamjax.training.step import update
    from siamjax.training.types import Batch

    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, x):
            direct = functools.partial(encoders.convolve, method="direct")
            for number, channels in enumerate((32, 32, 64, 64, 64)):
                kernel = self.param(f"kernel{number}", nn.initializers.he_normal(), (3, 3, x.shape[-1], channels))
                x = nn.relu(direct(x, kernel, padding="SAME"))
                x = encoders.max_pool(x) if number else x
            return nn.Dense(256)(x.reshape(len(x), -1))

    model = state.Model(encoders.own(Encoder()), heads.Distance())
    objective = objectives.make("ntxent", model.head, mode="identities")
    optimizer = optax.adamw(1e-3)
    start = state.create(model, jax.random.key(0), (28, 28, 1), optimizer, False, objective)
    step = functools.partial(update, model=model, objective=objective, optimizer=optimizer, chunk=chunk)
    label = np.arange(images, dtype=np.int32) // 4
    drawn = np.random.default_rng(0).uniform(size=(images, 28, 28, 1)).astype(np.float32)
    noise = jax.random.split(jax.random.key(1), images)
    batch = parallel.replicate(Batch(jnp.asarray(drawn), noise, label, label))
    take, current = parallel.pmap(step, donate=(0,)), parallel.replicate(start)
    before, times, metrics = peak(), [], {}
    for _ in range(STEPS):
        began = time.perf_counter()
        current, metrics = jax.block_until_ready(take(current, batch))
        times.append(time.perf_counter() - began)
    return peak(), peak() - before, min(times[1:]), float(parallel.first(metrics)["loss"])


def peak():
    """The process's peak memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
