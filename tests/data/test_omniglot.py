"""Omniglot: the prepared records, the images of each named split, and the errors on wrong files."""

import functools
import http.server
import io
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from siamjax.data import Images, omniglot
from siamjax.data import _omniglot_builder as builder
from siamjax.data import omniglot_archives as archives
from siamjax.data._omniglot_builder import Omniglot, prepare
from siamjax.data.omniglot_archives import find_archives, read_archive

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {split: archives.ARCHIVES[split] for split in ("small1", "small2")}


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"))


def png(image):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "png")
    return out.getvalue()


@pytest.fixture(scope="session")
def koch(omniglot_dirs):
    return omniglot.load(*omniglot_dirs, splits="koch", size=105, train=False)


@pytest.fixture(scope="session")
def small1_zip(omniglot_dirs):
    return pathlib.Path(omniglot_dirs[1]) / "images_background_small1.zip"


@pytest.fixture(scope="session")
def members(small1_zip):
    """Name -> bytes of the small1 archive; tests change a copy of it."""
    with zipfile.ZipFile(small1_zip) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def fault(path, split="small1"):
    with pytest.raises(ValueError) as caught:
        read_archive(path, split)
    return str(caught.value)


def test_records(omniglot_dirs):
    builder = Omniglot(data_dir=omniglot_dirs[0])
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes == {"background": 19280, "evaluation": 13180, "small1": 2720, "small2": 3120}
    skip = {"image": tfds.decode.SkipDecoding()}
    tables = {}
    for split in sizes:
        source = builder.as_data_source(split, decoders=skip)
        records = source.__getitems__(range(len(source)))
        tables[split] = np.array([[r["alphabet"], r["character"], r["label"], r["drawer"]] for r in records])
    for split, first, last in [("background", 0, 963), ("evaluation", 964, 1622)]:
        _, _, label, drawer = tables[split].T
        assert set(zip(label, drawer, strict=True)) == {(c, d) for c in range(first, last + 1) for d in range(1, 21)}
    # Sorted paths: alphabets in order, and characters from 1 within each.
    both = np.concatenate([tables["background"], tables["evaluation"]])[::20]
    np.testing.assert_array_equal(np.unique(both[:, 0], return_index=True)[1], np.flatnonzero(both[:, 1] == 1))
    assert (np.diff(both[:, 1])[np.diff(both[:, 0]) == 0] == 1).all() and (np.diff(both[:, 2]) == 1).all()
    known = set(map(tuple, tables["background"]))
    assert set(map(tuple, tables["small1"])) < known and set(map(tuple, tables["small2"])) < known


def test_record_images_are_the_archives_drawings_on_white_paper(omniglot_dirs):
    data_dir, manual_dir = omniglot_dirs
    builder = Omniglot(data_dir=data_dir)
    names = builder.info.features["alphabet"].names
    source = builder.as_data_source("evaluation")
    with zipfile.ZipFile(f"{manual_dir}/images_evaluation.zip") as archive:
        for index in (0, 777, 5678, 13179):
            record = source[index]
            folder = f"images_evaluation/{names[record['alphabet']]}/character{record['character']:02d}/"
            tail = f"_{record['drawer']:02d}.png"
            [member] = [n for n in archive.namelist() if n.startswith(folder) and n.endswith(tail)]
            assert record["image"].shape == (105, 105, 1) and record["image"].mean() > 128
            np.testing.assert_array_equal(record["image"][..., 0], pixels(archive.read(member)))


