"""A store for galleries that outgrow one machine: a table of LanceDB."""

import contextlib
import dataclasses
import datetime
import pathlib
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from siamjax import extras, files
from siamjax.gallery import _manifest, _own
from siamjax.gallery._index import CANDIDATES, keys, score_each
from siamjax.gallery._manifest import Manifest
from siamjax.gallery._types import COLUMNS, Enrolled, Found, Metric, Scorer


class DatabaseStore:
    """Embeddings and names in a table of LanceDB, on disk or in an object store; see `Store`.

    Memory holds none of them, and several machines may share them. The table is named after the network, so that
    networks do not mix. gallery.json says where the database is; thumbnails are stored next to it.

    Each different embedding is in the table once, so that copies of one image cannot crowd out others: the images that
    have it share a `key`, and all but one are a `copy`, with no `vector`.
    """

    _INDEXED = 100_000  # images from which on an index of the table is searched: its embeddings, in cells
    _TRAINING = 256  # different embeddings that the index needs, at least
    _PROBES = 32  # cells whose embeddings are compared with a query
    _KIND = "IvfFlat"  # of the index; an older siamjax made others, with codes of embeddings, until the next change
    _OLDER = 64, 4  # cells for those, and how many times the embeddings asked for are compared in full
    _PIECES = 8, 32  # that a table may have without and with an index; each change adds one, and slows down queries

    def __init__(self, folder: pathlib.Path, manifest: Manifest, scorer: Scorer | None, metric: Metric | None):
        """Opens the table in the database that `manifest` names.

        Args:
          folder: of the gallery; need not exist.
          manifest: of the gallery.
          scorer: of the network; None if nothing is searched.
          metric: the nearest embeddings by it have the highest scores.

        Raises:
          ImportError: LanceDB is not installed.
          OSError: the database cannot be reached, or the images of an existing gallery are not in it.
          ValueError: the head is not a metric.
        """
        if metric is None:
            raise ValueError(
                "LanceDB search needs a metric head: train with head.name='distance' (euclidean, squared_euclidean or "
                "cosine), or store the gallery in its folder"
            )
        with extras.needed_for("a gallery in a database"):
            import lancedb
        self._folder, self._manifest, self._scorer = folder, manifest, scorer
        self._metric: Metric = metric
        self._database: Any
        self._table: Any = None
        self._seen = -1, False, False  # a version of the table; whether images share embeddings in it; see `_has_codes`
        self._name = f"gallery_{manifest.fingerprint[:16]}"
        with self._reaching():
            self._database = lancedb.connect(manifest.database, read_consistency_interval=datetime.timedelta(0))
            self._check_version(_manifest.read(folder))

    def _check_version(self, stored):
        """Refuses a database that was lost, or that has lost its latest changes since `stored` was written."""
        if stored is None:
            return
        if self._open() is None:
            raise FileNotFoundError(
                f"the database {stored.database}, which holds the images of {self._folder}, was not found"
            )
        if self._table.version < stored.version:
            raise ValueError(
                f"the database {stored.database} has lost changes: it is at version {self._table.version}, and was at "
                f"{stored.version}; restore it from a backup, or accept what it holds by naming a new folder for the "
                "gallery: removed identities may be in it again"
            )

    def _open(self) -> Any:
        """The table; None until something is enrolled, from any machine."""
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
        except Exception as error:
            # LanceDB raises RuntimeError for failures of the disk or the network, and for damaged files others, of its
            # own or of many lines.
            own = type(error).__module__ == "builtins" and not isinstance(error, RuntimeError)
            if own and len(str(error).splitlines()) < 2:
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise OSError(f"the database {self._manifest.database} cannot be read or written ({reason})") from error

    def __len__(self) -> int:
        with self._reaching():
            return self._open().count_rows() if self._open() else 0

    def dimension(self) -> int | None:
        with self._reaching():
            return self._open().schema.field("vector").type.list_size if self._open() else None

    def identities(self) -> dict[str, int]:
        if not len(self):
            return {}
        with self._reaching():
            return _manifest.counted(self._table.search().select(["identity"]).to_arrow()["identity"].to_pylist())

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Locks the gallery's folder alone: LanceDB itself handles writers on other machines."""
        with _manifest.locked(self._folder):
            stored = _manifest.read(self._folder)
            if stored is not None:
                self._manifest.check_same(self._folder, stored)
            with self._reaching():
                self._check_version(stored)
                self._upgrade()
                yield
                version = self._table.version if self._open() else 0
            self._manifest = dataclasses.replace(self._manifest, version=version)
            self._manifest.write(self._folder)

    def add(self, embeddings: np.ndarray, images: Sequence[Enrolled]) -> None:
        hashes = keys(embeddings)
        known = np.isin(hashes, list(self._keys_where("NOT copy", hashes) if self._open() else ()))
        new = _table(embeddings, hashes, _first(hashes) & ~known, images)
        if self._open() is None:
            self._table = self._database.create_table(self._name, schema=new.schema, exist_ok=True)
        self._table.add(new)
        self._complete(hashes[known], embeddings[known])  # Another machine may have removed them since.
        with contextlib.suppress(RuntimeError):  # The rows are stored, and are found without an index, too.
            self._update_index()

    def remove(self, identity: str) -> int:
        if not len(self):
            return 0
        condition = _of([identity])

        def thumbnails(condition):
            return self._table.search().where(condition).select(["thumbnail"]).to_arrow()["thumbnail"].to_pylist()

        found = thumbnails(condition)
        whole = self._table.search().where(f"{condition} AND NOT copy").select(["key", "vector"]).to_arrow()
        hashes, vectors = whole["key"].to_numpy(), whole["vector"].to_numpy()
        self._complete(hashes, vectors, f" AND NOT ({condition})")
        self._table.delete(condition)
        self._complete(hashes, vectors)  # Another machine may have added a copy since.
        for start in range(0, len(found), 500):
            some = set(found[start : start + 500])
            _own.delete(self._folder, some - set(thumbnails(f"thumbnail IN ({', '.join(map(_quoted, some))})")))
        return len(found)

    def rename(self, identity: str, to: str) -> int:
        if not len(self):
            return 0
        renamed = self._table.count_rows(_of([identity]))
        if renamed:
            self._table.update(where=_of([identity]), values={"identity": to})  # The index loses these rows.
            with contextlib.suppress(RuntimeError):
                self._update_index()
        return renamed

    def images(self, identities: Collection[str]) -> list[Enrolled]:
        found, names = [], sorted(identities)
        with self._reaching():
            for start in range(0, len(names) if len(self) else 0, 500):
                search = self._table.search().where(_of(names[start : start + 500]))
                for row in search.select(list(COLUMNS)).to_arrow().to_pylist():
                    found.append(Enrolled(**row | {"identity": files.named(row["identity"])}))
        return found

    def best(self, queries: np.ndarray, count: int) -> list[Found]:
        count = min(count, len(self))
        with self._reaching():
            return [self._best(query, count) for query in queries]

    def _best(self, query, count):
        assert self._scorer is not None
        search = self._table.search(query).distance_type(self._metric).limit(CANDIDATES * count)
        if self._has_codes():
            cells, more = self._OLDER
            search = search.refine_factor(more)
        else:
            cells = self._PROBES
        found = search.nprobes(cells).to_arrow()
        vectors = np.stack(found["vector"].to_numpy())
        scores = score_each(self._scorer, query[None], vectors[None])[0]
        order = np.argsort(-scores, kind="stable")[:count]
        candidates = list(map(Enrolled, *(found[name].to_pylist() for name in COLUMNS)))
        # An older siamjax wrote no keys.
        hashes = found["key"].to_pylist() if "key" in found.column_names else [None] * len(found)
        if hashes[:1] != [None] and not np.array_equal(keys(vectors), np.asarray(hashes)):  # LanceDB has no checksums.
            wrong = candidates[int(np.argmax(keys(vectors) != hashes))]
            raise ValueError(
                f"the database {self._manifest.database} is damaged: the embedding of {files.shown(wrong.path)} is not "
                "the one that was enrolled; restore it from a backup"
            )
        copied = self._with_copies([hashes[number] for number in order if hashes[number] is not None])
        numbers, images = [], []
        for number in order:
            images.append(candidates[number])
            if hashes[number] in copied and len(images) < count:
                copies = self._table.search().where(f"copy AND key = {hashes[number]}").limit(count - len(images))
                images += [Enrolled(**row) for row in copies.select(list(COLUMNS)).to_arrow().to_pylist()]
            numbers += [number] * (len(images) - len(numbers))
        return Found(scores[numbers[:count]], images[:count])

    def _looked_at(self):
        """Whether images share embeddings, and whether the index has codes; asks the table once per version."""
        version = self._table.version
        if version != self._seen[0]:
            index = self._index()
            has_copies = "copy" in self._table.schema.names and self._table.count_rows("copy") > 0
            self._seen = version, has_copies, index is not None and index.index_type != self._KIND
        return self._seen[1:]

    def _has_codes(self):
        """Whether an older siamjax made the index."""
        return self._looked_at()[1]

    def _index(self):
        return next((index for index in self._table.list_indices() if index.columns == ["vector"]), None)

    def _with_copies(self, hashes):
        """The set of those keys `hashes` that several images share."""
        return self._keys_where("copy", hashes) if self._looked_at()[0] else set()

    def _keys_where(self, condition, hashes):
        """The set of those keys `hashes` that occur in rows for which the SQL `condition` holds."""
        found = set()
        for start in range(0, len(hashes), 1000):
            some = ", ".join(map(str, hashes[start : start + 1000]))
            rows = self._table.search().where(f"{condition} AND key IN ({some})").select(["key"]).to_arrow()
            found.update(rows["key"].to_pylist())
        return found

    def _complete(self, hashes, embeddings, among=""):
        """Stores embeddings [n, d] with an image of their keys each, if all images of a key are copies.

        With a further SQL condition `among`, only images for which it holds count.
        """
        lacking = self._keys_where(f"copy{among}", hashes)
        lacking -= self._keys_where(f"NOT copy{among}", sorted(lacking))
        for key in lacking:
            row = self._table.search().where(f"copy AND key = {key}{among}").select(["key"]).with_row_id(True).limit(1)
            (number,) = row.to_arrow()["_rowid"].to_pylist()
            vector = embeddings[np.argmax(hashes == key)].tolist()
            self._table.update(where=f"_rowid = {number}", values={"vector": vector, "copy": False})

    def _upgrade(self):
        """Replaces, all at once, a table of an older siamjax: it has no keys, and an embedding for every copy."""
        import pyarrow

        if self._open() is None or "key" in self._table.schema.names:
            return
        known = set()

        def upgraded(batch):
            vectors = np.stack(batch["vector"].to_numpy(zero_copy_only=False))
            hashes = keys(vectors)
            first = _first(hashes) & np.array([key not in known for key in hashes.tolist()])
            known.update(hashes.tolist())
            images = [Enrolled(**row) for row in batch.select(list(COLUMNS)).to_pylist()]
            return _table(vectors, hashes, first, images).to_batches()

        (example,) = upgraded(self._table.head(1).combine_chunks().to_batches()[0])
        known.clear()
        batches = (part for batch in self._table.search().to_batches(10_000) for part in upgraded(batch))
        reader = pyarrow.RecordBatchReader.from_batches(example.schema, batches)
        self._table = self._database.create_table(self._name, reader, mode="overwrite", on_bad_vectors="null")

    def _update_index(self):
        """Makes an index once there are enough images, and extends it by those that were added since; joins pieces.

        Cells of whole embeddings, and no shorter codes for them: those take most of a minute to train for 100,000
        images, and the simple ones lose everything where a few embeddings are much longer than the others.
        """
        from lancedb.index import BTree, IvfFlat

        index = self._index()
        different = self._table.count_rows("NOT copy") if len(self) >= self._INDEXED else 0
        if different >= self._TRAINING and (index is None or index.index_type != self._KIND):
            cells = round(np.sqrt(different))
            config = IvfFlat(distance_type=self._metric, num_partitions=cells, max_iterations=16, sample_rate=64)
            self._table.create_index("vector", config=config)
            self._table.create_index("key", config=BTree())
            return
        later = self._table.index_stats(index.name).num_unindexed_rows if index else 0
        pieces = self._table.stats()["fragment_stats"]["num_small_fragments"]
        if later > self._INDEXED // 10 or pieces > self._PIECES[index is not None]:
            self._table.optimize()


def _table(embeddings, hashes, first, images):
    """Images as LanceDB takes them: with their embeddings [n, d] where `first`, bool [n]; elsewhere as copies."""
    import pyarrow

    flat = pyarrow.array(np.ascontiguousarray(embeddings).ravel())
    vectors = pyarrow.FixedSizeListArray.from_arrays(flat, embeddings.shape[1], mask=pyarrow.array(~first))
    columns = {name: pyarrow.array([getattr(image, name) for image in images], pyarrow.string()) for name in COLUMNS}
    return pyarrow.table({"vector": vectors} | columns | {"key": hashes, "copy": ~first})


def _first(hashes):
    """bool [n]: where each different number of `hashes` occurs for the first time."""
    first = np.zeros(len(hashes), bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    return first


def _of(identities):
    """The SQL condition that an image is of these identities, in either Unicode form: an older siamjax stored names as
    they were typed."""
    names = {unicodedata.normalize(form, name) for name in identities for form in ("NFC", "NFD")}
    return f"identity IN ({', '.join(map(_quoted, sorted(names)))})"


def _quoted(text):
    return "'" + text.replace("'", "''") + "'"
