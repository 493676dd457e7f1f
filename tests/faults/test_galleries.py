"""Galleries that are damaged, killed, or full of other people's files: short forms of `benchmarks/faults.py`."""

import collections
import itertools
import json
import os
import resource
import stat
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import faults
from siamjax import gallery
from siamjax.gallery import _log
from siamjax.gallery._types import Enrolled

pytestmark = pytest.mark.thorough


def test_no_flipped_bit_of_a_gallery_is_believed(tmp_path):
    counts = collections.Counter(faults.gallery(tmp_path, 60))
    assert counts == {"held": 60}


def test_a_killed_writer_loses_doubles_and_revives_nothing(tmp_path):
    counts = collections.Counter(faults.kills(tmp_path, 30))
    assert counts == {"held": 30}


def added(store, numbers, identity="ann"):
    with store.changing():
        store.add(*faults._images(numbers, identity))


def test_few_images_go_to_a_log_and_from_there_into_parts_that_are_merged(tmp_path, monkeypatch):
    monkeypatch.setattr(_log, "MOST", 3)
    store, written, logs, parts = faults._store(tmp_path), 0, set(), []
    for number in range(100):
        added(store, [number])
        before, parts = parts, json.loads((tmp_path / "gallery.json").read_text())["parts"]
        sizes, files = [part["images"] for part in parts], [path.name for path in tmp_path.glob("log-*")]
        assert sum(sizes) == (number + 1) // 4 * 4 and all(one >= 2 * other for one, other in itertools.pairwise(sizes))
        assert len(files) == ((number + 1) % 4 > 0)
        logs.update(files)
        written += sizes[-1] if parts != before else 0
    assert written <= 100 * 5 and len(logs) == 25  # log2(25) = 4.6
    assert len(list(tmp_path.glob("part-*"))) == len(parts) <= 5
    early = faults._store(tmp_path)
    with store.changing():
        store.add(*faults._images([100], "bob"))
    for either, count in ((early, 100), (store, 101), (faults._store(tmp_path), 101)):
        (best,) = either.best(faults._images([77], "")[0], 1)
        assert best.images[0].path == "77" and len(either) == count


def logged(folder):
    """A gallery with a part of four images, and three additions in its log: the store, the log, and where they end."""
    store, ends = faults._store(folder), []
    added(store, range(4))
    with store.changing():
        store.rename("ann", "old")
    for number in range(10, 13):
        added(store, [number, number + 10], f"new {number}")
        (log,) = folder.glob("log-*")
        ends.append(log.stat().st_size)
    return store, log, ends


def test_who_has_read_an_addition_that_failed_afterwards_does_not_bring_it_back(tmp_path):
    _, log, ends = logged(tmp_path)
    early = faults._store(tmp_path)
    os.truncate(log, ends[-2])  # As a writer does whose disk does not confirm the addition,
    added(faults._store(tmp_path), [12, 22], "new xx")  # and another one of the same size follows.
    assert log.stat().st_size == ends[-1]
    with early.changing():
        early.rename("old", "ann")
    assert gallery.identities(tmp_path) == {"ann": 4, "new 10": 2, "new 11": 2, "new xx": 2}


def test_embeddings_are_stored_as_float32_and_those_that_are_not_finite_are_refused(tmp_path):
    store = faults._store(tmp_path)
    images = [Enrolled("ann", "", "")] * 300
    with store.changing():
        store.add(np.ones((300, 4), jnp.bfloat16), images)
    with pytest.raises(ValueError, match="not finite"), store.changing():
        store.add(np.full((1, 4), np.nan, np.float32), images[:1])
    assert gallery.identities(tmp_path) == {"ann": 300} and len(faults._store(tmp_path)) == 300


