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


def prepared(folder: pathlib.Path, count: int = 1000) -> Iterator[Outcome]:
    """One bit of prepared images: they are prepared again."""
    from PIL import Image

    from siamjax.data import folder as images

    for number in range(12):
        place = folder / "images" / str(number % 4)
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")

    def content():
        found = images.prepare(folder / "images", images.Preparation(folder / "cache", 16), tell=lambda line: None)
        return found.files, found.images[np.arange(12)].tobytes()

    expected = content()
    for _ in flips(folder / "cache", count):
        yield outcome(content, expected)


def small_files(folder: pathlib.Path, count: int = 1000) -> Iterator[Outcome]:
    """One bit of config.json, identities.json or verification.json of a run."""
    import dataclasses

    from siamjax.data import Dataset
    from siamjax.decision import Decision, FalseAccepts
    from siamjax.run import Run, settings

    none = np.zeros(0, np.int32)
    parts = {part: Dataset(none, none, none, none, (), (part, "Zoë")) for part in ("train", "test")}
    decision = Decision(0.53, 7.1, 0.53, FalseAccepts(100, 9, (0, 1, 5), (0.9, 0.7, 0.2)))
    Run(folder).start(settings.default(), parts)
    Run(folder).figures.write_verification({"step": 40, "decision": dataclasses.asdict(decision)})

    def content():
        run = Run(folder)
        return run.settings.to_json(), run.identities, run.figures.are_of(40), run.figures.decisions(0)

    expected = content()
    for _ in flips(folder, count):
        yield outcome(content, expected)


def exports(folder: pathlib.Path, count: int = 1000) -> Iterator[Outcome]:
    """One bit of an exported network, against its digests."""
    from siamjax import export

    export.export("omniglot-fast", folder)
    for _ in flips(folder, count):
        yield outcome(lambda: export.check(folder), "noticed")


def networks(folder: pathlib.Path, count: int = 300) -> Iterator[Outcome]:
    """One bit of a saved network."""
    from siamjax import Network

    Network.load("omniglot-fast").save(folder)

    def content():
        network = Network.load(folder)
        return network.fingerprint, network.decision

    expected = content()
    for _ in flips(folder, count):
        yield outcome(content, expected)


CAMPAIGNS: dict[str, Callable[[pathlib.Path], Iterator[Outcome]]] = {
    "checkpoints": checkpoints,
    "exports": exports,
    "networks": networks,
    "prepared": prepared,
    "small_files": small_files,
}


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