def test_koch_splits(koch, omniglot_dirs):
    parts = omniglot.load(*omniglot_dirs, splits="koch", size=7)
    assert koch.keys() == parts.keys() - {"train"}
    for part in koch:
        np.testing.assert_array_equal(koch[part].label, parts[part].label)
    few_shot = parts.pop("few_shot")
    assert len(few_shot) == 382 * 20 and few_shot.group_names == koch["test"].group_names
    shapes = {part: (len(d), d.label.max() + 1, len(d.group_names)) for part, d in parts.items()}
    assert shapes == {"train": (964 * 12, 964, 30), "validation": (277 * 4, 277, 10), "test": (382 * 4, 382, 10)}
    drawers = {part: set(d.source.tolist()) for part, d in parts.items()}
    assert drawers == {"train": set(range(12)), "validation": set(range(12, 16)), "test": set(range(16, 20))}
    names = [name for d in parts.values() for name in d.group_names]
    assert len(set(names)) == 50
    assert "Old_Church_Slavonic_(Cyrillic)" in parts["test"].group_names and "ULOG" in parts["validation"].group_names
    for data in parts.values():
        np.testing.assert_array_equal(np.unique(data.group), np.arange(len(data.group_names)))


def test_images_are_ink_on_black_with_their_alphabet_and_drawer(koch, omniglot_dirs):
    test = koch["test"]
    chosen = (test.group == test.group_names.index("Tibetan")) & (test.source == 18)
    with zipfile.ZipFile(f"{omniglot_dirs[1]}/images_evaluation.zip") as archive:
        tibetan = sorted(n for n in archive.namelist() if "/Tibetan/" in n and n.endswith("_19.png"))
        expected = np.stack([pixels(archive.read(name)) == 0 for name in tibetan])
    assert expected.shape == (42, 105, 105)
    np.testing.assert_array_equal(test.images[chosen][..., 0], np.uint8(255) * expected)
    np.testing.assert_array_equal(np.diff(test.label[chosen]), 1)