def test_an_addition_that_was_cut_off_anywhere_does_not_count_and_is_not_built_upon(tmp_path):
    first, log, ends = logged(tmp_path)
    whole, counts = log.read_bytes(), {"new 10": 2, "new 11": 2, "old": 4}
    torn = [whole[:size] for size in range(ends[1], ends[2])]
    torn += [whole[:size].ljust(ends[2], b"\0") for size in range(ends[1], ends[2])]  # Power was lost.
    for content in torn:
        log.write_bytes(content)
        assert gallery.identities(tmp_path) == counts
    log.write_bytes(whole[: ends[1]])
    for early in (first, None):
        (log,) = tmp_path.glob("log-*")
        with log.open("ab") as file:
            file.write(whole[ends[1] : ends[2] - 9])
        opened = early or faults._store(tmp_path)
        added(opened, [30], "next")
        counts["next"] = counts.get("next", 0) + 1
        assert gallery.identities(tmp_path) == opened.identities() == counts
        (best,) = opened.best(faults._images([30], "")[0], 1)
        assert best.images[0].identity == "next" and not log.exists()
    with first.changing():
        first.remove("next")
    assert len(list(tmp_path.glob("*-*"))) == 1


@pytest.mark.parametrize("room", [0, 1, 500])
def test_an_addition_for_which_there_is_no_room_leaves_the_gallery_as_it_was(tmp_path, room):
    store, log, ends = logged(tmp_path)
    before, limits = log.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ends[2] + room, limits[1]))
    try:
        with pytest.raises(OSError, match=r"log-\w+.bin cannot be read or written \(File too large\)"):
            added(store, range(50, 60), "late")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert log.read_bytes() == before and "late" not in store.identities()
    added(store, range(50, 60), "late")
    assert gallery.identities(tmp_path) == store.identities() and store.identities()["late"] == 10 and log.exists()


def test_a_damaged_log_is_named(tmp_path):
    store, log, ends = logged(tmp_path)
    whole = log.read_bytes()
    for content, message in (
        (b"", "its first line is not its name"),
        (whole.replace(b"log-", b"lag-"), "its first line is not its name"),
        (whole[: ends[0] - 1], "it has no complete record"),
        (whole[: ends[0]] + bytes([whole[ends[0]] ^ 64]) + whole[ends[0] + 1 :], "the length of a record has changed"),
        (whole[: ends[0]] + bytes(100) + whole[ends[0] + 100 :], "the length of a record has changed"),
        (whole[: ends[1] - 32] + bytes(32) + whole[ends[1] :], "the content of a record has changed"),
        (whole[: ends[2] - 33] + bytes(1) + whole[ends[2] - 32 :], "the content of a record has changed"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "the content of a record has changed"),
        (whole[: ends[1]] + _log._record(np.ones((1, 3), np.float32), {"identity": ["a"]}), "'path'"),
    ):
        log.write_bytes(content)
        for use in (lambda: faults._store(tmp_path), lambda: gallery.identities(tmp_path)):
            with pytest.raises(ValueError, match=rf"log-\w+.bin is damaged \({message}\); restore it from a backup"):
                use()
    log.unlink()
    for use in (lambda: faults._store(tmp_path), lambda: added(store, [40])):
        with pytest.raises(FileNotFoundError, match=r"log-\w+.bin, which gallery.json names, was not found; restore"):
            use()


_ADDING = """
import pathlib, sys, benchmarks.faults as faults
from siamjax.gallery import _log
_log.MOST = 5
store = faults._store(pathlib.Path(sys.argv[1]))
for number in range(40):
    with store.changing():
        store.add(*faults._images([number], sys.argv[2]))
"""


def test_several_writers_and_readers_of_a_log_lose_nothing(tmp_path):
    added(faults._store(tmp_path), [100])
    writers = [subprocess.Popen([sys.executable, "-c", _ADDING, str(tmp_path), name]) for name in ("bob", "cid")]
    counts, looked = {}, 0
    while any(writer.poll() is None for writer in writers):
        before, opened = counts, faults._store(tmp_path)
        counts, looked = gallery.identities(tmp_path), looked + 1
        for name in counts:
            numbers = [image.path for image in opened.images([name])]
            assert before.get(name, 0) <= len(numbers) <= counts[name]
            assert name == "ann" or numbers == list(map(str, range(len(numbers))))
    assert [writer.returncode for writer in writers] == [0, 0] and looked > 20
    assert gallery.identities(tmp_path) == {"ann": 1, "bob": 40, "cid": 40}


