"""Stores of a gallery with many images: FAISS and LanceDB find what comparing with all images finds."""

import dataclasses
import json
import unicodedata

import jax
import numpy as np
import pytest

from siamjax import files, heads
from siamjax.gallery import Enrolled, _index, _log, _own
from siamjax.gallery._database import DatabaseStore
from siamjax.gallery._folder import FolderStore
from siamjax.gallery._manifest import Manifest
from siamjax.gallery._types import COLUMNS
from siamjax.network import Network
from siamjax.training.state import Model

DIMENSION = 16
COSINE, EUCLIDEAN = ("cosine", "cosine"), ("euclidean", "l2")


def scorer_of(distance):
    head = heads.make("distance", distance=distance)
    example = np.zeros((1, DIMENSION), np.float32)
    params = head.init(jax.random.key(0), example, example)["params"]
    return Network(Model(None, head), {"encoder": {}, "head": params}, {})


def drawn(count, seed=0):
    rng = np.random.default_rng(seed)
    identity = np.arange(count) // 3
    centres = np.random.default_rng(1).normal(size=(10_000, DIMENSION))
    embeddings = (centres[identity] + 0.2 * rng.normal(size=(count, DIMENSION))).astype(np.float32)
    return embeddings * rng.uniform(0.5, 2, (count, 1)).astype(np.float32), [
        Enrolled(f"i{person}", f"{number}", f"thumbnails/{number:032x}.jpg") for number, person in enumerate(identity)
    ]


@pytest.fixture
def small(monkeypatch):
    """The kinds of index change at smaller numbers of images."""
    for name, value in (("_ALL", 100), ("_FLAT", 300), ("_SEARCHED", 16), ("_TOLERATED", 10)):
        monkeypatch.setattr(_index, name, value)


def opened(folder, head=COSINE, kind=FolderStore):
    address = str(folder / "database") if kind is DatabaseStore else None
    folder.mkdir(exist_ok=True)
    return kind(folder, Manifest("run", "0123456789abcdef", address), scorer_of(head[0]), head[1])


def add(store, embeddings, images):
    with store.changing():
        store.add(embeddings, images)


def paths(found):
    return [[image.path for image in best.images] for best in found]


def overlap(found, expected):
    pairs = zip(paths(found), paths(expected), strict=True)
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in pairs])


@pytest.mark.parametrize("head", [COSINE, EUCLIDEAN])
@pytest.mark.parametrize(("count", "kind"), [(90, None), (200, None), (1500, "cells"), (9000, "cells")])
def test_faiss_finds_what_comparing_with_all_finds(tmp_path, monkeypatch, small, head, count, kind):
    embeddings, images = drawn(count)
    store = opened(tmp_path, head)
    add(store, embeddings, images)
    entry = json.loads((tmp_path / "gallery.json").read_text())["lookup"]
    assert (entry and entry["kind"]) == kind and len(store) == count
    queries, _ = drawn(60, seed=5)
    found, again = store.best(queries, 5), opened(tmp_path, head).best(queries, 5)
    assert paths(found) == paths(again)
    monkeypatch.setattr(_index, "_ALL", count)
    everything = opened(tmp_path, head).best(queries, 5)
    assert overlap(found, everything) > (0.93 if kind else 0.999)
    for one, other in zip(found, everything, strict=True):
        # The scores are the head's, however the images were found.
        np.testing.assert_allclose(one.scores[0], other.scores[0], rtol=1e-4, atol=1e-4)
        assert np.all(np.diff(one.scores) <= 0) and len(one.scores) == 5


