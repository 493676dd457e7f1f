"""Stores of a gallery with many images: what FAISS and LanceDB find is what comparing with all finds."""

import json
import unicodedata

import jax
import numpy as np
import pytest

from siamjax import database, heads, stores
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
        {"identity": f"i{number}", "path": f"{place}", "thumbnail": f"thumbnails/{place}.jpg"}
        for place, number in enumerate(identity)
    ]


@pytest.fixture
def small(monkeypatch):
    """The kinds of index change with fewer images than elsewhere."""
    for name, value in (("_ALL", 100), ("_FLAT", 300), ("_GRAPH", 5000), ("_LEFT", 10)):
        monkeypatch.setattr(stores, name, value)


def opened(place, head=COSINE, kind=stores.FolderStore):
    address = str(place / "database") if kind is database.DatabaseStore else None
    about = {"format": stores.FORMAT, "run": "run", "network": "0123456789abcdef", "database": address}
    place.mkdir(exist_ok=True)
    return kind(place, about, scorer_of(head[0]), head[1])


def add(store, embeddings, rows):
    with store.changing():
        store.add(embeddings, rows)


def paths(found):
    return [[row["path"] for row in best.rows] for best in found]


def overlap(found, expected):
    pairs = zip(paths(found), paths(expected), strict=True)
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in pairs])


@pytest.mark.parametrize("head", [COSINE, EUCLIDEAN])
@pytest.mark.parametrize(("count", "kind"), [(90, None), (200, None), (1500, "hnsw"), (9000, "ivfpq")])
def test_faiss_finds_what_comparing_with_all_finds(tmp_path, monkeypatch, small, head, count, kind):
    embeddings, rows = drawn(count)
    store = opened(tmp_path, head)
    add(store, embeddings, rows)
    entry = json.loads((tmp_path / "gallery.json").read_text())["lookup"]
    assert (entry and entry["kind"]) == kind and len(store) == count
    queries, _ = drawn(60, seed=5)
    found, again = store.best(queries, 5), opened(tmp_path, head).best(queries, 5)
    assert paths(found) == paths(again)
    monkeypatch.setattr(stores, "_ALL", count)
    everything = opened(tmp_path, head).best(queries, 5)
    assert overlap(found, everything) > (0.93 if kind else 0.999)
    for one, other in zip(found, everything, strict=True):
        # The scores are the head's, whatever found them.
        np.testing.assert_allclose(one.scores[0], other.scores[0], rtol=1e-4, atol=1e-4)
        assert np.all(np.diff(one.scores) <= 0) and len(one.scores) == 5


def test_an_index_goes_on_with_what_is_added_and_forgets_what_is_removed(tmp_path, small):
    embeddings, rows = drawn(600)
    store = opened(tmp_path)
    add(store, embeddings, rows)
    first = json.loads((tmp_path / "gallery.json").read_text())["lookup"]["file"]

    def lookups():
        return [path.name for path in tmp_path.glob("lookup-*")]

    new = np.float32(np.eye(DIMENSION)[:1] * 50)
    add(store, new, [{"identity": "new", "path": "new", "thumbnail": "t"}])
    assert lookups() == [first]  # One more does not write the index anew.
    for either in (store, opened(tmp_path)):
        (best,) = either.best(new, 3)
        assert best.rows[0]["identity"] == "new" and best.scores[0] > best.scores[1]
    more, more_rows = drawn(30, seed=3)
    add(store, more, [row | {"path": f"more{row['path']}"} for row in more_rows])
    assert lookups() != [first] and len(lookups()) == 1
    (best,) = store.best(more[:1], 3)
    assert best.rows[0]["path"] == "more0"
    with store.changing():
        assert store.remove("new") == 1 and store.remove("i7") == 6 and store.remove("i7") == 0
    for either in (store, opened(tmp_path)):
        asked = either.best(np.concatenate([new, embeddings[21:24]]), 9)
        found = {row["identity"] for best in asked for row in best.rows}
        assert not found & {"new", "i7"} and either.identities()["i6"] == 6
    for number in range(10, 40):
        with store.changing():
            store.remove(f"i{number}")
    assert len(store) == 624 - 90 and len(lookups()) == 1
    store = opened(tmp_path)
    assert store._lookups[0].ntotal < 1.15 * len(store)


