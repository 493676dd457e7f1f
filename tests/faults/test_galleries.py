"""Galleries that are damaged, killed, or full of other people's files: short forms of `benchmarks/faults.py`."""

import collections
import itertools
import json
import os
import stat

import numpy as np
import pytest

from benchmarks import faults


def test_no_flipped_bit_of_a_gallery_is_believed(tmp_path):
    counts = collections.Counter(faults.gallery(tmp_path, 60))
    assert counts == {"held": 60}


def test_a_killed_writer_loses_doubles_and_revives_nothing(tmp_path):
    counts = collections.Counter(faults.kills(tmp_path, 30))
    assert counts == {"held": 30}


def test_parts_are_merged_as_they_are_added(tmp_path):
    store = faults._store(tmp_path)
    written = 0
    for number in range(100):
        with store.changing():
            store.add(*faults._images([number], "ann"))
        parts = [part["images"] for part in json.loads((tmp_path / "gallery.json").read_text())["parts"]]
        assert sum(parts) == number + 1 and all(one >= 2 * other for one, other in itertools.pairwise(parts))
        written += parts[-1]
    assert written <= 100 * 7  # log2(100)
    assert len(list(tmp_path.glob("part-*"))) == len(parts) <= 7
    early = faults._store(tmp_path)
    with store.changing():
        store.add(*faults._images([100], "bob"))
    for either, count in ((early, 100), (store, 101), (faults._store(tmp_path), 101)):
        (best,) = either.best(faults._images([77], "")[0], 1)
        assert best.images[0].path == "77" and len(either) == count


FOREIGN = ("thumbnails/holiday.jpg", "part-1 of my book.txt", "notes.partial", "lookup-table.csv", "part-" + "0" * 64)


def test_other_files_in_the_folder_of_a_gallery_stay(tmp_path):
    store = faults._store(tmp_path / "gallery")
    with store.changing():
        store.add(*faults._images(range(4), "ann"))
    (tmp_path / "gallery" / "thumbnails").mkdir()
    (tmp_path / "victim").write_text("mine")
    for name in (*FOREIGN, f"part-{98:064x}.npz", f"thumbnails/{98:032x}.jpg"):
        (tmp_path / "gallery" / name).write_text("mine")
    for name in ("gallery.json.0123abcd.partial", f"part-{99:064x}.npz", f"thumbnails/{99:032x}.jpg"):
        (tmp_path / "gallery" / name).symlink_to(tmp_path / "victim")
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    with pytest.raises(KeyboardInterrupt), store.changing():
        raise KeyboardInterrupt
    with store.changing():
        assert store.remove("ann") == 4
    after = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    (part,) = before - after
    assert part.name.startswith("part-") and part.suffix == ".npz" and not after - before


def test_what_a_killed_writer_left_is_deleted(tmp_path):
    store = faults._store(tmp_path)
    with store.changing():
        store.add(*faults._images(range(4), "ann"))
        (tmp_path / "thumbnails").mkdir()
        left = (tmp_path / store._write(store._images.last(2)).file, tmp_path / "gallery.json.0123abcd.partial")
        left[1].touch()
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
    with store.changing():
        store.add(*faults._images(range(4), "ann"))
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