def test_an_index_is_extended_by_added_images_and_loses_removed_ones(tmp_path, small):
    embeddings, images = drawn(600)
    store = opened(tmp_path)
    add(store, embeddings, images)
    first = json.loads((tmp_path / "gallery.json").read_text())["lookup"]["file"]

    def lookups():
        return [path.name for path in tmp_path.glob("lookup-*")]

    new = np.float32(np.eye(DIMENSION)[:1] * 50)
    add(store, new, [Enrolled("new", "new", "t")])
    assert lookups() == [first]  # One more image does not rewrite the index.
    for either in (store, opened(tmp_path)):
        (best,) = either.best(new, 3)
        assert best.images[0].identity == "new" and best.scores[0] > best.scores[1]
    more, more_images = drawn(30, seed=3)
    add(store, more, [dataclasses.replace(image, path=f"more{image.path}") for image in more_images])
    assert lookups() != [first] and len(lookups()) == 1
    (best,) = store.best(more[:1], 3)
    assert best.images[0].path == "more0"
    with store.changing():
        assert store.remove("new") == 1 and store.remove("i7") == 6 and store.remove("i7") == 0
    for either in (store, opened(tmp_path)):
        asked = either.best(np.concatenate([new, embeddings[21:24]]), 9)
        found = {image.identity for best in asked for image in best.images}
        assert not found & {"new", "i7"} and either.identities()["i6"] == 6
    for number in range(10, 40):
        with store.changing():
            store.remove(f"i{number}")
    assert len(store) == 624 - 90 and len(lookups()) == 1
    store = opened(tmp_path)
    assert store._index._searched[0].ntotal < 1.15 * len(store)


def test_removed_images_do_not_crowd_out_others(tmp_path, small, monkeypatch):
    monkeypatch.setattr(_index, "_TOLERATED", 200)
    embeddings, images = drawn(700)
    for number in range(100):
        embeddings[number] = embeddings[0] + 0.001 * number
        images[number] = dataclasses.replace(images[number], identity="crowd")
    store = opened(tmp_path)
    add(store, embeddings, images)
    with store.changing():
        assert store.remove("crowd") == 100
    for either in (store, opened(tmp_path)):
        assert either._index._searched[0].ntotal == 700
        (best,) = either.best(embeddings[:1], 5)
        assert len(best.images) == 5 and all(image.identity != "crowd" for image in best.images)


def copied(images, copies):
    """The embeddings of different images; those of so many copies of each, shuffled; and the records of the copies."""
    different, _ = drawn(3 * images)
    different = different[::3]
    number = np.random.default_rng(7).permutation(np.repeat(np.arange(images), copies))
    return (
        different,
        different[number],
        [Enrolled(f"i{one}", f"{position}", f"thumbnails/{one:032x}.jpg") for position, one in enumerate(number)],
    )


STORES = [FolderStore, DatabaseStore]


@pytest.fixture(params=STORES)
def kind(request, monkeypatch, small):
    """Each store, with indexes from a few hundred images on."""
    if request.param is DatabaseStore:
        pytest.importorskip("lancedb")
        monkeypatch.setattr(DatabaseStore, "_INDEXED", 300)
    return request.param


@pytest.mark.parametrize("head", [COSINE, EUCLIDEAN])
def test_an_enrolled_image_is_found_however_many_copies_it_has(tmp_path, kind, head):
    different, embeddings, images = copied(400, 25)
    store = opened(tmp_path, head, kind)
    add(store, embeddings[:9000], images[:9000])
    add(store, embeddings[9000:], images[9000:])  # Mostly copies of enrolled images.
    asked = np.arange(0, 400, 16)
    for either in (store, opened(tmp_path, head, kind)):
        for number, best in zip(asked, either.best(different[asked], 10), strict=True):
            assert [image.identity for image in best.images] == [f"i{number}"] * 10
            assert len({image.path for image in best.images}) == 10
        for number, best in zip(asked, either.best(different[asked], 40), strict=True):
            assert len(best.scores) == len({image.path for image in best.images}) == 40
            assert sum(image.identity == f"i{number}" for image in best.images) == 25


