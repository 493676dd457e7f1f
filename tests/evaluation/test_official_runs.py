"""Synthetic runs in the layout of all_runs.zip, as the archive itself may not be available."""

import io
import shutil
import zipfile

import numpy as np
import PIL.Image
import pytest

from siamjax.evaluation import official_runs


def png(number):
    """A 105×105 drawing, black on white, with `number` black pixels in its first rows."""
    pixels = np.full(105 * 105, 255, np.uint8)
    pixels[:number] = 0
    out = io.BytesIO()
    PIL.Image.fromarray(pixels.reshape(105, 105)).convert("1").save(out, "png")
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs") / "all_runs"
    rng = np.random.default_rng(0)
    for run in range(1, 21):
        lines = []
        for kind in ("training", "test"):
            (root / f"run{run:02d}" / kind).mkdir(parents=True)
        for number, test in enumerate(rng.permutation(20) + 1, start=1):
            name = f"run{run:02d}"
            (root / name / "training" / f"class{number:02d}.png").write_bytes(png(100 * run + number))
            (root / name / "test" / f"item{test:02d}.png").write_bytes(png(100 * run + number))
            lines.append(f"{name}/test/item{test:02d}.png {name}/training/class{number:02d}.png")
        (root / f"run{run:02d}" / "class_labels.txt").write_text("\n".join(sorted(lines)) + "\n")
    return root


@pytest.mark.parametrize("packing", ["folder", "folder above", "zip", "zip with folder"])
def test_runs_are_read_from_an_archive_or_folder(folder, tmp_path, packing):
    manual_dir = {"folder": folder, "folder above": folder.parent}.get(packing, tmp_path)
    if "zip" in packing:
        base = {"zip": "", "zip with folder": "all_runs/"}[packing]
        with zipfile.ZipFile(tmp_path / "all_runs.zip", "w") as archive:
            for file in folder.rglob("*"):
                if file.is_file():
                    archive.write(file, base + file.relative_to(folder).as_posix())
    images, trials = official_runs.load(official_runs.find(str(manual_dir), tmp_path / "cache"), size=105)
    assert images.shape == (800, 105, 105, 1)
    assert trials.support.shape == (20, 20, 1) and trials.query.shape == trials.answer.shape == (20, 20)
    ink = (images == 255).sum(axis=(1, 2, 3))
    for run in range(20):
        np.testing.assert_array_equal(ink[trials.support[run, :, 0]], 100 * (run + 1) + np.arange(1, 21))
        np.testing.assert_array_equal(ink[trials.query[run]], ink[trials.support[run, trials.answer[run], 0]])


def test_missing_or_wrong_files_are_named(folder, tmp_path):
    broken = tmp_path / "all_runs"
    shutil.copytree(folder, broken)
    labels = broken / "run07" / "class_labels.txt"
    good = labels.read_text()
    labels.write_text(good.replace("class03", "class33"))
    with pytest.raises(ValueError, match="run07/class_labels.txt"):
        official_runs.load(broken, size=28)
    labels.write_text(good)
    (broken / "run20" / "test" / "item11.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="run20/test/item11.png"):
        official_runs.load(broken, size=28)
    (broken / "run20" / "test" / "item11.png").unlink()
    with pytest.raises(ValueError, match="run20/test/item11.png cannot be read"):
        official_runs.load(broken, size=28)
    (tmp_path / "all_runs.zip").write_bytes(b"PK truncated")
    with pytest.raises(ValueError, match="all_runs.zip is damaged"):
        official_runs.load(tmp_path / "all_runs.zip", size=28)


def test_without_files_or_internet_the_error_says_where_to_put_them(tmp_path, monkeypatch):
    monkeypatch.setattr(official_runs, "ADDRESS", "http://127.0.0.1:9/all_runs.zip")
    with pytest.raises(FileNotFoundError, match="all_runs.zip not found in .*--config.data.manual_dir=FOLDER"):
        official_runs.find(str(tmp_path), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))