@pytest.mark.parametrize("splits, size, train", [("lake", 28, (15540, 777, 25)), ("small2", 35, (3120, 156, 5))])
def test_lake_splits(splits, size, train, koch, omniglot_dirs):
    parts = omniglot.load(*omniglot_dirs, splits=splits, size=size)
    shapes = {part: (len(d), d.label.max() + 1, len(d.group_names)) for part, d in parts.items()}
    assert shapes == {"train": train, "validation": (3740, 187, 5), "test": (13180, 659, 20)}
    names = [name for d in parts.values() for name in d.group_names]
    assert len(names) == len(set(names))
    for data in parts.values():
        assert data.images.shape[1:] == (size, size, 1)
        assert np.bincount(data.source).tolist() == [len(data) // 20] * 20
    # Koch's test images are among these. Blowing one up by `size` makes every area a whole number of pixels.
    test = parts["test"]
    same = np.isin(np.array(test.group_names)[test.group], koch["test"].group_names) & (test.source >= 16)
    assert same.sum() == len(koch["test"])
    for index in range(0, same.sum(), 400):
        rows = koch["test"].images[index, ..., 0].repeat(size, axis=0).reshape(size, 105, 105).mean(axis=1)
        means = rows.repeat(size, axis=1).reshape(size, size, 105).mean(axis=2)
        np.testing.assert_allclose(test.images[same][index, ..., 0], means, atol=0.51)


def test_streamed_images_equal_those_in_memory(omniglot_dirs):
    resident, streamed = (omniglot.load(*omniglot_dirs, splits="small1", size=28, stream=stream) for stream in (0, 1))
    assert isinstance(streamed["train"].images, Images) and isinstance(streamed["test"].images, np.ndarray)
    numbers = np.random.default_rng(0).integers(0, len(resident["train"]), 50)
    np.testing.assert_array_equal(streamed["train"].images[numbers], resident["train"].images[numbers])
    np.testing.assert_array_equal(streamed["train"].label, resident["train"].label)


def test_decode_takes_one_bit_drawings_and_refuses_other_sizes(members):
    drawing = members["images_background_small1/Latin/character01/0683_01.png"]
    assert Image.open(io.BytesIO(drawing)).mode == "1"
    np.testing.assert_array_equal(archives.decode([drawing], 105)[0, ..., 0], 255 - pixels(drawing))
    with pytest.raises(ValueError, match="expected 105x105 pixels, found 105x1"):
        archives.decode([png(np.zeros((1, 105), np.uint8))], 105)


def test_unknown_split_and_size(tmp_path):
    with pytest.raises(ValueError, match=r"data\.splits='vinyals'.*koch, lake, longtail, small1, small2"):
        omniglot.load(str(tmp_path), None, "vinyals", 28)
    with pytest.raises(ValueError, match=r"data\.size=106.*1 to 105"):
        omniglot.load(str(tmp_path), None, "koch", 106)
    assert not list(tmp_path.iterdir())


def test_folder_equals_zip_and_other_files_are_ignored(small1_zip, members, tmp_path):
    folder = tmp_path / "images_background_small1"
    with zipfile.ZipFile(small1_zip) as archive:
        archive.extractall(tmp_path)
    (folder / ".DS_Store").write_bytes(b"junk")
    (folder / "Latin" / "character01" / "._0683_01.png").write_bytes(b"junk")
    junk = {"__MACOSX/images_background_small1/Latin/character01/._0683_01.png": b"junk", "read.me": b""}
    # Another root folder, another order, and no entries for folders.
    repacked = {f"any/{name}": members[name] for name in reversed(members) if name.endswith(".png")}
    drawings = read_archive(small1_zip, "small1")
    assert len(drawings) == 2720
    assert read_archive(folder, "small1") == drawings
    assert read_archive(pack(tmp_path / "repacked.zip", junk | repacked), "small1") == drawings


def test_truncated_zip_is_named(small1_zip, tmp_path):
    path = tmp_path / small1_zip.name
    path.write_bytes(small1_zip.read_bytes()[:-2000])
    message = fault(path)
    assert str(path) in message and "truncated" in message


def test_missing_and_unknown_drawings_are_named(members, tmp_path):
    lost = {
        name: data
        for name, data in members.items()
        if "Korean" not in name and "Greek/character05" not in name and not name.endswith("character03/0110_07.png")
    }
    extra = {
        "x/Latin/character27/0709_01.png": b"",
        "x/Latin/character01/0001_01.png": b"",
        "x/Klingon/character01/0_01.png": b"",
    }
    message = fault(pack(tmp_path / "a.zip", lost | extra))
    assert "alphabet Korean is missing" in message
    assert "Greek/character05 is missing: Greek has 24 characters" in message
    assert "Balinese/character03: no drawing by drawer 07" in message
    assert "x/Latin/character27/0709_01.png is not part of images_background_small1" in message
    assert "x/Klingon/character01/0_01.png is not part of" in message
    assert "x/Latin/character01/0001_01.png is a second drawing" in message
    assert "5 alphabets, 136 characters, 20 drawings" in message


def test_unusable_pngs_are_named(members, tmp_path):
    names = [name for name in members if "Latin/character01/" in name and name.endswith(".png")][:5]
    sound = members[names[0]]
    flipped = bytearray(sound)
    flipped[len(sound) // 2] ^= 1
    image = pixels(sound)
    bad = [bytes(flipped), png(image[:28, :28]), png(255 - image), png(np.maximum(image, 90)), sound[:100]]
    message = fault(pack(tmp_path / "a.zip", members | dict(zip(names, bad, strict=True))))
    reasons = ["checksum", "found 28x28", "black ink on white paper", "found greys", ""]
    for name, reason in zip(names, reasons, strict=True):
        [part] = [part for part in message.split("; ") if name in part]
        assert "cannot be used" in part and reason in part


def test_damage_inside_a_zip_is_named(small1_zip, tmp_path):
    with zipfile.ZipFile(small1_zip) as archive:
        info = archive.getinfo("images_background_small1/Greek/character09/0402_11.png")
    data = bytearray(small1_zip.read_bytes())
    data[info.header_offset + 200] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert "Greek/character09/0402_11.png cannot be used" in fault(tmp_path / "a.zip")


def test_archives_are_found_in_a_clone_and_missing_ones_are_named(tmp_path):
    (tmp_path / "python" / "images_evaluation").mkdir(parents=True)
    (tmp_path / "python" / "images_background.zip").touch()
    (tmp_path / "images_background_small1.zip").touch()
    with pytest.raises(FileNotFoundError, match=r"data\.manual_dir=.* lacks images_background_small2\.zip, as a zip"):
        prepare(str(tmp_path / "data"), str(tmp_path))
    assert not (tmp_path / "data").exists()
    (tmp_path / "images_background_small2").mkdir()
    assert find_archives(tmp_path)["evaluation"] == tmp_path / "python" / "images_evaluation"
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder; it must hold images_background\.zip, "):
        prepare(str(tmp_path / "data"), str(tmp_path / "nowhere"))


def test_offline_without_files_the_error_names_the_remedies(tmp_path, monkeypatch):
    # Nothing listens on port 9.
    monkeypatch.setattr(archives, "ADDRESS", "http://127.0.0.1:9/")
    with pytest.raises(FileNotFoundError) as caught:
        omniglot.load(str(tmp_path), None, "lake", 28)
    message = str(caught.value)
    for name in ("images_background", "images_evaluation", "images_background_small1", "images_background_small2"):
        assert f"{name}.zip" in message
    assert (
        "--config.data.manual_dir=" in message and "--config configs/quickstart.py" in message and "glyphs" in message
    )
    assert not Omniglot(data_dir=str(tmp_path)).is_prepared()


@pytest.fixture
def server(tmp_path):
    """A folder and the address that serves it."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


def test_download_takes_the_official_files_and_no_others(omniglot_dirs, server, tmp_path, monkeypatch):
    folder, address = server
    official = {url.rsplit("/", 1)[-1]: info for url, info in Omniglot.url_infos.items()}
    monkeypatch.setattr(archives, "ARCHIVES", SMALL)
    monkeypatch.setattr(archives, "ADDRESS", address)
    monkeypatch.setattr(Omniglot, "url_infos", {address + name: info for name, info in official.items()})
    zips = {path.name: path.read_bytes() for path in find_archives(omniglot_dirs[1]).values()}
    for name, data in zips.items():
        (folder / name).write_bytes(data[:-1] if "small2" in name else data)
    data_dir = str(tmp_path / "data")
    with pytest.raises(ValueError, match="not the official one"):
        prepare(data_dir)
    assert not Omniglot(data_dir=data_dir).is_prepared()
    for name, data in zips.items():
        (folder / name).write_bytes(data)
    assert prepare(data_dir).info.splits["small2"].num_examples == 3120
    # Without a network, the downloaded files are used.
    shutil.rmtree(tmp_path / "data" / Omniglot.name)
    for name in zips:
        (folder / name).unlink()
    assert prepare(data_dir).is_prepared()


CHILD = """
import sys
from siamjax.data import omniglot_archives as archives, _omniglot_builder as builder
archives.ARCHIVES = {split: archives.ARCHIVES[split] for split in ("small1", "small2")}
"""
DIES = """
import os, signal
whole = builder.Omniglot._generate_examples
def half(self, drawings):
    for index, record in whole(self, drawings):
        if len(drawings) == 3120 and index == 1500:
            os.kill(os.getpid(), signal.SIGKILL)
        yield index, record
builder.Omniglot._generate_examples = half
"""
PREPARE = "builder.prepare(sys.argv[1], sys.argv[2])"


def child(code, data_dir, manual_dir):
    """Prepares the two small archives in a process of its own."""
    command = [sys.executable, "-c", CHILD + code + PREPARE, str(data_dir), manual_dir]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def leftovers(data_dir):
    return list(data_dir.glob("*/incomplete*"))


@pytest.mark.thorough
def test_a_killed_preparation_can_be_run_again(omniglot_dirs, tmp_path):
    process = child(DIES, tmp_path, omniglot_dirs[1])
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert leftovers(tmp_path) and not Omniglot(data_dir=tmp_path).is_prepared()
    again = child("", tmp_path, omniglot_dirs[1])
    assert again.wait() == 0, again.stderr.read()
    builder = Omniglot(data_dir=tmp_path)
    assert builder.is_prepared() and len(builder.as_data_source("small2")) == 3120
    assert not leftovers(tmp_path)


@pytest.mark.thorough
def test_two_processes_prepare_at_once(omniglot_dirs, tmp_path):
    both = [child("", tmp_path, omniglot_dirs[1]) for _ in range(2)]
    for process in both:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert len(Omniglot(data_dir=tmp_path).as_data_source("small1")) == 2720
    assert not leftovers(tmp_path)


def test_a_damaged_prepared_data_set_is_prepared_again(omniglot_dirs, tmp_path, monkeypatch, capfd):
    shutil.copytree(omniglot_dirs[0], tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "siamjax_omniglot" / "1.0.0"
    shutil.rmtree(folder / "decoded", ignore_errors=True)
    monkeypatch.setattr(archives, "ARCHIVES", SMALL)
    [file] = folder.glob("*small1*")
    os.truncate(file, file.stat().st_size // 2)
    half = file.read_bytes()
    with pytest.raises(FileNotFoundError):
        builder.drawings(str(tmp_path), str(tmp_path / "none"), ["small1"], 9)
    assert file.read_bytes() == half
    (drawings,) = builder.drawings(str(tmp_path), omniglot_dirs[1], ["small1"], 9).values()
    assert len(drawings) == 2720 and not list(folder.parent.glob("damaged-*"))
    assert "siamjax_omniglot/1.0.0 is damaged" in capfd.readouterr().out


@pytest.mark.thorough
@pytest.mark.parametrize("left", [0, 1000, None])
def test_a_damaged_file_of_decoded_drawings_is_written_again(omniglot_dirs, tmp_path, left):
    shutil.copytree(omniglot_dirs[0], tmp_path, dirs_exist_ok=True)
    expected = omniglot.load(str(tmp_path), None, "small1", 9)["train"].images
    [file] = tmp_path.glob("*/1.0.0/decoded/small1_9.npy")
    content = bytearray(file.read_bytes())
    content[-1000] ^= 4
    file.write_bytes(content if left is None else content[:left])
    np.testing.assert_array_equal(omniglot.load(str(tmp_path), None, "small1", 9)["train"].images, expected)
    assert file.stat().st_size > 1000 and not list(file.parent.glob("*.partial"))


def test_a_half_copied_data_set_is_prepared_again(omniglot_dirs, tmp_path, monkeypatch):
    shutil.copytree(omniglot_dirs[0], tmp_path, dirs_exist_ok=True)
    [info] = tmp_path.glob("*/1.0.0/dataset_info.json")
    info.unlink()
    monkeypatch.setattr(archives, "ARCHIVES", SMALL)
    assert prepare(str(tmp_path), omniglot_dirs[1]).info.splits["small2"].num_examples == 3120


def test_background_trains_on_all_30_alphabets_but_no_test_alphabet(omniglot_dirs):
    parts = omniglot.load(*omniglot_dirs, splits="background", size=7)
    assert len(parts["train"]) == 964 * 20 and len(parts["train"].group_names) == 30
    assert set(parts["validation"].group_names) == set(omniglot.HELD_OUT) < set(parts["train"].group_names)
    assert len(parts["test"]) == 13180 and not set(parts["test"].group_names) & set(parts["train"].group_names)


def test_choose_never_shows_an_evaluation_alphabet(omniglot_dirs):
    parts = omniglot.load(*omniglot_dirs, splits="choose", size=7)
    assert set(parts["test"].group_names) == set(parts["validation"].group_names) == set(omniglot.HELD_OUT)
    assert not set(parts["train"].group_names) & (set(omniglot.HELD_OUT) | set(archives.EVALUATION))