def test_one_image_enrolled_many_times_hides_no_other(tmp_path, kind):
    embeddings, images = drawn(1600)
    embeddings[::2] = embeddings[0]
    store = opened(tmp_path, COSINE, kind)
    add(store, embeddings, images)
    everything = opened(tmp_path / "all", ("cosine", None))
    add(everything, embeddings, images)
    queries, _ = drawn(60, seed=5)
    queries[0] = embeddings[0]
    found, expected = store.best(queries, 10), everything.best(queries, 10)
    assert all(len(best.images) == 10 for best in found)
    # Of equally good images any may be in the list: scores tell.
    recall = [np.mean(one.scores >= other.scores[-1] - 1e-4) for one, other in zip(found, expected, strict=True)]
    assert np.mean(recall) > 0.97


def test_copies_stay_when_their_original_is_removed(tmp_path, kind):
    different, embeddings, images = copied(400, 2)
    images += [Enrolled("another", f"copy {n}", "t") for n in range(3)]
    store = opened(tmp_path, COSINE, kind)
    add(store, np.concatenate([embeddings, different[[7, 7, 8]]]), images)
    with store.changing():
        assert store.remove("i7") == 2
    for either in (store, opened(tmp_path, COSINE, kind)):
        (best,) = either.best(different[7:8], 3)
        assert [image.path for image in best.images[:2]] == ["copy 0", "copy 1"]
        assert best.scores[0] == best.scores[1] > best.scores[2]
    with store.changing():
        assert store.remove("another") == 3
    add(store, different[7:8], [Enrolled("back", "back", "t")])
    for either in (store, opened(tmp_path, COSINE, kind)):
        seventh, eighth = either.best(different[7:9], 3)
        assert seventh.images[0].identity == "back" and len(seventh.images) == 3
        assert [image.identity for image in eighth.images[:2]] == ["i8", "i8"]
    assert len(store) == 799


def test_renamed_identities_keep_their_images_and_merge_with_others(tmp_path, kind):
    embeddings, images = drawn(120)
    store = opened(tmp_path, COSINE, kind)
    add(store, embeddings, images)
    (first, second), counts = sorted(store.identities())[:2], store.identities()
    with store.changing():
        assert store.rename(first, "it's new") == counts[first] and store.rename("nobody", "new") == 0
        assert store.rename(second, "it's new") == counts[second]
    for either in (store, opened(tmp_path, COSINE, kind)):
        found = either.identities()
        assert found.pop("it's new") == counts[first] + counts[second]
        assert found == {name: count for name, count in counts.items() if name not in (first, second)}
        number = next(n for n, image in enumerate(images) if image.identity == first)
        (best,) = either.best(embeddings[[number]], 1)
        assert (best.images[0].identity, best.images[0].path) == ("it's new", images[number].path)


def older_index(keys, embeddings, kind):
    """The content of an index such as older versions made: a graph, or codes in cells."""
    faiss = pytest.importorskip("faiss")
    vectors = _index.for_metric(embeddings, "cosine")
    if kind == "hnsw":
        index = faiss.IndexHNSWSQ(DIMENSION, faiss.ScalarQuantizer.QT_fp16, 32)
    else:
        index = faiss.IndexIVFPQ(faiss.IndexHNSWFlat(DIMENSION, 32), DIMENSION, 8, 8, 8)
        index.nprobe = 8
    index.train(vectors)
    index = faiss.IndexIDMap2(index)
    index.add_with_ids(vectors, keys)
    return faiss.serialize_index(index).tobytes()


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_the_index_of_an_older_version_is_searched_until_the_next_change(tmp_path, small, kind):
    embeddings, images = drawn(400)
    store = opened(tmp_path)
    add(store, embeddings, images)
    content = json.loads((tmp_path / "gallery.json").read_text())
    older = older_index(_index.keys(embeddings), embeddings, kind)
    former = tmp_path / _own.index(older)
    (tmp_path / content["lookup"]["file"]).unlink()
    former.write_bytes(older)
    content["lookup"] = {"file": former.name, "kind": kind}
    del content["digest"]
    (tmp_path / "gallery.json").write_text(json.dumps(content))
    store = opened(tmp_path)
    assert paths(store.best(embeddings[:9], 1)) == [[image.path] for image in images[:9]] and former.exists()
    new, (image, *_) = drawn(1, seed=9)
    add(store, new, [image])
    assert not former.exists()
    assert json.loads((tmp_path / "gallery.json").read_text())["lookup"]["kind"] == "cells"
    for either in (store, opened(tmp_path)):
        assert paths(either.best(embeddings[:9], 1)) == [[image.path] for image in images[:9]]


