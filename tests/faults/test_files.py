"""Files that are damaged, made to do harm, or no files at all; and where output goes."""

import collections
import os
import stat
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from benchmarks import faults
from siamjax import cli, files
from siamjax.data import folder, image_cache, images, omniglot_archives, tfds
from siamjax.evaluation import official_runs


def test_damaged_files_are_refused_in_one_line(tmp_path):
    assert collections.Counter(faults.hostile(tmp_path, 100)) == {"held": 100}


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link"])
def test_what_is_no_regular_file_is_never_read(tmp_path, kind):
    path = tmp_path / "ann" / "1.png"
    path.parent.mkdir()
    {
        "pipe": os.mkfifo,
        "device": lambda path: path.symlink_to("/dev/zero"),
        "folder": os.mkdir,
        "link": lambda path: path.symlink_to(tmp_path / "gone"),
    }[kind](path)
    message = "1.png not found" if kind == "link" else "1.png is not a regular file"
    for read in (
        lambda: images.read(path, 16, 1),
        lambda: files.read(path),
        lambda: list(files.table(path, ("path",), "path")),
        lambda: files.arrays(path, ("x",)),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            read()
    if kind != "folder":
        with pytest.raises(ValueError, match="1 of 1 images cannot be read: .*1.png"):
            folder.prepare(tmp_path, image_cache.Preparation(tmp_path / "cache", 16))


def test_images_larger_than_the_limit_are_refused(tmp_path, monkeypatch):
    plain, progressive, huge = (tmp_path / name for name in ("a.jpg", "b.jpg", "c.png"))
    Image.new("RGB", (400, 300)).save(plain)
    Image.new("RGB", (400, 300)).save(progressive, progressive=True)
    assert images.read(plain, 16, 1, pixels=10_000).shape == (16, 16, 1)  # It is decoded at an eighth of its size.
    with pytest.raises(ValueError, match="b.jpg .*: it has 120,000 pixels, expected at most 50,000: make it smaller"):
        images.read(progressive, 16, 1, pixels=50_000)
    with huge.open("wb") as file:
        file.truncate(10**11)
    with pytest.raises(ValueError, match="it has 100,000,000,000 bytes; expected at most 400,000,000"):
        images.read(huge, 16, 1)


def test_large_images_wait_for_one_another(monkeypatch):
    monkeypatch.setattr(images, "PIXELS", 100)
    at_once, most = [], []

    def take(pixels):
        with images._reserved(pixels):
            at_once.append(pixels)
            most.append(sum(at_once))
            time.sleep(0.01)
            at_once.remove(pixels)

    threads = [threading.Thread(target=take, args=(pixels,)) for pixels in (60, 30, 500, 60, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(sum_ for sum_ in most if sum_ != 500) <= 100 and len(most) == 5


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "F"])
def test_strips_of_a_large_image_are_those_of_the_whole(tmp_path, monkeypatch, mode):
    rng = np.random.default_rng(0)
    kinds = {"RGBA": (90, 70, 4), "CMYK": (90, 70, 4)}
    values = rng.integers(0, 256, kinds.get(mode, (90, 70)))
    if mode in ("I;16", "F"):
        image = Image.fromarray(
            (values * 257).astype(np.uint16) if mode == "I;16" else (values / 255).astype(np.float32)
        )
    else:
        image = Image.fromarray(values.astype(np.uint8), mode if mode in kinds else "L").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.tif", exif=exif)
    whole = images.read(tmp_path / "a.tif", 90, 3)
    monkeypatch.setattr(images, "_STRIP", 500)
    np.testing.assert_array_equal(images.read(tmp_path / "a.tif", 90, 3), whole)


def test_ghostscript_is_never_started(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "check_call", pytest.fail)
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match="a.png cannot be read as an image"):
        images.read(tmp_path / "a.png", 16, 1)
    assert not {".eps", ".ps", ".wmf"} & images.endings() and {".png", ".jpg", ".tif", ".webp"} <= images.endings()


