"""A gallery that outgrows a machine: its embeddings and names in a table of LanceDB."""

import contextlib
import datetime
import json
import pathlib

import numpy as np

from siamjax import files, lookup
from siamjax.stores import COLUMNS, LOOK_UP, Best, alone, check_same, counted, read_index, score_each


class DatabaseStore:
    """In a table of LanceDB, on disk or in an object store: memory holds none of it, and several machines may share it.

    The table is called after the network, so that networks do not mix. `gallery.json` says where the database is;
    thumbnails lie beside it.
    """

    _SEARCHED = 100_000  # images from which on an index of the table (IVF-PQ) leads the search

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
                yield
            if index != self._about:
                files.write(self._place / "gallery.json", json.dumps(self._about, indent=1).encode())

    def add(self, embeddings: np.ndarray, rows: list[dict[str, str]]):
        """Adds embeddings [n, d], each with its row, all at once; to be called while `changing`."""
        import pyarrow

        dimension = embeddings.shape[1]
        vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.ravel()), dimension)
        columns = {name: pyarrow.array([row[name] for row in rows], pyarrow.string()) for name in COLUMNS}
        new = pyarrow.table({"vector": vectors} | columns)
        if self._open() is None:
            self._table = self._database.create_table(self._name, schema=new.schema, exist_ok=True)
        self._table.add(new)
        with contextlib.suppress(RuntimeError):  # The rows are there, and are found without an index, too.
            self._cover()

    def remove(self, identity: str) -> int:
        """Takes an identity out, with its thumbnails; to be called while `changing`."""
        if not len(self):
            return 0
        condition = f"identity = {_quoted(identity)}"

        def thumbnails(condition):
            return self._table.search().where(condition).select(["thumbnail"]).to_arrow()["thumbnail"].to_pylist()

        found = thumbnails(condition)
        self._table.delete(condition)
        for start in range(0, len(found), 500):
            some = set(found[start : start + 500])
            for name in some - set(thumbnails(f"thumbnail IN ({', '.join(map(_quoted, some))})")):
                (self._place / name).unlink(missing_ok=True)
        return len(found)

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
        return Best(scores[order], [{name: columns[name][number] for name in COLUMNS} for number in order])

    def _cover(self):
        from lancedb.index import IvfPq

        if len(self) < self._SEARCHED:
            return
        indices = self._table.list_indices()
        if not indices:
            (vector,) = self._table.head(1)["vector"].to_pylist()
            codes = IvfPq(distance_type=self._metric, num_sub_vectors=lookup.codes(len(vector)))
            self._table.create_index("vector", config=codes)
        elif self._table.index_stats(indices[0].name).num_unindexed_rows > self._SEARCHED // 10:
            self._table.optimize()


def _quoted(text):
    return "'" + text.replace("'", "''") + "'"