def test_an_index_gets_more_cells_as_the_gallery_grows(tmp_path, small):
    faiss = pytest.importorskip("faiss")
    embeddings, images = drawn(2000)
    store = opened(tmp_path)
    cells = []
    for start in range(0, 2000, 400):
        add(store, embeddings[start : start + 400], images[start : start + 400])
        cells.append(faiss.extract_index_ivf(store._index._opened).nlist)
    assert cells[0] == 40 and 70 < cells[-1] < 90
    store = opened(tmp_path)
    assert faiss.extract_index_ivf(store._index._opened).nprobe == 16
    assert paths(store.best(embeddings[::50], 1)) == [[image.path] for image in images[::50]]


def test_an_array_that_images_came_from_stays_as_it_is(tmp_path):
    embeddings, images = drawn(40)
    before, store = embeddings.copy(), opened(tmp_path)
    for start in range(0, 20, 5):
        add(store, embeddings[start : start + 5], images[start : start + 5])
        np.testing.assert_array_equal(embeddings, before)
    embeddings[:] = 1  # Nor does a change of the array change the gallery.
    assert paths(store.best(before[:20], 1)) == [[image.path] for image in images[:20]]


def test_a_gallery_of_an_older_version_is_read_and_its_index_rebuilt(tmp_path, small):
    """Its parts hold no keys, and its index every image under its number."""
    pytest.importorskip("faiss")
    different, embeddings, images = copied(400, 20)
    store = opened(tmp_path)
    add(store, embeddings, images)
    index = json.loads((tmp_path / "gallery.json").read_text())
    (part,) = tmp_path.glob("part-*")
    with np.load(part) as file:
        arrays = {name: file[name] for name in ("numbers", "embeddings", "columns")}
    np.savez(part, **arrays)
    former = tmp_path / f"lookup-{7:032x}.faiss"
    (tmp_path / index["lookup"]["file"]).unlink()
    former.write_bytes(older_index(arrays["numbers"], embeddings, "hnsw"))
    index["lookup"] = {"file": former.name, "kind": "hnsw", "last": len(images) - 1}
    del index["digest"]
    (tmp_path / "gallery.json").write_text(json.dumps(index))
    store = opened(tmp_path)
    for _ in range(2):
        for number, best in enumerate(store.best(different[:50], 10)):
            assert [image.identity for image in best.images] == [f"i{number}"] * 10
        add(store, different[:1], [Enrolled("i0", "new", "t")])
    assert not former.exists() and store._index._searched[0].ntotal == 400
    assert len(opened(tmp_path)) == 8002


@pytest.mark.parametrize("failing", ["lookup-", "gallery.json"])
def test_a_failed_write_leaves_the_index_as_it_was(tmp_path, small, monkeypatch, failing):
    embeddings, images = drawn(650)
    store = opened(tmp_path)
    add(store, embeddings[:600], images[:600])
    write = files.write

    def full(path, content, private=False):
        if path.name.startswith(failing):
            raise OSError(28, "No space left on device", str(path))
        write(path, content, private)

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(OSError, match="No space left"):
        add(store, embeddings[600:], images[600:])
    monkeypatch.setattr(files, "write", write)
    add(store, embeddings[600:], images[600:])
    for either in (store, opened(tmp_path)):
        found = paths(either.best(embeddings[600:610], 5))
        assert all(len(set(one)) == 5 for one in found) and len(either) == 650
        assert [one[0] for one in found] == [str(number) for number in range(600, 610)]