def test_those_that_are_gone_do_not_crowd_out_others(tmp_path, small, monkeypatch):
    monkeypatch.setattr(stores, "_LEFT", 200)
    embeddings, rows = drawn(700)
    for number in range(100):
        embeddings[number], rows[number]["identity"] = embeddings[0] + 0.001 * number, "crowd"
    store = opened(tmp_path)
    add(store, embeddings, rows)
    with store.changing():
        assert store.remove("crowd") == 100
    for either in (store, opened(tmp_path)):
        assert either._lookups[0].ntotal == 700
        (best,) = either.best(embeddings[:1], 5)
        assert len(best.rows) == 5 and all(row["identity"] != "crowd" for row in best.rows)


def copied(images, copies):
    """Embeddings and rows of so many images, each with copies of it, in a mixed order; and the images' embeddings."""
    different, _ = drawn(3 * images)
    different = different[::3]
    number = np.random.default_rng(7).permutation(np.repeat(np.arange(images), copies))
    return (
        different,
        different[number],
        [
            {"identity": f"i{one}", "path": f"{place}", "thumbnail": f"thumbnails/{one}.jpg"}
            for place, one in enumerate(number)
        ],
    )


STORES = [stores.FolderStore, database.DatabaseStore]


@pytest.fixture(params=STORES)
def kind(request, monkeypatch, small):
    """Each store, with indexes that a few hundred images suffice for."""
    if request.param is database.DatabaseStore:
        pytest.importorskip("lancedb")
        monkeypatch.setattr(database.DatabaseStore, "_SEARCHED", 300)
    return request.param


@pytest.mark.parametrize("head", [COSINE, EUCLIDEAN])
def test_an_enrolled_image_is_found_whatever_its_copies(tmp_path, kind, head):
    different, embeddings, rows = copied(400, 25)
    store = opened(tmp_path, head, kind)
    add(store, embeddings[:9000], rows[:9000])
    add(store, embeddings[9000:], rows[9000:])  # Mostly copies of what is there.
    asked = np.arange(0, 400, 16)
    for either in (store, opened(tmp_path, head, kind)):
        for number, best in zip(asked, either.best(different[asked], 10), strict=True):
            assert [row["identity"] for row in best.rows] == [f"i{number}"] * 10
            assert len({row["path"] for row in best.rows}) == 10
        for number, best in zip(asked, either.best(different[asked], 40), strict=True):
            assert len(best.scores) == len({row["path"] for row in best.rows}) == 40
            assert sum(row["identity"] == f"i{number}" for row in best.rows) == 25


def test_one_image_enrolled_over_and_over_hides_no_other(tmp_path, kind):
    embeddings, rows = drawn(1600)
    embeddings[::2] = embeddings[0]
    store = opened(tmp_path, COSINE, kind)
    add(store, embeddings, rows)
    everything = opened(tmp_path / "all", ("cosine", None))
    add(everything, embeddings, rows)
    queries, _ = drawn(60, seed=5)
    queries[0] = embeddings[0]
    found, expected = store.best(queries, 10), everything.best(queries, 10)
    assert all(len(best.rows) == 10 for best in found)
    # Of equally good images any may be in the list: scores tell.
    recall = [np.mean(one.scores >= other.scores[-1] - 1e-4) for one, other in zip(found, expected, strict=True)]
    assert np.mean(recall) > 0.97


def test_copies_stay_when_the_image_they_are_of_is_removed(tmp_path, kind):
    different, embeddings, rows = copied(400, 2)
    rows += [{"identity": "another", "path": f"copy {n}", "thumbnail": "t"} for n in range(3)]
    store = opened(tmp_path, COSINE, kind)
    add(store, np.concatenate([embeddings, different[[7, 7, 8]]]), rows)
    with store.changing():
        assert store.remove("i7") == 2
    for either in (store, opened(tmp_path, COSINE, kind)):
        (best,) = either.best(different[7:8], 3)
        assert [row["path"] for row in best.rows[:2]] == ["copy 0", "copy 1"]
        assert best.scores[0] == best.scores[1] > best.scores[2]
    with store.changing():
        assert store.remove("another") == 3
    add(store, different[7:8], [{"identity": "back", "path": "back", "thumbnail": "t"}])
    for either in (store, opened(tmp_path, COSINE, kind)):
        seventh, eighth = either.best(different[7:9], 3)
        assert seventh.rows[0]["identity"] == "back" and len(seventh.rows) == 3
        assert [row["identity"] for row in eighth.rows[:2]] == ["i8", "i8"]
    assert len(store) == 799


