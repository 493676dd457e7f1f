"""Images of one's own: what is found, how odd files are read, what is said of bad ones, and what is kept for later."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

from siamjax.data import folder


def picture(seed=0, shape=(20, 30)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture(hash(str(path)) % 1000) if image is None else image
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def prepare(place, cache, **changed):
    lines = []
    options = dict(size=16, channels=1, invert=False, skip_unreadable=False) | changed
    return folder.prepare(place, cache=cache, tell=lines.append, **options), lines


def known(files):
    return [(file.path.name, file.identity, file.group) for file in files]


def test_a_folder_an_identity_with_folders_around_them_as_groups(tmp_path):
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
    assert known(folder.find(tmp_path)) == [
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
    first, second = folder.find(table)
    assert (first.identity, first.group, first.source) == ("Zoë", "", "front")
    assert (second.path, second.identity, second.source) == (tmp_path / "in" / "c.png", "Bob", str(second.path))


@pytest.mark.parametrize(
    "text,message",
    [
        ("path,who\na.png,ann\n", "images.csv: column 'identity' is missing; .* found path,who"),
        ("", "column 'path' is missing.*found nothing"),
        ("path,identity\na.png,\n", "images.csv, line 2: a path and an identity are needed"),
        ("path,identity\na.png,ann\nb.png,ann\n", "images.csv, line 3: .*b.png is not there"),
        ("path,identity\n", "holds no images"),
        ("path,identity,group\na.png,ann,x\na.png,ann,y\n", "line 3: ann is in group 'y', and was in 'x'"),
    ],
)
def test_a_table_that_says_too_little_is_refused(tmp_path, text, message):
    save(tmp_path / "a.png")
    (tmp_path / "images.csv").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        folder.find(tmp_path / "images.csv")


def test_places_without_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no images; expected a folder for each identity"):
        folder.find(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere is not there"):
        folder.find(tmp_path / "nowhere")


def test_the_whole_image_is_kept_with_its_aspect(tmp_path):
    wide = np.full((10, 40), 200, np.uint8)
    got = folder.read(save(tmp_path / "wide.png", wide), 20, 1)[..., 0]
    np.testing.assert_array_equal(got[8:12], 200)
    assert got[:7].max() == got[13:].max() == 0
    white = folder.read(save(tmp_path / "ink.png", 255 - wide), 20, 1, invert=True)
    np.testing.assert_array_equal(white[..., 0], got)


def test_images_of_every_kind_become_the_same_pixels(tmp_path):
    grey = np.kron(picture(3, (8, 8)) & 0xF0, np.ones((2, 2), np.uint8))
    image, colour = Image.fromarray(grey), np.stack([grey, 255 - grey, grey // 2], axis=2)
    expected, in_colour = grey[..., None], colour
    for name, saved in {
        "l.png": image,
        "l.pgm": image,
        "l.bmp": image,
        "rgb.png": image.convert("RGB"),
        "palette.png": image.convert("P"),
        "sixteen.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "cmyk.tif": Image.merge("CMYK", [*[image.point(lambda v: 255 - v)] * 3, Image.new("L", (16, 16), 0)]),
        "alpha.png": Image.merge("LA", [image, Image.new("L", (16, 16), 255)]),
        "float.tif": Image.fromarray(grey.astype(np.float32)),
    }.items():
        got = folder.read(save(tmp_path / name, saved), 16, 1)
        np.testing.assert_allclose(got.astype(int), expected, atol=1, err_msg=name)
    np.testing.assert_array_equal(folder.read(save(tmp_path / "colour.png", colour), 16, 3), in_colour)
    clear = Image.merge("LA", [image, Image.new("L", (16, 16), 0)])
    np.testing.assert_array_equal(folder.read(save(tmp_path / "clear.png", clear), 16, 1), 255)
    dot = folder.read(save(tmp_path / "dot.png", np.full((1, 1), 7, np.uint8)), 16, 1)
    np.testing.assert_array_equal(dot, 7)


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path):
    image = picture(1, (16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    save(tmp_path / "turned.png", np.rot90(image), exif=exif)
    np.testing.assert_array_equal(folder.read(tmp_path / "turned.png", 16, 1)[..., 0], image)


def test_unreadable_files_are_named_and_left_out_only_if_asked(tmp_path):
    good = save(tmp_path / "set" / "ann" / "good.png")
    (tmp_path / "set" / "ann" / "empty.jpg").touch()
    save(tmp_path / "set" / "ann" / "cut.jpg")
    cut = tmp_path / "set" / "ann" / "cut.jpg"
    cut.write_bytes(cut.read_bytes()[:200])
    for _ in range(2):  # nothing half-prepared is left that a second try would take
        with pytest.raises(ValueError, match=r"2 of 3 images cannot be read: .*cut.jpg.*empty.jpg.*skip_unreadable"):
            prepare(tmp_path / "set", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("images-*[!k]"))  # locks alone
    prepared, lines = prepare(tmp_path / "set", tmp_path / "cache", skip_unreadable=True)
    assert [file.path for file in prepared.files] == [good]
    assert any("left out" in line and "empty.jpg" in line for line in lines)


def test_what_a_killed_preparation_left_is_cleared_away(tmp_path):
    save(tmp_path / "set" / "ann" / "1.png")
    prepare(tmp_path / "set", tmp_path / "cache")
    (made,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    made.rename(made.with_name(f"{made.name}.partial"))
    prepared, _ = prepare(tmp_path / "set", tmp_path / "cache")
    assert len(prepared.files) == 1 and not list((tmp_path / "cache").glob("*.partial"))
    with pytest.raises(ValueError, match="data.folder.channels=2 is not known; choose one of 1, 3"):
        prepare(tmp_path / "set", tmp_path / "cache", channels=2)


def test_an_image_of_more_pixels_than_is_safe_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="huge.png cannot be read as an image: .*decompression bomb"):
        folder.read(path, 16, 1)


def test_a_name_that_is_no_utf8_is_read_and_shown(tmp_path):
    odd = os.fsencode(tmp_path) + b"/set/\xe9ric"
    os.makedirs(odd)
    Image.fromarray(picture()).save(os.fsdecode(odd + b"/\xff.png"))
    open(odd + b"/\xfe.png", "wb").close()
    prepared, lines = prepare(tmp_path / "set", tmp_path / "cache", skip_unreadable=True)
    assert len(prepared.files) == 1 and prepared.files[0].identity == "�ric"
    for line in lines:
        line.encode()


def test_what_is_prepared_is_taken_again_until_a_file_changes(tmp_path):
    for number in range(4):
        save(tmp_path / "set" / "ann" / f"{number}.png", picture(number))
    save(tmp_path / "set" / "bob" / "twin.png", picture(2))
    prepared, lines = prepare(tmp_path / "set", tmp_path / "cache")
    assert "5 images of 2 identities in 1 group(s); 1 to 4 an identity, median 2; 1 with a single image" in lines[0]
    assert "the same file twice, as ann and as bob" in lines[1] and "twin.png" in lines[1]
    (made,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    before = (made / "images.array_record").stat().st_mtime_ns
    again, _ = prepare(tmp_path / "set", tmp_path / "cache")
    assert (made / "images.array_record").stat().st_mtime_ns == before
    expected = np.stack([folder.read(file.path, 16, 1) for file in prepared.files])
    np.testing.assert_array_equal(again.images[np.arange(5)], expected)
    np.testing.assert_array_equal(again.images[np.array([3, 0])], expected[[3, 0]])
    save(tmp_path / "set" / "ann" / "0.png", picture(9))
    changed, _ = prepare(tmp_path / "set", tmp_path / "cache")
    np.testing.assert_array_equal(changed.images[np.array([0])][0], folder.read(changed.files[0].path, 16, 1))
    assert np.any(changed.images[np.array([0])] != expected[0])


def test_no_identity_is_in_two_parts_and_every_one_is_tested_once(tmp_path):
    for person in range(11):
        for number in range(2):
            save(tmp_path / "set" / f"site{person % 4}" / f"p{person}" / f"{number}.png")
    prepared, _ = prepare(tmp_path / "set", tmp_path / "cache")
    tested = []
    for fold in range(4):
        parts = folder.split(prepared, folds=4, fold=fold, by="identity", seed=3)
        people = {part: {prepared.files[n].identity for n in numbers} for part, numbers in parts.items()}
        assert sum(len(names) for names in people.values()) == 11 == len(set.union(*people.values()))
        assert 2 <= len(people["test"]) <= 3 and 2 <= len(people["validation"]) <= 3
        tested += people["test"]
        made = folder.dataset(prepared, parts["train"], "train")
        assert made.images.shape == (len(parts["train"]), 16, 16, 1) and made.label.max() + 1 == len(people["train"])
        for stream in (False, True):
            images = folder.dataset(prepared, parts["train"], "train", stream).images[np.array([1])]
            np.testing.assert_array_equal(images[0], prepared.images[parts["train"][1:2]][0])
    assert len(tested) == 11 == len(set(tested))
    parts = folder.split(prepared, folds=4, fold=0, by="group", seed=0)
    sites = [{prepared.files[n].group for n in numbers} for numbers in parts.values()]
    assert sorted(map(len, sites)) == [1, 1, 2] and len(set.union(*sites)) == 4
    with pytest.raises(ValueError, match="11 identities cannot be dealt out to data.folder.folds=6 parts; 12 are"):
        folder.split(prepared, folds=6, fold=0, by="identity", seed=0)