def test_an_interrupt_after_the_last_write_keeps_what_was_written(tmp_path):
    embeddings, images = drawn(30)
    store = opened(tmp_path)
    with pytest.raises(KeyboardInterrupt), store.changing():
        store.add(embeddings, images)
        raise KeyboardInterrupt
    assert len(store) == len(opened(tmp_path)) == 30


def test_all_images_are_scored_if_the_head_is_not_a_metric(tmp_path, small):
    embeddings, images = drawn(400)
    store = opened(tmp_path, ("l1", None))
    add(store, embeddings, images)
    assert not list(tmp_path.glob("lookup-*"))
    (best,) = store.best(embeddings[7:8], 4)
    distance = np.abs(embeddings - embeddings[7]).sum(axis=1)
    assert [int(image.path) for image in best.images] == np.argsort(distance)[:4].tolist()


@pytest.mark.parametrize("head", [COSINE, EUCLIDEAN, ("l1", None)])
def test_nothing_is_compiled_while_a_gallery_grows(tmp_path, head, caplog):
    embeddings, images = drawn(600)
    store = opened(tmp_path, head)
    add(store, embeddings[:1], images[:1])
    store.best(embeddings[:1], 3)
    with jax.log_compiles():
        for start, end in ((1, 2), (2, 3), (3, 250), (250, 260), (260, 500), (500, 515), (515, 600)):
            add(store, embeddings[start:end], images[start:end])
            (best,) = store.best(embeddings[end - 1 : end], 3)
            assert best.images[0] == images[end - 1] and len(best.images) == min(end, 3)
        assert not [record.message for record in caplog.records if "compil" in record.message.lower()]
        jax.jit(lambda x: x + end)(1)
    assert any("compil" in record.message.lower() for record in caplog.records)


def test_a_damaged_index_is_found_and_made_again_once_it_is_deleted(tmp_path, small):
    store = opened(tmp_path)
    embeddings, images = drawn(401)
    add(store, embeddings[:400], images[:400])
    (path,) = tmp_path.glob("lookup-*")
    whole = path.read_bytes()
    for damaged in (whole[:1000], bytes([*whole[:9000], whole[9000] ^ 1, *whole[9001:]])):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"lookup-\w+.faiss is damaged: delete it, and the next image"):
            opened(tmp_path)
    path.unlink()
    store = opened(tmp_path)
    assert paths(store.best(embeddings[:2], 1)) == [["0"], ["1"]]
    add(store, embeddings[400:], images[400:])
    assert len(list(tmp_path.glob("lookup-*"))) == 1 and store._index._searched[0].ntotal == 401


def test_a_gallery_that_was_deleted_since_it_was_opened_is_not_added_to(tmp_path):
    """What is in memory alone would be named by a new gallery.json, or be lost."""
    embeddings, images = drawn(300)
    store = opened(tmp_path / "moved")
    add(store, embeddings[:299], images[:299])
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="moved was deleted or moved since it was opened; open it again"):
        add(store, embeddings[299:], images[299:])
    assert len(opened(tmp_path / "elsewhere")) == 299 and len(opened(tmp_path / "moved")) == 0


def test_a_failed_write_leaves_no_files(tmp_path, monkeypatch):
    embeddings, images = drawn(60)
    monkeypatch.setattr(_log, "MOST", 50)
    store = opened(tmp_path)
    add(store, embeddings[:30], images[:30])
    before = sorted(path.name for path in tmp_path.iterdir())
    write = files.write

    def full(path, content, private=False):
        if path.name == "gallery.json":
            raise OSError(28, "No space left on device", str(path))
        write(path, content, private)

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(OSError, match="No space left on device"):
        add(store, embeddings[30:], images[30:])
    monkeypatch.setattr(files, "write", write)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    for either in (store, opened(tmp_path)):
        assert len(either) == 30 and "40" not in paths(either.best(embeddings[40:41], 40))[0]
    add(store, embeddings[30:], images[30:])
    assert len(opened(tmp_path)) == 60


