"""Which files are found, their identities, and the report on the others."""

import csv
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from siamjax.data import finding, images


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)).save(path)
    return path


def known(files):
    return [(file.path.name, file.identity, file.group) for file in files]


def found(place):
    lines = []
    return finding.find(place, lines.append), lines


def test_folders_are_identities_and_their_parents_groups(tmp_path):
    for name in (
        "ann/1.pgm",
        "ann/2.jpg",
        "site/bob/1.png",
        "site/cid/x.PNG",
        "site/cid/._x.png",
        "site/cid/notes.txt",
    ):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            save(tmp_path / name)
    assert known(finding.find(tmp_path)) == [
        ("1.pgm", "ann", ""),
        ("2.jpg", "ann", ""),
        ("1.png", "site/bob", "site"),
        ("x.PNG", "site/cid", "site"),
    ]


def test_a_table_of_files(tmp_path):
    save(tmp_path / "a,b.png")
    save(tmp_path / "in" / "c.png")
    table = tmp_path / "images.csv"
    with table.open("w", newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it
        csv.writer(file).writerows(
            [("identity", "path", "source"), ("Zoë", "a,b.png", "front"), ("Bob", "in/c.png", "")]
        )
    first, second = finding.find(table)
    assert (first.identity, first.group, first.source) == ("Zoë", "", "front")
    assert (second.path, second.identity, second.source) == (tmp_path / "in" / "c.png", "Bob", str(second.path))


@pytest.mark.parametrize(
    "text,message",
    [
        ("path,who\na.png,ann\n", "images.csv: column 'identity' is missing; .* found path,who"),
        ("", "column 'path' is missing.*found nothing"),
        ("path,identity\na.png,\n", "images.csv, line 2: a path and an identity are required"),
        ("path,identity\na.png,ann\nb.png,ann\n", "images.csv, line 3: .*b.png not found"),
        ("path,identity\n", "has no images"),
        ("path,identity,group\na.png,ann,x\na.png,ann,y\n", "line 3: ann is in group 'y', and before in 'x'"),
    ],
)
def test_an_incomplete_table_is_refused(tmp_path, text, message):
    save(tmp_path / "a.png")
    (tmp_path / "images.csv").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        finding.find(tmp_path / "images.csv")


def test_an_image_and_a_spreadsheet_are_no_list_of_images(tmp_path):
    save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.png is an image; expected a folder of images, or a CSV file$"):
        finding.find(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "people.xlsx")
    with pytest.raises(ValueError, match=r"people.xlsx is not a CSV file in UTF-8; expected one with the columns path"):
        finding.find(tmp_path / "people.xlsx")


def test_places_without_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has no images; expected a folder for each identity"):
        finding.find(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere not found"):
        finding.find(tmp_path / "nowhere")


def test_skipped_files_and_folders_without_images_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_register_plugin", lambda: False)
    monkeypatch.delitem(Image.EXTENSION, ".heic", raising=False)
    save(tmp_path / "ann" / "1.png")
    for name in ("bob/1.HEIC", "bob/2.heic", "cid/1.cr2", "dora/1", "dora/1.jpg.1", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "ann" / ".DS_Store").touch()
    files, lines = found(tmp_path)
    assert known(files) == [("1.png", "ann", "")]
    assert lines == [
        "skipped 6 files without the ending of an image: 2 .heic, 1 without an ending, 1 .txt, 1 .cr2, 1 .1; to read "
        "HEIC: pip install 'siamjax[heic]'",
        "4 folders have no images, and are no identities: bob, cid, dora, empty",
    ]
    (tmp_path / "ann" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"has no images; .*skipped 6 files .*5 folders have no images.*ann"):
        found(tmp_path)


def test_links_are_followed_once_and_never_in_circles(tmp_path):
    save(tmp_path / "set" / "a" / "1.png")
    save(tmp_path / "set" / "b" / "1.png")
    save(tmp_path / "outside" / "c" / "1.png")
    before = known(found(tmp_path / "set")[0])
    for name, target in {
        "a/up": "..",
        "a/up2": "..",
        "b/up": "../..",
        "a/other": "../b",
        "a/itself": ".",
        "b/lost": "nowhere",
    }.items():
        (tmp_path / "set" / name).symlink_to(target)
    files, lines = found(tmp_path / "set")
    assert known(files) == before == [("1.png", "a", ""), ("1.png", "b", "")]
    assert lines[0].startswith("links to folders that are read anyway, or contain this one, are not followed: ")
    assert all(name in lines[0] for name in ("a/up,", "a/up2", "b/up", "a/other", "a/itself"))
    (tmp_path / "set" / "aa").symlink_to(tmp_path / "outside")
    assert [name for _, name, _ in known(found(tmp_path / "set")[0])] == ["a", "aa/c", "b"]
    (tmp_path / "set" / "a" / "other").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "set" / "a")
    assert [name for _, name, _ in known(found(tmp_path / "link")[0])] == ["link"]


def test_a_name_is_one_identity_however_its_accents_are_written(tmp_path):
    composed, apart = unicodedata.normalize("NFC", "Zoë"), unicodedata.normalize("NFD", "Zoë")
    assert composed != apart
    save(tmp_path / "set" / composed / "1.png")
    save(tmp_path / "set" / apart / "2.png")
    files, lines = found(tmp_path / "set")
    assert {file.identity for file in files} == {composed} and len(files) == 2
    assert len(lines) == 1 and lines[0].startswith(f"2 folders are one identity, {composed}: ")
    with (tmp_path / "images.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(file.path, name, name, name) for file, name in zip(files, (composed, apart), strict=True)]
        csv.writer(file).writerows([("path", "identity", "group", "source"), *rows])
    for file in found(tmp_path / "images.csv")[0]:
        assert (file.identity, file.group, file.source) == (composed,) * 3
    arguments = [file.path for file in files]
    lines = []
    assert {file.identity for file in finding.of_paths(arguments, tell=lines.append)} == {composed}
    assert len(lines) == 1 and "2 folders are one identity" in lines[0]
    assert [file.identity for file in finding.of_paths(arguments, apart, lines.append)] == [composed] * 2


def test_files_named_one_by_one_have_the_identities_of_their_folders(tmp_path, monkeypatch):
    for name in ("site1/ann/1.png", "site2/ann/1.png", "site2/bob/1.png"):
        save(tmp_path / "people" / name)
    monkeypatch.chdir(tmp_path / "people")

    def identities(*paths, identity=None):
        lines = []
        return [file.identity for file in finding.of_paths(paths, identity, lines.append)], lines

    whole, lines = identities(tmp_path / "people")
    assert whole == ["site1/ann", "site2/ann", "site2/bob"] and not lines
    one_by_one, lines = identities("site1/ann/1.png", "site2/ann/1.png", "site2/bob/1.png")
    assert one_by_one == ["site1/ann", "site2/ann", "bob"]
    assert lines == [
        "folders of the same name are different identities: site1/ann, site2/ann; --identity makes them one"
    ]
    assert identities("site1", "site2")[0] == one_by_one
    assert identities("site1", "site2/ann/1.png")[0] == ["site1/ann", "site2/ann"]
    assert identities("site1/ann/1.png") == (["ann"], []) == identities("site1/ann")
    assert identities("site1", "site2", identity="zoe") == (["zoe"] * 3, [])
    monkeypatch.chdir(tmp_path / "people" / "site1" / "ann")
    assert identities("1.png") == (["ann"], []) == identities(".")
    assert identities("../../site1/ann/1.png", "1.png") == (["ann"] * 2, [])
    assert identities(os.path.relpath(tmp_path / "nowhere" / "x.png")) == (["nowhere"], [])
