"""Damages what siamjax has stored, in every way it can, and counts what was noticed.

python benchmarks/faults.py                 all campaigns
python benchmarks/faults.py checkpoints     one of them

One function per campaign: it yields an `Outcome` per attempt, and one table shows them all. "held" means the damage did
nothing, was repaired, or was refused in one line; "silent" that other data was believed; "failed" anything else.
tests/faults/ runs short forms of some.
"""

import argparse
import collections
import contextlib
import functools
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from subprocess import PIPE, STDOUT
from typing import TYPE_CHECKING, Literal
from unittest import mock

import numpy as np

if TYPE_CHECKING:
    from siamjax.gallery import Enrolled, Store

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


def _flipped(folder: pathlib.Path, count: int, use: Callable[[], object]) -> Iterator[Outcome]:
    """One bit of a file of `folder` at a time: `use()` must return what it did before, or raise one line."""
    expected = use()
    for _ in flips(folder, count):
        yield outcome(use, expected)


def checkpoints(folder: pathlib.Path, count: int = 1000) -> Iterator[Outcome]:
    """One bit of a checkpoint; each half of the attempts restores `latest` or `best`."""
    import jax
    import jax.numpy as jnp
    import optax

    from siamjax import digests, parallel
    from siamjax.training import checkpoint, loop, state

    params = {"encoder": {"w": jax.random.normal(jax.random.key(0), (40, 30))}, "head": {"b": jnp.ones(3)}}
    start = state.State(jnp.zeros((), jnp.int32), params, {"mean": jnp.ones(7)}, optax.adamw(0.1).init(params))
    writer = checkpoint.Checkpoints(folder)
    for which in ("latest", "best"):
        writer.save(which, parallel.replicate(start.replace(step=jnp.int32(20))), {**loop.NEW_RUN, "best_step": 20})
    writer.close()

    def content(which, like):
        with contextlib.closing(checkpoint.Checkpoints(folder, read_only=True)) as reader:
            restored, progress = reader.restore(which, like)
        return digests.of(map(np.asarray, jax.tree.leaves(restored))), progress

    for which, like in (("latest", start), ("best", start.evaluated())):
        yield from _flipped(folder / which, count // 2, functools.partial(content, which, like))


def prepared(folder: pathlib.Path, count: int = 1000) -> Iterator[Outcome]:
    """One bit of prepared images: they are prepared again."""
    from PIL import Image

    from siamjax.data import folder as images
    from siamjax.data import image_cache

    for number in range(12):
        place = folder / "images" / str(number % 4)
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")

    def content():
        found = images.prepare(folder / "images", image_cache.Preparation(folder / "cache", 16), tell=lambda line: None)
        return found.files, found.images[np.arange(12)].tobytes()

    yield from _flipped(folder / "cache", count, content)


def small_files(folder: pathlib.Path, count: int = 1000) -> Iterator[Outcome]:
    """One bit of config.json, identities.json, started.json (which only reports read) or verification.json of a run."""
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
        return run.settings.to_json(), run.identities, run.figures.are_of(40), run.figures.decisions(0, 40)

    yield from _flipped(folder, count, content)


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

    yield from _flipped(folder, count, content)


class _Scorer:
    """The scores of a network with a distance head, without JAX, so that a process starts at once."""

    def score_pairs(self, embeddings: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        return -np.linalg.norm(embeddings[pairs[:, 0]] - embeddings[pairs[:, 1]], axis=1)

    def score_all(self, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        return -np.linalg.norm(queries[:, None] - gallery, axis=2)


def _store(folder: pathlib.Path, database: bool = False) -> "Store":
    """The store of a gallery for embeddings of 16 components."""
    from siamjax.gallery._database import DatabaseStore
    from siamjax.gallery._folder import FolderStore
    from siamjax.gallery._manifest import Manifest

    manifest = Manifest("run", "0123456789abcdef", str(folder / "database") if database else None)
    return (DatabaseStore if database else FolderStore)(folder, manifest, _Scorer(), "l2")


def _images(numbers: Iterable[int], identity: str) -> "tuple[np.ndarray, list[Enrolled]]":
    """Embeddings [n, 16] that follow from their numbers, and their records."""
    from siamjax.gallery import Enrolled

    embeddings = np.stack([np.random.default_rng(number).normal(size=16) for number in numbers])
    images = [Enrolled(identity, str(number), f"thumbnails/{number:032x}.jpg") for number in numbers]
    return embeddings.astype(np.float32), images


def _filled(folder: pathlib.Path, database: bool = False) -> None:
    """A gallery of ten identities, enrolled one by one; one was removed, before the last three came."""
    store = _store(folder, database)
    for person in range(10):
        if person == 7:
            with store.changing():
                store.remove("person 3")
        with store.changing():
            store.add(*_images(range(8 * person, 8 * person + 8), f"person {person}"))


def _answers(folder: pathlib.Path, database: bool = False) -> object:
    """What a gallery answers once it is reopened."""
    store = _store(folder, database)
    queries, _ = _images(range(0, 80, 5), "")
    found = store.best(queries, 3)
    return store.identities(), [list(zip(one.images, one.scores.round(3).tolist(), strict=True)) for one in found]


def gallery(folder: pathlib.Path, count: int = 500) -> Iterator[Outcome]:
    """One bit of a gallery in a folder, its FAISS index included."""
    from siamjax.gallery import _index

    with mock.patch.multiple(_index, _ALL=10, _FLAT=20):  # An index from 20 images on, rather than 50,000.
        _filled(folder)
        (folder / ".lock").unlink()
        yield from _flipped(folder, count, lambda: _answers(folder))


def database(folder: pathlib.Path, count: int = 200) -> Iterator[Outcome]:
    """One bit of a gallery in LanceDB."""
    _filled(folder, True)
    (folder / ".lock").unlink()
    yield from _flipped(folder, count, lambda: _answers(folder, True))


def _write_for_ever(folder: pathlib.Path, start: int) -> None:
    """Changes of each kind follow one another: a new log, one more record, a part, a removal."""
    from siamjax.gallery import _log

    _log.MOST = 4
    store, number = _store(folder), start
    print("ready", flush=True)
    while True:
        with store.changing():
            store.add(*_images([number, number + 1], f"pair {number}"))
        print(f"+{number}", flush=True)
        if number % 3 == 0:
            with store.changing():
                store.remove(f"pair {number}")
            print(f"-{number}", flush=True)
        number += 1000


def kills(folder: pathlib.Path, count: int = 200) -> Iterator[Outcome]:
    """A process that enrolls and removes is killed; what it had reported done must be there, whole, and nothing else.

    "silent": an image was lost, doubled or came back. The killed process has at most one change under way.
    """
    rng, held = np.random.default_rng(0), set()
    for attempt in range(count):
        code = f"import pathlib, benchmarks.faults as f; f._write_for_ever(pathlib.Path({str(folder)!r}), {attempt})"
        with subprocess.Popen([sys.executable, "-c", code], stdout=PIPE, text=True) as writer:
            assert writer.stdout and writer.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.2))
            writer.kill()
            changes = [line for line in writer.stdout.read().split("\n")[:-1] if line]
        for change in changes:
            held = held | {change[1:]} if change[0] == "+" else held - {change[1:]}
        following = int(changes[-1][1:]) + 1000 if changes else attempt
        removing = changes and changes[-1][0] == "+" and int(changes[-1][1:]) % 3 == 0
        other = held - {changes[-1][1:]} if removing else held | {str(following)}
        found = _store(folder).identities()
        names = {name.removeprefix("pair ") for name in found}
        yield "held" if names in (held, other) and set(found.values()) <= {2} else "silent"
        held = names


_TRAINING = shlex.split("""--config.data.size=16 --config.data.glyphs.test_alphabets=1 --config.augment.name=none
--config.encoder.name=conv4 --config.encoder.width=4 --config.encoder.embedding=16 --config.batch.identities=8
--config.batch.per_group=4 --config.train.steps=40 --config.train.log_every=5 --config.train.validate_every=5
--config.evaluation.trials=20 --config.evaluation.validation_trials=20 --config.evaluation.pairs=20""")
_STEPS = [f"step {step:6d}" for step in range(5, 45, 5)]
_MOMENTS = ["compiling", "compiled", *_STEPS, "wrote", "verification"]  # Lines that a training prints, in order.
_UNFINISHED = "checkpoints/*/*.orbax-checkpoint-tmp*"


def runs(folder: pathlib.Path, count: int = 22) -> Iterator[Outcome]:
    """Trainings are killed and resumed, five times each, and must end like one that ran through, to the bit.

    A kill comes up to half a second after a random line of output; each eleventh while a checkpoint is being written.
    """
    rng, tried, number = np.random.default_rng(0), 0, 0
    expected = _ended(_training(folder, folder / "whole"), folder / "whole")
    while tried < count:
        number, kills, place = number + 1, 0, folder / str(number)
        for moment in sorted(rng.choice(len(_MOMENTS), min(5, count - tried), replace=False)):
            delay = None if (tried + kills) % 11 == 10 else rng.uniform(0, 0.5)
            kills += _kill(_training(folder, place), place, _MOMENTS[moment], delay)
        ended = _ended(_training(folder, place), place)
        for _ in range(kills):
            yield "failed" if ended is None else "held" if ended == expected else "silent"
        tried += kills


def _training(folder, place):
    """A small training in a process of its own; all trainings in `folder` share what is compiled."""
    shared = {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, str(pathlib.Path(__file__).parents[1] / "launch.py"), f"--workdir={place}", *_TRAINING]
    return subprocess.Popen(command, env=os.environ | shared, stdout=PIPE, stderr=STDOUT, text=True)


def _kill(process, place, moment, delay):
    """Kills a training `delay` s after the line `moment`, or while it writes a checkpoint; whether it still ran."""
    next((line for line in process.stdout if line.startswith(moment)), None)
    while delay is None and process.poll() is None and not any(place.glob(_UNFINISHED)):
        time.sleep(0.0005)
    time.sleep(delay or 0)
    process.kill()
    process.communicate()
    return process.returncode < 0 and (delay is not None or any(place.glob(_UNFINISHED)))


def _ended(process, place):
    """All figures of a training that ended, with the digest of its last state; None if it failed."""
    from siamjax.training import metrics

    output, _ = process.communicate(timeout=600)
    if process.returncode or "Traceback" in output:
        print(output, file=sys.stderr)
        return None
    rows = [row | {"seconds": 0, "images_per_second": 0} for row in metrics.read(place / "metrics.csv")]
    names = ("results.json", "verification.json", "checkpoints/latest/40/progress/metadata")
    return rows, [(place / name).read_text() for name in names]


def hostile(folder: pathlib.Path, count: int = 1000) -> Iterator[Outcome]:
    """Image files, tables, pair lists, embeddings and archives that are cut or changed in up to 20 places.

    Formats without a checksum may give other pixels: no attempt counts as silent. One that takes over a minute fails.
    """
    rng = np.random.default_rng(0)
    readers = _hostile_readers(folder)
    for _ in range(count):
        path, use = readers[rng.integers(len(readers))]
        before = path.read_bytes()
        content, first = bytearray(before), int(rng.choice([200, len(before)]))
        for _ in range(int(rng.integers(1, 20))):
            content[rng.integers(min(first, len(before)))] = rng.integers(256)
        path.write_bytes(content[: rng.integers(len(content)) if rng.random() < 0.3 else None])
        started = time.monotonic()
        came = outcome(lambda path=path, use=use: use(path), None)
        path.write_bytes(before)
        yield "failed" if came == "failed" or time.monotonic() > started + 60 else "held"


def _hostile_readers(folder: pathlib.Path) -> list[tuple[pathlib.Path, Callable[[pathlib.Path], object]]]:
    from PIL import Image

    from siamjax.cli import network
    from siamjax.data import finding, images, pair_list

    picture, readers = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)), []
    for number, (ending, options) in enumerate(_KINDS):
        path = folder / f"{number}.{ending}"
        picture.save(path, **options)
        readers.append((path, lambda path: images.read(path, 16, 1)))
    names = ("0.jpg", "1.jpg")
    texts = {
        "table.csv": ("path,identity\n" + "".join(f'{name},"n, {name}"\n' for name in names), finding.find),
        "pairs.csv": (f"path_a,path_b,same\n{','.join(names)},1\n{','.join(names)},0\n", pair_list.read),
        "lfw.txt": ("1\t1\na\t1\t1\na\t1\ta\t1\n", pair_list.read),
    }
    (folder / "a").mkdir()
    for name in (*names, "a/a_0001.jpg"):
        picture.save(folder / name)
    for name, (text, read) in texts.items():
        (folder / name).write_text(text)
        readers.append((folder / name, read))
    np.savez(folder / "embeddings.npz", embeddings=np.ones((5, 4), np.float32), paths=np.array(list("abcde")))
    readers.append((folder / "embeddings.npz", network._embeddings))
    return readers


_KINDS = [
    *((ending, {}) for ending in ("png", "jpg", "gif", "bmp", "ppm", "tif", "webp", "tga", "pcx", "sgi", "qoi")),
    ("jpg", {"progressive": True}),
    ("tif", {"compression": "tiff_lzw"}),
]


CAMPAIGNS: dict[str, Callable[[pathlib.Path], Iterator[Outcome]]] = {
    "checkpoints": checkpoints,
    "exports": exports,
    "networks": networks,
    "prepared": prepared,
    "small_files": small_files,
    "gallery": gallery,
    "database": database,
    "kills": kills,
    "runs": runs,
    "hostile": hostile,
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