@pytest.mark.parametrize("head", [COSINE, EUCLIDEAN])
def test_a_database_holds_the_same_gallery(tmp_path, head):
    pytest.importorskip("lancedb")
    embeddings, images = drawn(300)
    store = opened(tmp_path / "lance", head, DatabaseStore)
    assert len(store) == 0 and store.identities() == {}
    images[4] = dataclasses.replace(images[4], identity="O'Neill")
    (tmp_path / "lance" / "thumbnails").mkdir()
    (tmp_path / "lance" / images[4].thumbnail).touch()
    add(store, embeddings[:200], images[:200])
    other = opened(tmp_path / "lance", head, DatabaseStore)
    add(other, embeddings[200:], images[200:])
    folder = opened(tmp_path / "folder", head)
    add(folder, embeddings, images)
    queries, _ = drawn(40, seed=5)
    for one, expected in zip(store.best(queries, 5), folder.best(queries, 5), strict=True):
        np.testing.assert_allclose(one.scores, expected.scores, rtol=1e-4, atol=1e-4)
        assert [image.path for image in one.images] == [image.path for image in expected.images]
    assert len(store.best(queries[:1], 1000)[0].images) == len(store) == 300
    assert store.identities() == folder.identities()
    with other.changing():
        assert other.remove("O'Neill") == 1 and other.remove("O'Neill") == 0
    assert len(store) == 299 and "O'Neill" not in store.identities()
    assert not (tmp_path / "lance" / images[4].thumbnail).exists()


@pytest.mark.parametrize("kind", [FolderStore, DatabaseStore])
def test_names_of_an_older_gallery_are_found_in_either_form(tmp_path, kind):
    pytest.importorskip("lancedb")
    composed, apart = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    embeddings, images = drawn(6)
    names = (composed, apart, "ann", "O'Neill", apart, "bob")
    images = [dataclasses.replace(image, identity=name) for image, name in zip(images, names, strict=True)]
    store = opened(tmp_path / "gallery", COSINE, kind)
    assert store.images({composed}) == []
    add(store, embeddings, images)
    assert store.identities() == {"O'Neill": 1, "Zoë": 3, "ann": 1, "bob": 1}
    expected = [dataclasses.replace(images[number], identity=composed) for number in (0, 1, 4)] + [images[3]]
    assert sorted(store.images({composed, "O'Neill"}), key=str) == sorted(expected, key=str)
    with store.changing():
        assert store.remove(composed) == 3
    assert store.identities() == {"O'Neill": 1, "ann": 1, "bob": 1}


def test_a_large_database_is_searched_by_its_index(tmp_path, monkeypatch):
    pytest.importorskip("lancedb")
    monkeypatch.setattr(DatabaseStore, "_INDEXED", 1000)
    embeddings, images = drawn(3000)
    early = opened(tmp_path / "lance", COSINE, DatabaseStore)
    store = opened(tmp_path / "lance", COSINE, DatabaseStore)
    add(store, embeddings[:2500], images[:2500])
    assert len(early) == 2500  # It was opened while the database was empty.
    add(store, embeddings[2500:], images[2500:])
    (index,) = [index for index in store._table.list_indices() if index.columns == ["vector"]]
    assert store._table.index_stats(index.name).num_unindexed_rows <= 500
    folder = opened(tmp_path / "folder")
    add(folder, embeddings, images)
    queries, _ = drawn(60, seed=5)
    assert overlap(store.best(queries, 5), folder.best(queries, 5)) > 0.9
    monkeypatch.setattr(DatabaseStore, "_INDEXED", 20)
    with store.changing():
        assert store.rename("i0", "one") == 3
    assert store._table.index_stats(index.name).num_unindexed_rows <= 2