def test_a_small_zip_with_a_large_file_is_refused_before_it_is_read(tmp_path):
    name = "images_background_small1/Latin/character01/0001_01.png"
    for runs in (False, True):
        path = tmp_path / ("all_runs.zip" if runs else "images_background_small1.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("run01/class_labels.txt" if runs else name, bytes(3 * 2**20))
        with pytest.raises(ValueError, match="has more than 1048576 bytes"):
            official_runs.load(path, 28) if runs else omniglot_archives.read_archive(path, "small1")


def test_a_run_names_only_files_of_its_own(tmp_path):
    (tmp_path / "run01").mkdir()
    line = "{} run01/training/class{:02d}.png"
    names = ["/etc/passwd", *[f"run01/test/item{number:02d}.png" for number in range(2, 21)]]
    lines = [line.format(name, number) for number, name in enumerate(names, 1)]
    (tmp_path / "run01" / "class_labels.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="class_labels.txt: expected 20 lines"):
        official_runs.load(tmp_path, 28)


def test_compressed_arrays_and_objects_are_refused(tmp_path):
    path = tmp_path / "e.npz"
    for save in (
        lambda: np.savez_compressed(path, x=np.zeros(10**6)),
        lambda: np.savez(path, x=np.array([{}], object)),
        lambda: path.write_bytes(b""),
    ):
        save()
        with pytest.raises(ValueError, match="compressed|allow_pickle|zip"):
            files.arrays(path, ("x",))


def test_a_prepared_data_set_cannot_name_a_module(tmp_path):
    place = tmp_path / "evil" / "1.0.0"
    place.mkdir(parents=True)
    text = r'{"featuresDict": {"features": {"x": {"python\u0043lassName": "os.path.X"}}}}'
    (place / "features.json").write_text(text)
    from configs import default

    names = default.get_config().data.tfds
    names.name = "evil"
    with pytest.raises(ValueError, match="features.json names 'os.path.X', which is not a feature of TFDS"):
        tfds.prepare(names, image_cache.Preparation(tmp_path / "cache", 16), data_dir=str(tmp_path))


def test_output_to_a_pipe_or_device_leaves_it_in_place(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    files.write(pipe, b"content")
    reader.join(10)
    assert got == [b"content"] and stat.S_ISFIFO(pipe.stat().st_mode)
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    files.write(null, b"content")
    assert stat.S_ISCHR(null.stat().st_mode) and sorted(os.listdir(tmp_path)) == ["null", "pipe"]


def test_a_file_in_the_way_of_a_folder_and_a_folder_in_that_of_a_file_are_told_in_words(tmp_path):
    (tmp_path / "ten.py").touch()
    with pytest.raises(OSError, match=r"ten.py/a/b.npz cannot be written: .*ten.py is a file; choose another folder"):
        files.write(tmp_path / "ten.py" / "a" / "b.npz", b"content")
    with pytest.raises(OSError, match="is a folder; name a file$"):
        files.write(tmp_path, b"content")
    with pytest.raises(OSError, match=r"/n+\.\.\. is too long as a name"):
        files.write(tmp_path / ("n" * 300), b"content")
    assert os.listdir(tmp_path) == ["ten.py"]


def test_what_the_system_says_is_told_in_words(tmp_path, monkeypatch, capsys):
    """Wherever it comes from: the command has no bare "[Errno 13]"."""

    def refused(*_):
        os.mkdir(tmp_path)

    monkeypatch.setattr("siamjax.cli.gallery.images.find", refused)
    assert cli.main(["enroll", "gallery", "a.png"]) == 2
    assert capsys.readouterr().err == f"siamjax enroll: {tmp_path} exists already; choose another name\n"


def test_a_link_is_not_followed_by_what_writes_a_file(tmp_path):
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / "out").symlink_to(tmp_path / "victim")
    (tmp_path / "out.partial").symlink_to(tmp_path / "victim")
    files.write(tmp_path / "out", b"content")
    assert (tmp_path / "victim").read_bytes() == b"mine" and (tmp_path / "out").read_bytes() == b"content"


def test_names_cannot_control_a_terminal(tmp_path, capsys):
    evil = tmp_path / "a\x1b[31mnn"
    evil.mkdir()
    (evil / "1\x9b.png").write_bytes(b"none")
    (evil / "2\u202e.txt").touch()
    assert cli.main(["verify", "omniglot-fast", *[str(evil / "1\x9b.png")] * 2]) == 2
    assert cli.main(["embed", "omniglot-fast", str(evil), "-o", str(tmp_path / "o.npz")]) == 2
    out, err = capsys.readouterr()
    assert "a\\x1b[31mnn" in err and not {"\x1b", "\x9b", "\u202e"} & set(out + err)
    assert files.named("a\x1b[31m") == "a\\x1b[31m" and files.shown("\ud800\udcff") == "\ufffd\ufffd"


def test_a_terminal_without_an_accent_shows_it_escaped():
    code = "from siamjax import host; host.tune(); print('Zo\\u00eb', flush=True)"
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "Zo\\xeb\n"), done.stderr


def test_an_interrupt_is_one_line(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("siamjax.cli.gallery.images.find", interrupted)
    assert cli.main(["enroll", "gallery", "a.png"]) == 130
    assert capsys.readouterr().err == "siamjax enroll: interrupted\n"
