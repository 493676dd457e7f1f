"""CFP, LFW and CEDAR: found by content in their layouts, split by their folds, and what is said of damaged files."""

import numpy as np
import photographs
import pytest
from sklearn.metrics import roc_auc_score

from siamjax import data
from siamjax.data import cedar, cfp, images, lfw, protocols
from siamjax.run import recipe, settings


def people(parts):
    return {part: set(dataset.names) for part, dataset in parts.items()}


def test_cfps_folds_share_no_one_and_the_second_image_of_fp_is_a_profile(tmp_path):
    place, cache = photographs.unpacked(tmp_path / "data", photographs.cfp()), tmp_path / "cache"
    tested = []
    for fold in range(10):
        parts = data.load(photographs.config("cfp", place, cache, **{"folder.fold": fold}))
        names = people(parts)
        assert names["test"] == {f"person {2 * fold + n:03d}" for n in (1, 2)}
        assert sum(map(len, names.values())) == 20 == len(set.union(*names.values()))
        test = parts["test"]
        for name, sides in (("cfp_ff", (0, 0)), ("cfp_fp", (0, 1))):
            compared = test.protocols[name]
            pairs = np.stack([compared.references[:, 0], compared.query], axis=1)
            np.testing.assert_array_equal(test.label[pairs[:, 0]] == test.label[pairs[:, 1]], compared.same)
            assert compared.same.tolist() == [True, True, False, False]
            assert (test.source[pairs] == sides).all()
        tested += names["test"]
    assert len(set(tested)) == 20
    whole = data.load(photographs.config("cfp", place, cache, protocol="all"), train=False)
    assert whole.keys() == {"test"} and np.bincount(whole["test"].protocols["cfp_fp"].fold).tolist() == [4] * 10
    with pytest.raises(
        ValueError, match=r"data.protocol='all' is for networks that were trained on other data.*'fold'"
    ):
        data.load(photographs.config("cfp", place, cache, protocol="all"))
    with pytest.raises(ValueError, match=r"data.folder.fold=10: CFP has 10 folds"):
        data.load(photographs.config("cfp", place, cache, **{"folder.fold": 10}))


@pytest.mark.parametrize("name", ["cfp", "lfw", "cedar"])
def test_a_zip_with_other_folders_and_a_name_that_says_nothing_gives_the_same(tmp_path, name):
    make = {"cfp": photographs.cfp, "lfw": photographs.lfw, "cedar": photographs.cedar}[name]
    folder = photographs.unpacked(tmp_path / "a" / "b", make(root="one/two/"))
    others = {"notes/readme.txt": b"", "__MACOSX/._x.jpg": b"", "pictures/cat.png": photographs.picture(1, 1)}
    archive = photographs.zipped(tmp_path / "c" / "download (1).zip", make() | others)
    (archive.parent / "damaged.zip").write_bytes(b"PK")
    first, *rest = (
        data.load(photographs.config(name, place, tmp_path / "cache"))
        for place in (folder.parent, archive, archive.parent)
    )
    for second in rest:
        for part in ("train", "validation", "test"):
            assert (first[part].names == second[part].names and first[part].pairs is None) or part != "train"
            np.testing.assert_array_equal(
                first[part].images[np.arange(len(first[part]))], second[part].images[np.arange(len(second[part]))]
            )
            for given, same in zip(first[part].protocols.values(), second[part].protocols.values(), strict=True):
                np.testing.assert_array_equal(given.query, same.query)


def test_lfws_view_2_trains_on_people_of_the_other_folds_pairs_alone(tmp_path):
    place = photographs.unpacked(tmp_path / "data", photographs.lfw())
    parts = data.load(photographs.config("lfw", place, tmp_path / "cache", **{"folder.fold": 9}))
    names = people(parts)
    assert names["test"] == {f"P{n}" for n in range(36, 40)} and names["validation"] == {f"P{n}" for n in range(4)}
    assert names["train"] == {f"P{n}" for n in range(4, 36)}, "P40 is in no pair, so that the fold is unknown"
    assert parts["test"].protocols["lfw_view2"].same.tolist() == [True, True, False, False]
    assert len(parts["test"]) == 8, "all images of its people, not those of the pairs alone"


