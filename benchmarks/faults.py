"""Damages what siamjax has stored, in every way it can, and counts what was noticed.

python benchmarks/faults.py                 all campaigns
python benchmarks/faults.py checkpoints     one of them

One function per campaign: it yields an `Outcome` per attempt, and one table shows them all. "held" means the damage did
nothing, was repaired, or was refused in one line; "silent" that other data was believed; "failed" anything else.
tests/faults/ runs short forms of some.
"""

import argparse
import collections
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

Outcome = Literal["held", "silent", "failed"]


def flips(folder: pathlib.Path, count: int, seed: int = 0) -> Iterator[str]:
    """Flips one bit of one file of `folder` at a time, and flips it back; yields a description while it is flipped."""
    rng = np.random.default_rng(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    for _ in range(count):
        path = files[rng.integers(len(files))]
        before = path.read_bytes()
        content, bit = bytearray(before), int(rng.integers(8 * len(before)))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            yield f"{path.relative_to(folder)}, bit {bit}"
        finally:
            path.write_bytes(before)


def outcome(use: Callable[[], object], expected: object) -> Outcome:
    """What came of using damaged data: `use()` returns what must equal `expected`, or raises one line."""
    try:
        return "held" if use() == expected else "silent"
    except (ValueError, OSError) as error:
        return "held" if len(str(error).splitlines()) == 1 else "failed"
    except Exception:
        return "failed"


def checkpoints(folder: pathlib.Path, count: int = 1000) -> Iterator[Outcome]:
    """One bit of a checkpoint; each half of the attempts restores `latest` or `best`."""
    import jax
    import jax.numpy as jnp
    import optax

    from siamjax import digests, parallel
    from siamjax.training import loop, state
    from siamjax.training.checkpoint import Checkpoints

    params = {"encoder": {"w": jax.random.normal(jax.random.key(0), (40, 30))}, "head": {"b": jnp.ones(3)}}
    start = state.State(jnp.zeros((), jnp.int32), params, {"mean": jnp.ones(7)}, optax.adamw(0.1).init(params))
    writer = Checkpoints(folder)
    for which in ("latest", "best"):
        writer.save(which, parallel.replicate(start.replace(step=jnp.int32(20))), {**loop.NEW_RUN, "best_step": 20})
    writer.close()

    def content(which, like):
        reader = Checkpoints(folder, read_only=True)
        try:
            restored, progress = reader.restore(which, like)
        finally:
            reader.close()
        return digests.of(map(np.asarray, jax.tree.leaves(restored))), progress

    for which, like in (("latest", start), ("best", start.evaluated())):
        expected = content(which, like)
        for _ in flips(folder / which, count // 2):
            yield outcome(lambda which=which, like=like: content(which, like), expected)


CAMPAIGNS: dict[str, Callable[[pathlib.Path], Iterator[Outcome]]] = {"checkpoints": checkpoints}


def main() -> None:
    """Runs the campaigns, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=", ".join(CAMPAIGNS))
    chosen = parser.parse_args().campaigns or list(CAMPAIGNS)
    print(f"| {'campaign':20} |  tried |   held | silent | failed |\n| --- | ---: | ---: | ---: | ---: |")
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            counts = collections.Counter(CAMPAIGNS[name](pathlib.Path(folder)))
        numbers = (sum(counts.values()), counts["held"], counts["silent"], counts["failed"])
        print(f"| {name:20} | " + " | ".join(f"{number:6d}" for number in numbers) + " |", flush=True)


if __name__ == "__main__":
    main()
