"""Galleries of vectors that come from elsewhere: found as by comparing with all, in every store, without a network."""

import json
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from siamjax import cli, heads
from siamjax.gallery import Gallery, UnknownIdentity, _index
from siamjax.gallery._manifest import Manifest
from siamjax.network import Network
from siamjax.training.state import Model

METRICS = ["cosine", "l2"]
ROOT = pathlib.Path(__file__).parents[1]


def drawn(count=90, seed=0, dimension=16):
    """Vectors of any length, and their identities, of three vectors each."""
    rng, identity = np.random.default_rng(seed), np.arange(count) // 3
    centres = np.random.default_rng(1).normal(size=(10_000, dimension))
    vectors = centres[identity] + 0.2 * rng.normal(size=(count, dimension))
    return vectors * rng.uniform(0.5, 2, (count, 1)), [f"i{one}" for one in identity]


def scores(queries, vectors, metric):
    """By their definitions, float64 [q, n]."""
    if metric == "l2":
        return -np.linalg.norm(queries[:, None] - vectors, axis=2)
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
    return queries @ vectors.T / lengths


def assert_found(gallery, queries, vectors, metric, k=4, share=1.0):
    """The names of the best are those by the definitions, and the scores are equal."""
    expected, right = scores(queries, vectors, metric), 0
    for row, matches in zip(expected, gallery.search_vectors(queries, k), strict=True):
        np.testing.assert_allclose([match.score for match in matches], row[[int(m.path) for m in matches]], atol=1e-5)
        right += len({int(match.path) for match in matches} & set(np.argsort(-row)[:k].tolist()))
    assert right >= share * k * len(queries)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("database", [False, True])
def test_vectors_are_found_as_by_comparing_with_all(tmp_path, metric, database):
    if database:
        pytest.importorskip("lancedb")
    vectors, identities = drawn()
    gallery = Gallery.of_vectors(tmp_path / "gallery", metric, str(tmp_path / "base") if database else None)
    assert len(gallery) == 0 and not (tmp_path / "gallery").exists()
    gallery.enroll_vectors(vectors[:60], identities[:60], range(60))
    gallery.enroll_vectors(vectors[60:].tolist(), identities[60:], names=list(map(str, range(60, 90))))
    queries, _ = drawn(30, seed=2)
    for either in (gallery, Gallery(tmp_path / "gallery"), Gallery.of_vectors(tmp_path / "gallery", metric)):
        assert_found(either, queries, vectors, metric)
        assert len(either) == 90 and either.identities()["i7"] == 3
    match = gallery.search_vectors(vectors[:1], 1)[0][0]
    assert (match.identity, match.path) == ("i0", "0") and np.isnan(match.probability)
    assert gallery.remove("i0") == 3 and len(Gallery(tmp_path / "gallery")) == 87
    assert gallery.search_vectors(vectors[:1], 1)[0][0].identity != "i0"
    assert gallery.search_vectors(np.zeros((0, 16)), 3) == []


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", [None, "cells"])
def test_large_galleries_of_vectors_use_the_same_indexes(tmp_path, monkeypatch, metric, kind):
    pytest.importorskip("faiss")
    for name, value in (("_ALL", 100), ("_FLAT", 300 if kind else 5000), ("_SEARCHED", 16)):
        monkeypatch.setattr(_index, name, value)
    vectors, identities = drawn(900)
    gallery = Gallery.of_vectors(tmp_path, metric)
    gallery.enroll_vectors(vectors, identities, range(900))
    lookup = json.loads((tmp_path / "gallery.json").read_text())["lookup"]
    assert (lookup and lookup["kind"]) == kind
    assert_found(Gallery(tmp_path), drawn(60, seed=2)[0], vectors, metric, share=0.97 if kind else 1.0)