def test_a_gallery_of_an_older_version_is_read_and_its_index_rebuilt(tmp_path, small):
    """Its parts hold no keys, and its index every image under its number."""
    faiss = pytest.importorskip("faiss")
    different, embeddings, rows = copied(400, 20)
    store = opened(tmp_path)
    add(store, embeddings, rows)
    index = json.loads((tmp_path / "gallery.json").read_text())
    (part,) = tmp_path.glob("part-*")
    with np.load(part) as file:
        arrays = {name: file[name] for name in ("numbers", "embeddings", "columns")}
    np.savez(part, **arrays)
    old = stores.lookup.make(faiss, arrays["numbers"], embeddings, "cosine", "hnsw")
    (tmp_path / index["lookup"]["file"]).rename(tmp_path / "lookup-old.faiss")
    faiss.write_index(old, str(tmp_path / "lookup-old.faiss"))
    index["lookup"] = {"file": "lookup-old.faiss", "kind": "hnsw", "last": len(rows) - 1}
    (tmp_path / "gallery.json").write_text(json.dumps(index))
    store = opened(tmp_path)
    for _ in range(2):
        for number, best in enumerate(store.best(different[:50], 10)):
            assert [row["identity"] for row in best.rows] == [f"i{number}"] * 10
        add(store, different[:1], [{"identity": "i0", "path": "new", "thumbnail": "t"}])
    assert not (tmp_path / "lookup-old.faiss").exists() and store._lookups[0].ntotal == 400
    assert len(opened(tmp_path)) == 8002


@pytest.mark.parametrize("failing", ["lookup-", "gallery.json"])
def test_a_failed_write_leaves_the_index_as_it_was(tmp_path, small, monkeypatch, failing):
    embeddings, rows = drawn(650)
    store = opened(tmp_path)
    add(store, embeddings[:600], rows[:600])
    write = stores.files.write

    def full(path, content):
        if path.name.startswith(failing):
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(stores.files, "write", full)
    with pytest.raises(OSError, match="No space left"):
        add(store, embeddings[600:], rows[600:])
    monkeypatch.setattr(stores.files, "write", write)
    add(store, embeddings[600:], rows[600:])
    for either in (store, opened(tmp_path)):
        found = paths(either.best(embeddings[600:610], 5))
        assert all(len(set(row)) == 5 for row in found) and len(either) == 650
        assert [row[0] for row in found] == [str(number) for number in range(600, 610)]


def test_an_interrupt_after_the_last_write_keeps_what_was_written(tmp_path):
    embeddings, rows = drawn(30)
    store = opened(tmp_path)
    with pytest.raises(KeyboardInterrupt), store.changing():
        store.add(embeddings, rows)
        raise KeyboardInterrupt
    assert len(store) == len(opened(tmp_path)) == 30


def test_where_no_metric_says_all_are_scored(tmp_path, small):
    embeddings, rows = drawn(400)
    store = opened(tmp_path, ("l1", None))
    add(store, embeddings, rows)
    assert not list(tmp_path.glob("lookup-*"))
    (best,) = store.best(embeddings[7:8], 4)
    distance = np.abs(embeddings - embeddings[7]).sum(axis=1)
    assert [int(row["path"]) for row in best.rows] == np.argsort(distance)[:4].tolist()


def test_a_damaged_index_is_named(tmp_path, small):
    store = opened(tmp_path)
    add(store, *drawn(400))
    (path,) = tmp_path.glob("lookup-*")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"lookup-\w+.faiss is damaged"):
        opened(tmp_path)


def test_what_could_not_be_written_is_not_there(tmp_path, monkeypatch):
    embeddings, rows = drawn(60)
    store = opened(tmp_path)
    add(store, embeddings[:30], rows[:30])
    before = sorted(path.name for path in tmp_path.iterdir())
    write = stores.files.write

    def full(path, content):
        if path.name == "gallery.json":
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(stores.files, "write", full)
    with pytest.raises(OSError, match="No space left on device"):
        add(store, embeddings[30:], rows[30:])
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    for either in (store, opened(tmp_path)):
        assert len(either) == 30 and "40" not in paths(either.best(embeddings[40:41], 40))[0]
    add(store, embeddings[30:], rows[30:])
    assert len(opened(tmp_path)) == 60


