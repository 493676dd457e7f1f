"""Your own images: which files are read, the report on bad ones, the cache, and the split into parts."""

import os

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from siamjax import data
from siamjax.data import folder, image_cache, images, splits
from siamjax.run import settings


def picture(seed=0, shape=(20, 30)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture(hash(str(path)) % 1000) if image is None else image
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def prepare(place, cache, **changed):
    lines = []
    how = image_cache.Preparation(cache, 16, **changed)
    return folder.prepare(place, how, lines.append), lines


def test_unreadable_files_are_named_and_skipped_only_on_request(tmp_path):
    good = save(tmp_path / "set" / "ann" / "good.png")
    (tmp_path / "set" / "ann" / "empty.jpg").touch()
    save(tmp_path / "set" / "ann" / "cut.jpg")
    cut = tmp_path / "set" / "ann" / "cut.jpg"
    cut.write_bytes(cut.read_bytes()[:200])
    for _ in range(2):  # nothing incomplete is left for a second try
        with pytest.raises(ValueError, match=r"2 of 3 images cannot be read: .*cut.jpg.*empty.jpg.*skip_unreadable"):
            prepare(tmp_path / "set", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("images-*[!k]"))  # locks alone
    prepared, lines = prepare(tmp_path / "set", tmp_path / "cache", skip_unreadable=True)
    assert [file.path for file in prepared.files] == [good]
    assert any("skipped: " in line and "empty.jpg" in line for line in lines)


def test_remains_of_a_killed_preparation_are_removed(tmp_path):
    save(tmp_path / "set" / "ann" / "1.png")
    prepare(tmp_path / "set", tmp_path / "cache")
    (stored,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    stored.rename(stored.with_name(f"{stored.name}.partial"))
    prepared, _ = prepare(tmp_path / "set", tmp_path / "cache")
    assert len(prepared.files) == 1 and not list((tmp_path / "cache").glob("*.partial"))
    with pytest.raises(ValueError, match="data.folder.channels=2 is not known; choose one of 1, 3"):
        prepare(tmp_path / "set", tmp_path / "cache", channels=2)


def test_a_name_that_is_not_utf8_is_read_and_shown(tmp_path):
    odd = os.fsencode(tmp_path) + b"/set/\xe9ric"
    os.makedirs(odd)
    Image.fromarray(picture()).save(os.fsdecode(odd + b"/\xff.png"))
    open(odd + b"/\xfe.png", "wb").close()
    prepared, lines = prepare(tmp_path / "set", tmp_path / "cache", skip_unreadable=True)
    assert len(prepared.files) == 1 and prepared.files[0].identity == "�ric"
    for line in lines:
        line.encode()


def test_the_cache_is_used_until_a_file_changes(tmp_path):
    for number in range(4):
        save(tmp_path / "set" / "ann" / f"{number}.png", picture(number))
    save(tmp_path / "set" / "bob" / "twin.png", picture(2))
    prepared, lines = prepare(tmp_path / "set", tmp_path / "cache")
    assert "5 images of 2 identities in 1 group(s); 1 to 4 per identity, median 2; 1 with a single image" in lines[0]
    assert "duplicate files of ann and bob" in lines[1] and "twin.png" in lines[1]
    (stored,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    before = (stored / "images.array_record").stat().st_mtime_ns
    again, _ = prepare(tmp_path / "set", tmp_path / "cache")
    assert (stored / "images.array_record").stat().st_mtime_ns == before
    expected = np.stack([images.read(file.path, 16, 1) for file in prepared.files])
    np.testing.assert_array_equal(again.images[np.arange(5)], expected)
    np.testing.assert_array_equal(again.images[np.array([3, 0])], expected[[3, 0]])
    save(tmp_path / "set" / "ann" / "0.png", picture(9))
    changed, _ = prepare(tmp_path / "set", tmp_path / "cache")
    np.testing.assert_array_equal(changed.images[np.array([0])][0], images.read(changed.files[0].path, 16, 1))
    assert np.any(changed.images[np.array([0])] != expected[0])


def test_no_identity_is_in_two_parts_and_every_one_is_tested_once(tmp_path):
    for person in range(11):
        for number in range(2):
            save(tmp_path / "set" / f"site{person % 4}" / f"p{person}" / f"{number}.png")
    prepared, _ = prepare(tmp_path / "set", tmp_path / "cache")
    names, sites = (np.array([getattr(file, field) for file in prepared.files]) for field in ("identity", "group"))
    tested = []
    for fold in range(4):
        parts = splits.split(names, folds=4, fold=fold, by="identity", seed=3)
        people = {part: {prepared.files[n].identity for n in numbers} for part, numbers in parts.items()}
        assert sum(len(names) for names in people.values()) == 11 == len(set.union(*people.values()))
        assert 2 <= len(people["test"]) <= 3 and 2 <= len(people["validation"]) <= 3
        tested += people["test"]
        train = image_cache.dataset(prepared, parts["train"], "train")
        assert train.images.shape == (len(parts["train"]), 16, 16, 1) and train.label.max() + 1 == len(people["train"])
        for stream in (False, True):
            images = image_cache.dataset(prepared, parts["train"], "train", stream).images[np.array([1])]
            np.testing.assert_array_equal(images[0], prepared.images[parts["train"][1:2]][0])
    assert len(tested) == 11 == len(set(tested))
    parts = splits.split(sites, folds=4, fold=0, by="group", seed=0)
    sites = [{prepared.files[n].group for n in numbers} for numbers in parts.values()]
    assert sorted(map(len, sites)) == [1, 1, 2] and len(set.union(*sites)) == 4


@pytest.mark.parametrize(
    ("count", "given", "told"),
    [
        (11, dict(folds=6), "^folds=6 parts need 12 identities, 2 in each, .* has 11 identities: .* at most folds=5$"),
        (
            1,
            dict(),
            "^folds=5 parts need 10 identities, .* has 1 identity: add identities, at least 6 for folds=3, the",
        ),
        (2, dict(by="group"), "^folds=5 parts need 5 groups, 1 in each, and the data has 2 groups: .* at least 3 for"),
        (20, dict(folds=1), "^folds=1 must be 3 or more: for training, validation and test$"),
        (20, dict(fold=5), "^fold=5 must be 0 to 4, one less than folds=5$"),
    ],
)
def test_a_split_that_cannot_be_made_says_why_and_names_the_setting(count, given, told):
    arguments = dict(folds=5, fold=0, by="identity", seed=0) | given
    with pytest.raises(ValueError, match=told):
        splits.split(np.arange(count), **arguments)
    with pytest.raises(ValueError, match=told.replace("^", r"^data\.folder\.")):
        splits.split_by(ConfigDict(arguments), np.arange(count))


def test_a_broken_link_and_a_pipe_cannot_be_read(tmp_path):
    good = save(tmp_path / "set" / "ann" / "good.png")
    (tmp_path / "set" / "ann" / "lost.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "set" / "ann" / "pipe.png")
    with pytest.raises(ValueError, match="2 of 3 images cannot be read: .*lost.png not found.*; .*pipe.png"):
        prepare(tmp_path / "set", tmp_path / "cache")
    prepared, _ = prepare(tmp_path / "set", tmp_path / "cache", skip_unreadable=True)
    assert [file.path for file in prepared.files] == [good]


def test_files_that_swap_names_are_read_again(tmp_path):
    """They have the same size and time of change."""
    first, second = (save(tmp_path / "set" / "ann" / f"{n}.bmp", picture(n)) for n in range(2))
    for path in (first, second):
        os.utime(path, ns=(10**18, 10**18))
    before, _ = prepare(tmp_path / "set", tmp_path / "cache")
    before = before.images[np.arange(2)]
    first.rename(tmp_path / "third.bmp")
    second.rename(first)
    (tmp_path / "third.bmp").rename(second)
    after, _ = prepare(tmp_path / "set", tmp_path / "cache")
    np.testing.assert_array_equal(after.images[np.arange(2)], before[::-1])


def test_nearly_black_images_are_reported(tmp_path):
    for number in range(10):
        save(tmp_path / "set" / "ann" / f"{number}.png", picture(number).astype(np.uint16) * 16)  # 12 bits in 16
    for _ in range(2):  # from the files, and from the cache
        _, lines = prepare(tmp_path / "set", tmp_path / "cache")
        assert "10 of 10 images are nearly black (nothing above 25 of 255): check their scaling" in lines
    for number in range(2):
        save(tmp_path / "set" / "bob" / f"{number}.png", picture(number))
    assert not any("nearly black (" in line for line in prepare(tmp_path / "set", tmp_path / "cache")[1])


def people_with_pairs(folder, fold_of=lambda person: person // 2):
    """Eight people, of whom the last two are in no pair; folds of two. Each pair of one person, and one of two."""
    rows = ["path_a,path_b,same,fold"]
    for person in range(8):
        for number in range(2):
            save(folder / f"p{person}" / f"{number}.png")
    for person in range(6):
        rows.append(f"p{person}/0.png,p{person}/1.png,1,{fold_of(person) + 5}")
        rows.append(f"p{person}/0.png,p{person ^ 1}/1.png,0,{fold_of(person) + 5}")
    (folder / "pairs.csv").write_text("\n".join(rows))
    config = settings.default().data
    config.name, config.size, config.data_dir = "folder", 16, str(folder.parent / "cache")
    config.folder.path, config.folder.pairs = str(folder), str(folder / "pairs.csv")
    return config


def test_a_list_of_pairs_with_folds_splits_the_people(tmp_path):
    config = people_with_pairs(tmp_path / "set")
    config.folder.fold = 2
    parts = data.load(config)
    assert {part: dataset.names for part, dataset in parts.items()} == {
        "test": ("p4", "p5"), "validation": ("p0", "p1"), "train": ("p2", "p3", "p6", "p7")
    }  # fmt: skip
    compared = parts["test"].protocols["pairs"]
    label = parts["test"].label[np.stack([compared.references[:, 0], compared.query])]
    np.testing.assert_array_equal(label[0] == label[1], compared.same)
    assert compared.same.tolist() == [True, False] * 2
    assert "protocols" in data.SOURCES["folder"].evaluators(config)
    config.protocol = "all"
    assert data.load(config, train=False)["test"].protocols["pairs"].fold.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_lists_of_pairs_that_contradict_the_folders_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"p0 is in folds 1 and 2 of the protocol pairs, so that it would be trained on"
    ):
        data.load(people_with_pairs(tmp_path / "a", lambda person: person % 3))
    config = people_with_pairs(tmp_path / "b")
    listed = (tmp_path / "b" / "pairs.csv").read_text()
    for old, new, message in (
        ("p0/1.png,1", "p0/1.png,0", r"0.png and .*p0/1.png are of different identity, but their folders .*\(1 such"),
        ("p0/1.png", "../b.png", r"lists .*b.png, which is none of the readable images"),
        (",5", ",five", "line 2: expected a whole number as fold, found 'five'"),
        (",7", ",6", r"data.folder.fold=0: .* has 2 folds; expected 3 or more"),
    ):
        save(tmp_path / "b.png")
        (tmp_path / "b" / "pairs.csv").write_text(listed.replace(old, new))
        with pytest.raises(ValueError, match=message):
            data.load(config)
