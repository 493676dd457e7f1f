"""A gallery that outgrows a machine: its embeddings and names in a table of LanceDB."""

import contextlib
import datetime
import json
import pathlib
import unicodedata
from collections.abc import Collection

import numpy as np

from siamjax import files, lookup
from siamjax.stores import COLUMNS, LOOK_UP, Best, alone, check_same, counted, read_index, score_each


class DatabaseStore:
    """In a table of LanceDB, on disk or in an object store: memory holds none of it, and several machines may share it.

    The table is called after the network, so that networks do not mix. `gallery.json` says where the database is;
    thumbnails are stored next to it.

    Each different embedding is in the table once, so that copies of one image cannot crowd out others: the images that
    have it share a `key`, and all but one are a `copy`, with no `vector`.
    """

    _SEARCHED = 100_000  # images from which on an index of the table (IVF-PQ) leads the search
    _LEARNT = 256  # different embeddings that its codes need, at least

    def __init__(self, place: pathlib.Path, about: dict, scorer, metric: str | None):
        """Opens the table in the database that `about` names; arguments as for `FolderStore`.

        Raises:
          ImportError: LanceDB is not installed.
          OSError: the database cannot be reached, or what was enrolled is not in it.
          ValueError: no metric follows the head's scores.
        """
        if metric is None:
            raise ValueError(
                "a database finds the nearest by a metric, which this network's head has not: train with head.name="
                "'distance' (euclidean, squared_euclidean or cosine), or keep the gallery in its folder"
            )
        try:
            import lancedb
        except ImportError as error:
            raise ImportError("a gallery in a database needs LanceDB: pip install 'siamjax[gallery]'") from error
        self._place, self._about, self._scorer, self._metric = place, about, scorer, metric
        self._name = f"gallery_{about['network'][:16]}"
        with self._reaching():
            self._database = lancedb.connect(about["database"], read_consistency_interval=datetime.timedelta(0))
            self._table = None
            if self._open() is None and read_index(place) is not None:
                raise FileNotFoundError(
                    f"the database {about['database']}, which holds the images of {place}, is not there"
                )

    def _open(self):
        """The table, or None as long as nothing was enrolled, by whomever."""
        if self._table is None:
            try:
                self._table = self._database.open_table(self._name)
            except ValueError as error:
                if "not found" not in str(error):
                    raise
        return self._table

    @contextlib.contextmanager
    def _reaching(self):
        try:
            yield
        except RuntimeError as error:  # LanceDB's way of saying that something went wrong outside.
            reason = str(error).splitlines()[0][:200]
            raise OSError(f"the database {self._about['database']} cannot be read or written ({reason})") from error

    def __len__(self) -> int:
        with self._reaching():
            return self._open().count_rows() if self._open() else 0

    def identities(self) -> dict[str, int]:
        """Each identity, in the order of names, with the number of its images."""
        if not len(self):
            return {}
        with self._reaching():
            return counted(self._table.search().select(["identity"]).to_arrow()["identity"].to_pylist())

    @contextlib.contextmanager
    def changing(self):
        """Alone with the gallery's folder; the database itself takes care of writers elsewhere."""
        with alone(self._place):
            index = read_index(self._place)
            if index is not None:
                check_same(self._place, index, self._about)
            with self._reaching():
                self._upgrade()
                yield
            if index != self._about:
                files.write(self._place / "gallery.json", json.dumps(self._about, indent=1).encode())

    def add(self, embeddings: np.ndarray, rows: list[dict[str, str]]):
        """Adds embeddings [n, d], each with its row, all at once; to be called while `changing`."""
        keys = lookup.keys(embeddings)
        known = np.isin(keys, list(self._keys_where("NOT copy", keys) if self._open() else ()))
        new = _table(embeddings, keys, _first(keys) & ~known, rows)
        if self._open() is None:
            self._table = self._database.create_table(self._name, schema=new.schema, exist_ok=True)
        self._table.add(new)
        self._complete(keys[known], embeddings[known])  # Another machine may have removed them since.
        with contextlib.suppress(RuntimeError):  # The rows are there, and are found without an index, too.
            self._cover()

    def remove(self, identity: str) -> int:
        """Takes an identity out, with its thumbnails; to be called while `changing`."""
        if not len(self):
            return 0
        condition = _of([identity])

        def thumbnails(condition):
            return self._table.search().where(condition).select(["thumbnail"]).to_arrow()["thumbnail"].to_pylist()

        found = thumbnails(condition)
        kept = self._table.search().where(f"{condition} AND NOT copy").select(["key", "vector"]).to_arrow()
        if len(kept):
            keys, vectors = kept["key"].to_numpy(), np.stack(kept["vector"].to_numpy())
            self._complete(keys, vectors, f" AND NOT ({condition})")
        self._table.delete(condition)
        if len(kept):
            self._complete(keys, vectors)  # Another machine may have added a copy since.
        for start in range(0, len(found), 500):
            some = set(found[start : start + 500])
            for name in some - set(thumbnails(f"thumbnail IN ({', '.join(map(_quoted, some))})")):
                (self._place / name).unlink(missing_ok=True)
        return len(found)

    def paths(self, identities: Collection[str]) -> list[tuple[str, str]]:
        """The identity and the path of each image of these identities."""
        found, asked = [], sorted(identities)
        with self._reaching():
            for start in range(0, len(asked) if len(self) else 0, 500):
                rows = (
                    self._table.search().where(_of(asked[start : start + 500])).select(["identity", "path"]).to_arrow()
                )
                found += zip(map(files.named, rows["identity"].to_pylist()), rows["path"].to_pylist(), strict=True)
        return found

    def best(self, queries: np.ndarray, count: int) -> list[Best]:
        """The `count` that score highest against each of `queries` [q, d], or all that there are."""
        count = min(count, len(self))
        with self._reaching():
            return [self._best(query, count) for query in queries]

    def _best(self, query, count):
        search = self._table.search(query).distance_type(self._metric).limit(LOOK_UP * count)
        found = search.nprobes(64).refine_factor(4).to_arrow()
        vectors = np.stack(found["vector"].to_numpy())
        scores = score_each(self._scorer, query[None], vectors[None])[0]
        order = np.argsort(-scores, kind="stable")[:count]
        columns = {name: found[name].to_pylist() for name in COLUMNS}
        # An older siamjax wrote no keys.
        keys = found["key"].to_pylist() if "key" in found.column_names else [None] * len(found)
        copied = self._keys_where("copy", [keys[number] for number in order if keys[number] is not None])
        numbers, rows = [], []
        for number in order:
            rows.append({name: columns[name][number] for name in COLUMNS})
            if keys[number] in copied and len(rows) < count:
                copies = self._table.search().where(f"copy AND key = {keys[number]}").limit(count - len(rows))
                rows += copies.select(list(COLUMNS)).to_arrow().to_pylist()
            numbers += [number] * (len(rows) - len(numbers))
        return Best(scores[numbers[:count]], rows[:count])

    def _keys_where(self, condition, keys):
        """The set of those `keys` that rows have for which the SQL `condition` holds."""
        found = set()
        for start in range(0, len(keys), 1000):
            some = ", ".join(map(str, keys[start : start + 1000]))
            rows = self._table.search().where(f"{condition} AND key IN ({some})").select(["key"]).to_arrow()
            found.update(rows["key"].to_pylist())
        return found

    def _complete(self, keys, embeddings, among=""):
        """Gives embeddings [n, d] to an image of their keys each, where none of them has it any more.

        With a further SQL condition `among`, only images for which it holds count.
        """
        lacking = self._keys_where(f"copy{among}", keys)
        lacking -= self._keys_where(f"NOT copy{among}", sorted(lacking))
        for key in lacking:
            row = self._table.search().where(f"copy AND key = {key}{among}").select(["key"]).with_row_id(True).limit(1)
            (number,) = row.to_arrow()["_rowid"].to_pylist()
            vector = embeddings[np.argmax(keys == key)].tolist()
            self._table.update(where=f"_rowid = {number}", values={"vector": vector, "copy": False})

    def _upgrade(self):
        """A table of an older siamjax has no keys, and an embedding for every copy: replaces it, all at once."""
        import pyarrow

        if self._open() is None or "key" in self._table.schema.names:
            return
        known = set()

        def upgraded(batch):
            vectors = np.stack(batch["vector"].to_numpy(zero_copy_only=False))
            keys = lookup.keys(vectors)
            first = _first(keys) & np.array([key not in known for key in keys.tolist()])
            known.update(keys.tolist())
            return _table(vectors, keys, first, batch.select(list(COLUMNS)).to_pylist()).to_batches()

        (example,) = upgraded(self._table.head(1).combine_chunks().to_batches()[0])
        known.clear()
        batches = (part for batch in self._table.search().to_batches(10_000) for part in upgraded(batch))
        reader = pyarrow.RecordBatchReader.from_batches(example.schema, batches)
        self._table = self._database.create_table(self._name, reader, mode="overwrite", on_bad_vectors="null")

    def _cover(self):
        from lancedb.index import BTree, IvfPq

        if len(self) < self._SEARCHED or self._table.count_rows("NOT copy") < self._LEARNT:
            return
        index = next((index for index in self._table.list_indices() if index.columns == ["vector"]), None)
        if index is None:
            codes = lookup.codes(self._table.schema.field("vector").type.list_size)
            self._table.create_index("vector", config=IvfPq(distance_type=self._metric, num_sub_vectors=codes))
            self._table.create_index("key", config=BTree())
        elif self._table.index_stats(index.name).num_unindexed_rows > self._SEARCHED // 10:
            self._table.optimize()


def _table(embeddings, keys, first, rows):
    """The rows as LanceDB takes them: with their embeddings [n, d] where `first`, bool [n]; elsewhere as copies."""
    import pyarrow

    flat = pyarrow.array(np.ascontiguousarray(embeddings).ravel())
    vectors = pyarrow.FixedSizeListArray.from_arrays(flat, embeddings.shape[1], mask=pyarrow.array(~first))
    columns = {name: pyarrow.array([row[name] for row in rows], pyarrow.string()) for name in COLUMNS}
    return pyarrow.table({"vector": vectors} | columns | {"key": keys, "copy": ~first})


def _first(keys):
    """bool [n]: which of `keys` comes for the first time."""
    first = np.zeros(len(keys), bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return first


def _of(identities):
    """The condition, in SQL, that an image is of these identities, in either of Unicode's forms: an older siamjax wrote
    names as they were typed."""
    names = {unicodedata.normalize(form, name) for name in identities for form in ("NFC", "NFD")}
    return f"identity IN ({', '.join(map(_quoted, sorted(names)))})"


def _quoted(text):
    return "'" + text.replace("'", "''") + "'"