@pytest.mark.parametrize("head", [COSINE, EUCLIDEAN])
def test_a_database_holds_the_same_gallery(tmp_path, head):
    pytest.importorskip("lancedb")
    embeddings, rows = drawn(300)
    store = opened(tmp_path / "lance", head, database.DatabaseStore)
    assert len(store) == 0 and store.identities() == {}
    rows[4]["identity"] = "O'Neill"
    (tmp_path / "lance" / "thumbnails").mkdir()
    (tmp_path / "lance" / rows[4]["thumbnail"]).touch()
    add(store, embeddings[:200], rows[:200])
    other = opened(tmp_path / "lance", head, database.DatabaseStore)
    add(other, embeddings[200:], rows[200:])
    folder = opened(tmp_path / "folder", head)
    add(folder, embeddings, rows)
    queries, _ = drawn(40, seed=5)
    for one, expected in zip(store.best(queries, 5), folder.best(queries, 5), strict=True):
        np.testing.assert_allclose(one.scores, expected.scores, rtol=1e-4, atol=1e-4)
        assert [row["path"] for row in one.rows] == [row["path"] for row in expected.rows]
    assert len(store.best(queries[:1], 1000)[0].rows) == len(store) == 300
    assert store.identities() == folder.identities()
    with other.changing():
        assert other.remove("O'Neill") == 1 and other.remove("O'Neill") == 0
    assert len(store) == 299 and "O'Neill" not in store.identities()
    assert not (tmp_path / "lance" / rows[4]["thumbnail"]).exists()


@pytest.mark.parametrize("kind", [stores.FolderStore, database.DatabaseStore])
def test_names_of_an_older_gallery_are_found_in_either_form(tmp_path, kind):
    pytest.importorskip("lancedb")
    composed, apart = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    embeddings, rows = drawn(6)
    for row, name in zip(rows, (composed, apart, "ann", "O'Neill", apart, "bob"), strict=True):
        row["identity"] = name
    store = opened(tmp_path / "gallery", COSINE, kind)
    assert store.paths({composed}) == []
    add(store, embeddings, rows)
    assert store.identities() == {"O'Neill": 1, "Zoë": 3, "ann": 1, "bob": 1}
    expected = [(composed, rows[number]["path"]) for number in (0, 1, 4)] + [("O'Neill", rows[3]["path"])]
    assert sorted(store.paths({composed, "O'Neill"})) == sorted(expected)
    with store.changing():
        assert store.remove(composed) == 3
    assert store.identities() == {"O'Neill": 1, "ann": 1, "bob": 1}


def test_a_database_finds_by_its_index_once_there_are_many(tmp_path, monkeypatch):
    pytest.importorskip("lancedb")
    monkeypatch.setattr(database.DatabaseStore, "_SEARCHED", 1000)
    embeddings, rows = drawn(3000)
    early = opened(tmp_path / "lance", COSINE, database.DatabaseStore)
    store = opened(tmp_path / "lance", COSINE, database.DatabaseStore)
    add(store, embeddings[:2500], rows[:2500])
    assert len(early) == 2500  # It was opened before there was anything.
    add(store, embeddings[2500:], rows[2500:])
    (index,) = [index for index in store._table.list_indices() if index.columns == ["vector"]]
    assert store._table.index_stats(index.name).num_unindexed_rows <= 500
    folder = opened(tmp_path / "folder")
    add(folder, embeddings, rows)
    queries, _ = drawn(60, seed=5)
    assert overlap(store.best(queries, 5), folder.best(queries, 5)) > 0.9


def test_a_table_of_an_older_version_is_read_and_replaced_once_it_changes(tmp_path, monkeypatch):
    lancedb = pytest.importorskip("lancedb")
    import pyarrow

    monkeypatch.setattr(database.DatabaseStore, "_SEARCHED", 300)
    different, embeddings, rows = copied(400, 4)
    store = opened(tmp_path / "lance", COSINE, database.DatabaseStore)
    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.ravel()), DIMENSION)
    columns = {name: [row[name] for row in rows] for name in stores.COLUMNS}
    address = str(tmp_path / "lance" / "database")
    lancedb.connect(address).create_table(store._name, pyarrow.table({"vector": vectors} | columns))
    for added in range(2):
        for number, best in enumerate(store.best(different[:20], 4)):
            assert [row["identity"] for row in best.rows] == [f"i{number}"] * 4
        assert len(store) == 1600 + added
        add(store, different[:1], [{"identity": "i0", "path": "new", "thumbnail": "t"}])
    assert store._table.count_rows("NOT copy") == 400


def test_a_database_that_cannot_be_reached_is_named(tmp_path):
    pytest.importorskip("lancedb")
    (tmp_path / "file").touch()
    about = {"format": stores.FORMAT, "run": "", "network": "0" * 32, "database": str(tmp_path / "file" / "below")}
    with pytest.raises(OSError, match="file/below"):
        store = database.DatabaseStore(tmp_path / "gallery", about, scorer_of("cosine"), "cosine")
        add(store, *drawn(30))


def test_a_database_needs_a_metric(tmp_path):
    with pytest.raises(ValueError, match="train with head.name='distance'"):
        opened(tmp_path, ("l1", None), database.DatabaseStore)