@pytest.mark.parametrize("indexed", [False, True])
def test_a_database_that_grows_one_by_one_stays_in_few_pieces(tmp_path, monkeypatch, indexed):
    """Each change adds a file to the table, which every query then opens."""
    pytest.importorskip("lancedb")
    if indexed:
        monkeypatch.setattr(DatabaseStore, "_INDEXED", 300)
        monkeypatch.setattr(DatabaseStore, "_PIECES", (8, 8))
    embeddings, images = drawn(330)
    store = opened(tmp_path / "lance", COSINE, DatabaseStore)
    add(store, embeddings[:310], images[:310])
    for number in range(310, 330):
        add(store, embeddings[[number]], [images[number]])
    assert store._table.stats()["fragment_stats"]["num_fragments"] <= 9
    folder = opened(tmp_path / "folder")
    add(folder, embeddings, images)
    assert paths(store.best(embeddings[300:], 5)) == paths(folder.best(embeddings[300:], 5))


def test_a_table_of_an_older_version_is_read_and_replaced_at_the_first_change(tmp_path, monkeypatch):
    lancedb = pytest.importorskip("lancedb")
    import pyarrow

    monkeypatch.setattr(DatabaseStore, "_INDEXED", 300)
    different, embeddings, images = copied(400, 4)
    store = opened(tmp_path / "lance", COSINE, DatabaseStore)
    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.ravel()), DIMENSION)
    columns = {name: [getattr(image, name) for image in images] for name in COLUMNS}
    address = str(tmp_path / "lance" / "database")
    lancedb.connect(address).create_table(store._name, pyarrow.table({"vector": vectors} | columns))
    for added in range(2):
        for number, best in enumerate(store.best(different[:20], 4)):
            assert [image.identity for image in best.images] == [f"i{number}"] * 4
        assert len(store) == 1600 + added
        add(store, different[:1], [Enrolled("i0", "new", "t")])
    assert store._table.count_rows("NOT copy") == 400


def test_an_index_of_codes_of_an_older_version_is_searched_as_well_until_the_next_change(tmp_path, monkeypatch):
    pytest.importorskip("lancedb")
    from lancedb.index import IvfPq

    embeddings, images = drawn(900)
    store = opened(tmp_path / "lance", COSINE, DatabaseStore)
    add(store, embeddings, images)
    codes = IvfPq(distance_type="cosine", num_partitions=48, num_sub_vectors=2, num_bits=4, max_iterations=4)
    store._table.create_index("vector", config=codes)
    folder = opened(tmp_path / "folder")
    add(folder, embeddings, images)
    queries, _ = drawn(30, seed=5)
    found = overlap(store.best(queries, 5), folder.best(queries, 5))
    with monkeypatch.context() as without:
        # The index is trained at random: of seven, 0.85 to 0.96, and 0.67 to 0.82 by the codes alone.
        without.setattr(DatabaseStore, "_has_codes", lambda _: False)
        assert found > overlap(store.best(queries, 5), folder.best(queries, 5)) + 0.03
    monkeypatch.setattr(DatabaseStore, "_INDEXED", 300)
    add(store, embeddings[:1], [Enrolled("i0", "new", "t")])
    (index,) = [index for index in store._table.list_indices() if index.columns == ["vector"]]
    assert index.index_type == "IvfFlat" and not store._has_codes()


def test_a_database_that_cannot_be_reached_is_named(tmp_path):
    pytest.importorskip("lancedb")
    (tmp_path / "file").touch()
    manifest = Manifest("", "0" * 32, str(tmp_path / "file" / "below"))
    with pytest.raises(OSError, match="file/below"):
        store = DatabaseStore(tmp_path / "gallery", manifest, scorer_of("cosine"), "cosine")
        add(store, *drawn(30))


def test_a_database_needs_a_metric(tmp_path):
    with pytest.raises(ValueError, match="train with head.name='distance'"):
        opened(tmp_path, ("l1", None), DatabaseStore)