def test_of_lfws_photographs_as_published_only_the_middle_with_the_face_is_used(tmp_path):
    """Also if JPEG files could be decoded at a half or a quarter of their size; others are used whole."""
    image = np.kron(np.random.default_rng(0).integers(100, 200, (5, 5), np.uint8), np.ones((50, 50), np.uint8))
    larger = image.repeat(2, 0).repeat(2, 1)
    for pixels, expected in ((image, image[50:200, 50:200]), (larger, larger), (image[:200, :200], image[:200, :200])):
        content = photographs.lfw()
        photograph = photographs.encoded(pixels, "jpeg", quality=95)
        content |= {name: photograph for name in content if name.endswith("_0001.jpg")}
        place = photographs.unpacked(tmp_path / str(expected.shape) / str(pixels.shape), content)
        test = data.load(photographs.config("lfw", place, tmp_path / "cache", size=10), train=False)["test"]
        read = test.images[np.flatnonzero([name.endswith("_0001.jpg") for name in test.files])][..., 0].astype(float)
        scaled = expected.reshape(10, len(expected) // 10, 10, -1).mean((1, 3))
        assert len(read) == 4 and np.abs(read - scaled[None]).max() < 5


def test_lfws_view_1_is_read_from_csv_files_and_from_the_published_lists(tmp_path):
    files = photographs.lfw()
    place = photographs.unpacked(tmp_path / "csv", files)
    parts = data.load(photographs.config("lfw", place, tmp_path / "cache", protocol="view1"))
    assert people(parts)["train"] == {f"P{n}" for n in range(20)} and parts["test"] is parts["validation"]
    compared = parts["test"].protocols["lfw_view1"]
    assert np.bincount(compared.fold).tolist() == [4] * 10 and compared.same.sum() == 20
    published = {name: content for name, content in files.items() if not name.endswith(".csv")}
    for part, first in (("Train", 0), ("Test", 20)):
        lines = [f"P{first + n}\t1\t2" for n in range(20)]
        lines += [f"P{first + n}\t1\tP{first + (n + 1) % 20}\t2" for n in range(20)]
        published[f"pairsDev{part}.txt"] = "\n".join(["20", *lines]).encode()
    place = photographs.unpacked(tmp_path / "txt", published)
    again = data.load(photographs.config("lfw", place, tmp_path / "cache", protocol="view1"))["test"]
    np.testing.assert_array_equal(again.protocols["lfw_view1"].query, compared.query)


def test_cedars_comparisons_are_of_genuine_references_with_genuine_and_forged_queries(tmp_path):
    place = photographs.zipped(tmp_path / "signatures.zip", photographs.cedar())
    parts = data.load(photographs.config("cedar", place, tmp_path / "cache", size=32))
    signers = [{name.split()[-1] for name in names} for names in people(parts).values()]
    assert [len(names) for names in signers] == [3, 3, 9] and len(set.union(*signers)) == 15
    test = parts["test"]
    forged = np.array([name.startswith("forgeries") for name in test.names])[test.label]
    for count in ("1_reference", "5_references"):
        for kind in ("skilled", "random"):
            compared = test.protocols[f"{kind}_{count}"]
            group = test.group[compared.references]
            assert not forged[compared.references].any() and (group == group[:, :1]).all()
            assert not (compared.references == compared.query[:, None]).any(), "no signature is its own reference"
            own = test.group[compared.query] == group[:, 0]
            np.testing.assert_array_equal(compared.same, own & ~forged[compared.query])
            assert (forged[compared.query] & own)[~compared.same].all() == (kind == "skilled")
    _, same = test.pairs
    assert same.sum() == 3 * 28 and (~same).sum() == 3 * 8 * 6
    assert parts["train"].pairs is None and len(parts["train"].group_names) == 9


@pytest.mark.parametrize("changed", [{"batch.mode": "pairs"}, {"data.name": "glyphs"}], ids=str)
def test_batches_across_sources_are_of_identities_in_data_with_sources(tmp_path, changed):
    place = photographs.unpacked(tmp_path / "data", photographs.cfp())
    config = settings.default()
    config.data = photographs.config("cfp", place, tmp_path / "cache")
    config.batch.across_sources, train = True, data.load(config.data)["train"]
    _, images = recipe.make_batches(config, train)
    assert images == 16 * 4
    config.update_from_flattened_dict(changed)
    with pytest.raises(
        ValueError, match="batch.across_sources=True is for batch.mode='identities' .*: set it to False"
    ):
        recipe.make_batches(config, None if "data.name" in changed else train)


MISSING = [
    ("cfp", "cfp-dataset/Protocol/Split/FP/07/diff.txt", None, "Split/FP/07/diff.txt not found in .*data; unpack CFP"),
    ("cfp", "cfp-dataset/Protocol/Split/FF/02/same.txt", b"7,900\n", "line 1: expected two numbers of .*'7,900'"),
    (
        "cfp",
        "cfp-dataset/Data/Images/004/profile/02.jpg",
        None,
        "_P.txt, line 8: the image .*004/profile/02.jpg is miss",
    ),
    (
        "cfp",
        "cfp-dataset/Data/Images/004/profile/02.jpg",
        b"\xff\xd8",
        "1 of 100 images cannot be read: .*004/profile/02",
    ),
    ("lfw", "pairs.txt", None, "pairs.txt not found in .*; download it to the same folder from http"),
    ("lfw", "lfw-deepfunneled/P3/P3_0002.jpg", None, "pairs.txt, line 4: the image P3/P3_0002.jpg is missing"),
    ("lfw", "pairs.txt", b"10\t2\nP1\t1\t2\n", "pairs.txt: found 1 pairs, but line 1, '10.t2', says 40"),
]


@pytest.mark.parametrize(("name", "path", "content", "message"), MISSING)
def test_missing_and_damaged_files_are_named(tmp_path, name, path, content, message):
    files = {"cfp": photographs.cfp, "lfw": photographs.lfw}[name]() | {path: content}
    files = {name: content for name, content in files.items() if content is not None}
    place = photographs.unpacked(tmp_path / "data", files)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        data.load(photographs.config(name, place, tmp_path / "cache"))


def test_signers_without_forgeries_are_named(tmp_path):
    files = {name: content for name, content in photographs.cedar().items() if "forgeries_3_" not in name}
    place = photographs.unpacked(tmp_path / "data", files)
    with pytest.raises(ValueError, match="signer 3 has 8 genuine signatures and 0 forgeries; expected 24 of each"):
        data.load(photographs.config("cedar", place, tmp_path / "cache"))


def test_what_is_not_there_is_said_with_what_was_expected(tmp_path):
    def load(place):
        return data.load(photographs.config("lfw", place, tmp_path / "cache"))

    with pytest.raises(ValueError, match=r"data.manual_dir is empty: name the folder with LFW.*published at http"):
        load("")
    with pytest.raises(FileNotFoundError, match=r"data.manual_dir=.*none not found; expected images such as lfw/NAME"):
        load(tmp_path / "none")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lfw.tgz").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"no images of LFW; .*lfw.tgz is not read in place: unpack it"):
        load(tmp_path / "data")
    for name in ("lfw.zip", "lfw-funneled.zip"):
        photographs.zipped(tmp_path / "data" / name, photographs.lfw())
    with pytest.raises(ValueError, match=r"has LFW twice, in .*lfw-funneled.zip.* and .*lfw.zip.*remove one"):
        load(tmp_path / "data")
    photographs.unpacked(tmp_path / "data", photographs.lfw())
    assert load(tmp_path / "data")["test"].names  # What is unpacked comes first.


def test_a_zip_that_is_cut_short_inside_an_image_is_named(tmp_path):
    place = photographs.zipped(tmp_path / "lfw.zip", photographs.lfw())
    content = bytearray(place.read_bytes())
    middle = content.index(b"P7_0001.jpg") + 100
    content[middle : middle + 20] = bytes(20)
    place.write_bytes(content)
    with pytest.raises(ValueError, match=r"1 of 82 images cannot be read: .*lfw.zip/.*P7_0001.jpg.*download it again"):
        data.load(photographs.config("lfw", place, tmp_path / "cache"))


def test_the_real_protocols_have_their_published_numbers(photographs_dir):
    """Their lists are read, without images."""
    counts = {}
    for source, people in ((cfp, 50), (lfw, None)):
        found, matches = source.find(str(photographs_dir))
        person = np.array([match["person"] for match in matches.values()])
        for name, compared in source.comparisons(found, matches, str(photographs_dir)).items():
            pairs = person[np.stack([compared.references[:, 0], compared.query], axis=1)]
            np.testing.assert_array_equal(pairs[:, 0] == pairs[:, 1], compared.same)
            in_fold = [set(pairs[compared.fold == fold].ravel()) for fold in range(10)]
            assert sum(map(len, in_fold)) == len(set.union(*in_fold)), "no one is in two folds"
            assert people is None or {len(names) for names in in_fold} == {people}
            counts[name] = (len(matches), np.bincount(2 * compared.fold + compared.same).tolist())
    assert counts == {
        "cfp_ff": (7000, [350] * 20), "cfp_fp": (7000, [350] * 20), "lfw_view2": (13_233, [300] * 20)
    }  # fmt: skip


def test_the_real_paper_tells_forgeries_from_genuine_signatures_until_only_ink_is_left(photographs_dir):
    """By single numbers of four signatures of each signer: the median grey is that of the paper."""
    found, matches = cedar.find(str(photographs_dir))
    chosen = {name: match["kind"] == "original" for name, match in matches.items() if match["number"] in ("3", "17")}

    def scans(ink):
        return [images.read(name, 64, 1, file=found.opened(name), ink=ink)[..., 0] for name in chosen]

    genuine = np.array(list(chosen.values()))
    assert len(matches) == 2640 and len(genuine) == 220
    paper = [np.median(image[image > 0]) for image in scans(ink=False)]
    assert roc_auc_score(~genuine, paper) > 0.995
    ink = scans(ink=True)
    assert roc_auc_score(~genuine, [np.median(image) for image in ink]) == 0.5
    for number in (np.mean, np.max, lambda image: image[image > 0].mean(), lambda image: image.any(axis=1).argmax()):
        assert 0.42 < roc_auc_score(genuine, [number(image) for image in ink]) < 0.58


def test_a_fold_that_no_network_can_be_judged_by_is_refused_before_training():
    compared = protocols.of_pairs(np.arange(12).reshape(6, 2), [1, 0, 1, 0, 0, 0], [0, 0, 1, 1, 2, 2])
    with pytest.raises(
        ValueError, match="mine: all comparisons of fold 3 of the protocol p are of different identities"
    ):
        protocols.parts_of(None, {"p": compared}, photographs.config("cfp", "", ""), "mine", True)