def test_a_gallery_whose_log_went_into_a_part_is_one_of_older_versions(tmp_path):
    """While it has a log, an older siamjax refuses it: it does not know the key."""
    store, *_ = logged(tmp_path)
    assert "log" in json.loads((tmp_path / "gallery.json").read_text())
    added(store, range(200, 200 + _log.MOST))
    saved = json.loads((tmp_path / "gallery.json").read_text())
    assert saved.keys() == {"format", "run", "network", "database", "parts", "next", "lookup", "digest"}
    assert (saved["next"], [part["images"] for part in saved["parts"]]) == (10 + _log.MOST, [10 + _log.MOST])


def test_no_link_is_followed_to_add_images(tmp_path):
    store, log, _ = logged(tmp_path / "gallery")
    log.rename(tmp_path / "victim")
    log.symlink_to(tmp_path / "victim")
    before = (tmp_path / "victim").read_bytes()
    with pytest.raises(OSError, match=r"log-\w+.bin cannot be read or written"):
        added(store, [50])
    assert (tmp_path / "victim").read_bytes() == before


FOREIGN = ("thumbnails/holiday.jpg", "part-1 of my book.txt", "notes.partial", "lookup-table.csv", "part-" + "0" * 64)


def test_other_files_in_the_folder_of_a_gallery_stay(tmp_path):
    store = faults._store(tmp_path / "gallery")
    with store.changing():
        store.add(*faults._images(range(4), "ann"))
    (tmp_path / "gallery" / "thumbnails").mkdir()
    (tmp_path / "victim").write_text("mine")
    for name in (*FOREIGN, f"part-{98:064x}.npz", f"thumbnails/{98:032x}.jpg", f"log-{98:032x}.bin"):
        (tmp_path / "gallery" / name).write_text("mine")
    for name in (
        "gallery.json.0123abcd.partial",
        f"part-{99:064x}.npz",
        f"thumbnails/{99:032x}.jpg",
        f"log-{99:032x}.bin",
    ):
        (tmp_path / "gallery" / name).symlink_to(tmp_path / "victim")
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    with pytest.raises(KeyboardInterrupt), store.changing():
        raise KeyboardInterrupt
    with store.changing():
        assert store.remove("ann") == 4
    after = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    (log,) = before - after
    assert log.name.startswith("log-") and not after - before


def test_what_a_killed_writer_left_is_deleted(tmp_path):
    store = faults._store(tmp_path)
    with store.changing():
        store.add(*faults._images(range(4), "ann"))
        (tmp_path / "thumbnails").mkdir()
        some = store._images.last(2)
        left = [tmp_path / _log.create(tmp_path, some.embeddings, some.columns).file]
        left += [tmp_path / store._write(some).file, tmp_path / "gallery.json.0123abcd.partial"]
        left[2].touch()
    assert all(path.exists() for path in left)
    with store.changing():
        store.remove("nobody")
        store.add(*faults._images(range(4, 8), "bob"))
        store.remove("bob")
    assert not any(path.exists() for path in left) and faults._store(tmp_path).identities() == {"ann": 4}


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda saved: saved | {"next": 5}, "its content has changed since"),
        (lambda saved: {"format": 2}, "'run'|'database'"),
        (lambda saved: _edited(saved, parts=[{"file": "../x.npz", "images": 1}]), "'../x.npz' is not the name of a"),
        (lambda saved: _edited(saved, parts=[{"file": "/etc/passwd", "images": 1}]), "'/etc/passwd' is not the name"),
        (lambda saved: _edited(saved, log="../log-" + "0" * 32 + ".bin"), "'../log-0+.bin' is not the name of a"),
        (lambda saved: _edited(saved, log=None), "None is not the name of a"),
        (lambda saved: _edited(saved, parts=3), "int"),
        (lambda saved: _edited(saved, next=-1), "-1 is not a number"),
        (lambda saved: _edited(saved, partt=[]), "partt is missing or not known"),
        (lambda saved: _edited(saved, run=7), "7 is not text"),
        (lambda saved: [], "list"),
    ],
)
def test_a_damaged_gallery_json_is_named(tmp_path, change, message):
    store = faults._store(tmp_path)
    with store.changing():
        store.add(*faults._images(range(4), "ann"))
    path = tmp_path / "gallery.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=f"gallery.json is damaged, or of another version .*({message}).*; restore it"):
        faults._store(tmp_path)