def test_a_threshold_decides(tmp_path):
    gallery = Gallery.of_vectors(tmp_path, threshold=0.9)
    gallery.enroll_vectors([[1, 0, 0], [0, 2, 0], [0, 3, 0.1]], [7, "zoë", "zoë"])
    known, other, stranger = gallery.identify_vectors([[5, 0.1, 0], [0, 1, 0.1], [1, 1, 0]], k=2)
    assert (known.identity, other.identity, stranger.identity) == ("7", "zoë", None)
    assert [match.identity for match in known.ranked] == ["7", "zoë"] and known.ranked[0].path == ""
    with pytest.raises(
        ValueError, match=r"has no threshold to decide by; open it with one, Gallery\(folder, threshold="
    ):
        Gallery(tmp_path).identify_vectors([[1, 0, 0]])
    (again,) = Gallery(tmp_path, threshold=0.7).identify_vectors([[1, 0.9, 0]])
    assert again.identity == "7"
    with pytest.raises(ValueError, match="threshold=nan must be a finite score"):
        Gallery.of_vectors(tmp_path, threshold=float("nan"))


@pytest.mark.parametrize(
    ("vectors", "identities", "options", "message"),
    [
        (np.ones((2, 4)), ["a", "b"], {}, "vectors: found 4 components, expected 3, as the enrolled ones have"),
        (np.ones(3), ["a"], {}, r"vectors: found float64 \[3\], expected numbers \[n, d\]; a single vector is \[v\]"),
        ([["a", "b", "c"]], ["a"], {}, "vectors: found <U1"),
        ([[1, 1, 1], [1, np.nan, 1]], ["a", "b"], {}, r"vectors\[1\] has NaN or infinity, or a length above 1e\+18"),
        ([[1, 1, 1e40]], ["a"], {}, r"vectors\[0\] has NaN or infinity"),
        ([[0, 0, 0]], ["a"], {}, r"vectors\[0\] is zero, so that it has no direction to compare; leave it out"),
        (np.zeros((0, 3)), [], {}, "there are no vectors to enroll"),
        (np.ones((2, 3)), ["a"], {}, "identities: found 1, expected one for each of 2 vectors"),
        (np.ones((2, 3)), ["a", " "], {}, r"identities\[1\]=' ': an identity needs a name"),
        (np.ones((2, 3)), ["a", "b"], {"names": ["x"]}, "names: found 1, expected one for each of 2 vectors"),
    ],
)
def test_wrong_vectors_are_refused_and_change_nothing(tmp_path, vectors, identities, options, message):
    gallery = Gallery.of_vectors(tmp_path)
    gallery.enroll_vectors([[1, 2, 3]], ["ann"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message) as error:
        gallery.enroll_vectors(vectors, identities, **options)
    assert "\n" not in str(error.value)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(gallery) == 1


def test_a_new_name_is_told_as_it_is_stored_and_merges_only_two(tmp_path, capsys):
    gallery = Gallery.of_vectors(tmp_path)
    gallery.enroll_vectors(np.eye(4), ["ann", "ann", " bob", "zoë"])
    others = Gallery(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def renamed(identity, to):
        assert cli.main(["rename", "--json", str(tmp_path), identity, to]) == 0
        found = json.loads(capsys.readouterr().out)
        return found["identity"], found["renamed"], found["merged"]

    assert cli.main(["rename", str(tmp_path), "ann", " ann "]) == 2
    assert "to=' ann ' is the name that this identity has already; give it another one" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert renamed("ann", "zoe\u0308") == ("zoë", 2, True)
    assert renamed("zoë", "eve") == ("eve", 3, False)
    with pytest.raises(UnknownIdentity, match="'ann'"):
        others.rename("ann", "ann")  # It was there when this object read the folder.
    assert Gallery(tmp_path).identities() == {"bob": 1, "eve": 3}


def test_wrong_questions_are_refused(tmp_path):
    gallery = Gallery.of_vectors(tmp_path, threshold=0)
    with pytest.raises(ValueError, match="is empty; enroll something first"):
        gallery.search_vectors([[1, 2, 3]], 1)
    gallery.enroll_vectors([[1, 2, 3]], ["ann"])
    for ask in (gallery.search_vectors, gallery.identify_vectors):
        with pytest.raises(ValueError, match="found 2 components, expected 3"):
            ask([[1, 2]], 1)
        with pytest.raises(ValueError, match=r"vectors\[0\] has NaN"):
            ask([[1, np.nan, 2]], 1)
        with pytest.raises(ValueError, match="k=0: expected 1 or more"):
            ask([[1, 2, 3]], 0)


def test_galleries_of_images_and_of_vectors_are_told_apart(tmp_path):
    head = heads.make("distance", distance="cosine")
    params = head.init(jax.random.key(0), np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32))["params"]
    network = Network(Model(None, head), {"encoder": {}, "head": params}, {})
    vectors, images = tmp_path / "vectors", tmp_path / "images"
    Gallery.of_vectors(vectors).enroll_vectors([[1, 2, 3]], ["ann"])
    images.mkdir()
    Manifest(network.place, network.fingerprint).write(images)
    for refused, message in (
        (lambda: Gallery(vectors, network), "vectors compared by cosine, without a network; open it without network="),
        (lambda: Gallery(vectors, far=0.1), "vectors compared by cosine, without a network; open it without far="),
        (lambda: Gallery(vectors).network, "holds vectors, and has no network for images; use enroll_vectors"),
        (lambda: Gallery(vectors).enroll(["a.png"], ["a"]), "has no network for images; use enroll_vectors"),
        (lambda: Gallery(images, network).enroll_vectors([[1, 2, 3]], ["a"]), "its network embeds; use enroll, search"),
        (lambda: Gallery(images, network).search_vectors([[1, 2, 3]], 1), "Gallery.of_vectors.NEW_FOLDER. makes a"),
        (lambda: Gallery.of_vectors(images), "holds images, .*, not vectors compared by cosine; open it by Gallery"),
        (
            lambda: Gallery.of_vectors(vectors, "l2"),
            "holds vectors compared by cosine, not vectors compared by l2; open",
        ),
        (lambda: Gallery.of_vectors(tmp_path / "new", "dot"), "metric='dot': expected 'cosine' or 'l2'"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            refused()
        assert "\n" not in str(error.value)


def test_the_command_lists_and_removes_vectors_and_refuses_images(tmp_path, capsys):
    Gallery.of_vectors(tmp_path / "gallery").enroll_vectors(np.eye(3), ["ann", "ann", "bob"])
    place, image = str(tmp_path / "gallery"), str(ROOT / "docs" / "images" / "house.png")
    assert cli.main(["list", place, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ann": 2, "bob": 1}
    assert cli.main(["remove", place, "ann"]) == 0
    for command in (["identify", place, image], ["search", place, image], ["enroll", place, "--identity", "a", image]):
        assert cli.main(command) == 2
        error = capsys.readouterr().err
        assert "holds vectors, and has no network for images" in error and error.count("\n") == 1
    assert len(Gallery(place)) == 1


def test_two_writers_of_a_new_gallery_lose_nothing_and_agree_on_the_dimension(tmp_path):
    first, second, third = (Gallery.of_vectors(tmp_path / "gallery") for _ in range(3))
    first.enroll_vectors(np.eye(3), ["a", "b", "c"])
    second.enroll_vectors([[1, 1, 0]], ["d"])
    with pytest.raises(ValueError, match="found 2 components, expected 3"):
        third.enroll_vectors([[1, 1]], ["e"])
    assert list(Gallery(tmp_path / "gallery").identities()) == ["a", "b", "c", "d"]


def test_galleries_in_one_database_do_not_mix_and_can_be_moved(tmp_path):
    pytest.importorskip("lancedb")
    one, other = (Gallery.of_vectors(tmp_path / name, database=str(tmp_path / "base")) for name in ("one", "other"))
    one.enroll_vectors(np.eye(3), ["a", "b", "c"])
    other.enroll_vectors(np.eye(2), ["d", "e"])
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "one" / "gallery.json", tmp_path / "elsewhere")
    moved = Gallery(tmp_path / "elsewhere")
    moved.enroll_vectors([[1, 1, 1]], ["f"])
    assert list(one.identities()) == ["a", "b", "c", "f"] and list(other.identities()) == ["d", "e"]


def test_no_network_is_imported(tmp_path):
    code = """if True:
        import sys, numpy, siamjax
        gallery = siamjax.Gallery.of_vectors(sys.argv[1])
        gallery.enroll_vectors(numpy.eye(3), list("abc"))
        assert gallery.search_vectors(numpy.eye(3), 2)[2][0].identity == "c" and "jax" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "gallery")], check=True)


def test_the_example_names_digits(capsys):
    runpy.run_path(str(ROOT / "examples" / "vectors.py"))
    shares = [float(share) for share in re.findall(r"([\d.]+)%", capsys.readouterr().out)]
    assert len(shares) == 2 and shares[0] > 85 and shares[1] < 30