def _edited(saved, **values):
    del saved["digest"]
    return saved | values


def test_a_damaged_or_missing_part_is_named(tmp_path):
    store = faults._store(tmp_path)
    added(store, range(4), "bob")
    with store.changing():
        store.rename("bob", "ann")
    (path,) = tmp_path.glob("part-*")
    columns = {"identity": ["ann"] * 4, "path": ["p"] * 4, "thumbnail": [1, 2, 3, 4]}
    for arrays in (
        {"embeddings": np.ones((4, 16), np.float32)},
        {"embeddings": np.ones((4, 16), object), "numbers": np.arange(4), "columns": np.zeros(1, np.uint8)},
        {"embeddings": np.ones((3, 16), np.float32), "numbers": np.arange(4), "columns": _bytes(columns)},
        {"embeddings": np.ones((4, 16), np.float32), "numbers": np.arange(4), "columns": _bytes(columns)},
        {"embeddings": np.full((4, 16), np.nan, np.float32), "numbers": np.arange(4), "columns": _bytes(columns)},
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=r"part-\w+.npz is damaged \(.*\); restore it from a backup"):
            faults._store(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"part-\w+.npz, which gallery.json names, was not found; restore it"):
        faults._store(tmp_path)


def _bytes(columns):
    return np.frombuffer(json.dumps(columns).encode(), np.uint8)


def test_files_of_a_gallery_are_its_owners_alone(tmp_path):
    store = faults._store(tmp_path / "gallery")
    with store.changing():
        store.add(*faults._images(range(4), "ann"))
    for path in (tmp_path / "gallery").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(os.stat(tmp_path / "gallery").st_mode) == 0o700


def test_a_database_deletes_only_thumbnails_of_its_own(tmp_path):
    pytest.importorskip("lancedb")
    gallery, outside = tmp_path / "gallery", tmp_path / "victim.jpg"
    store = faults._store(gallery, True)
    embeddings, images = faults._images(range(4), "ann")
    names = ("../victim.jpg", str(outside), "gallery.json", images[3].thumbnail)
    rows = [type(image)(image.identity, image.path, name) for image, name in zip(images, names, strict=True)]
    (gallery / "thumbnails").mkdir(parents=True)
    (gallery / images[3].thumbnail).touch()
    outside.touch()
    with store.changing():
        store.add(embeddings, rows)
    with store.changing():
        assert store.remove("ann") == 4
    assert outside.exists() and (gallery / "gallery.json").exists() and not (gallery / images[3].thumbnail).exists()


def test_a_database_that_has_lost_its_latest_change_is_refused(tmp_path):
    pytest.importorskip("lancedb")
    store = faults._store(tmp_path, True)
    for person in ("ann", "bob"):
        with store.changing():
            store.add(*faults._images(range(4), person))
    with store.changing():
        store.remove("bob")
    assert faults._store(tmp_path, True).identities() == {"ann": 4}
    latest = min((tmp_path / "database").rglob("*.manifest"))  # Their names count down.
    latest.unlink()
    with pytest.raises(ValueError, match="has lost changes: it is at version .*; restore it from a backup"):
        faults._store(tmp_path, True)
    with pytest.raises(ValueError, match="has lost changes"), store.changing():
        pass
