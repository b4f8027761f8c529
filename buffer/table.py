"""TinyDB's table over a log: the same calls, streaming instead of loading.

What differs from stock TinyDB, on purpose. Each point has a test of its name in
`tests/buffer/test_tinydb_differences.py`; nothing else is to differ.

- **ids_never_reused**: ids only go up: not after `remove`, `truncate`, `drop_table` or a restart is one used again.
- **own_ids_above_all**: an id of the caller's choice (`Document`) must lie above all that were given out.
- **json_only**: what is stored is JSON at once: keys become texts and tuples lists, as in TinyDB's own
  file. NaN and infinities are refused, since they are not JSON.
- **no_cache_unless_asked**: the query cache is off unless `table(name, cache_size=...)` asks for it.
- **streaming**: an iteration reads on as it goes, up to the last id there was when it began: of what is
  changed meanwhile it may give the new state.
- **id_order**: documents are changed in the order of their ids, also where `doc_ids` names another order.
- **removed_once**: an id that `remove(doc_ids=...)` names twice is removed once, and is no `KeyError`.
- **updates_read_once**: `update_multiple` takes an iterator of updates for all documents, not for the first only.
- **large_inserts**: `insert_multiple` takes 8,192 documents all or none, more of them in groups of so many.
- **durable_later**: `insert` returns at once; `flush`, `wait_durable` or `sync="each"` make sure.
- **tables_by_insert**: a table is there once something was inserted, not when it was only looked at or a
  change found nothing in it; `persist_empty` makes one, and leaves what is in it alone.
- **table_names**: a table's name is the name of a directory: 1 to 255 bytes, percent-encoded.
- **default_table**: the default table is `readings`.
- **storage_is_for_reading**: `db.storage.read()` works, lazily; `write` is refused, and there are no other storages or middlewares.
- **closed**: a closed database can neither be read nor written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast

from tinydb.storages import Storage
from tinydb.table import Document, Table

from buffer.edit import KEEP
from buffer.encoding import encoded
from buffer.errors import BufferFull
from buffer.layout import ID_MAX

if TYPE_CHECKING:
    from buffer.database import BufferDB
    from buffer.log import Log

_ID_DIGITS_MAX: Final = len(str(ID_MAX))
INSERT_RECORDS_MAX: Final = 8192
"""So many documents are inserted all or none."""

T = TypeVar("T")


class Documents(Mapping[str, dict[str, Any]]):
    """All documents of a table, read as they are asked for; keys are strings, as TinyDB has them."""

    def __init__(self, log: Log | None) -> None:
        """Look at a log; None is one that nobody has written to yet."""
        self._log = log

    def __len__(self) -> int:
        return 0 if self._log is None else self._log.total()

    def __iter__(self) -> Iterator[str]:
        return (str(record_id) for record_id, _ in self.stream())

    def __getitem__(self, key: str) -> dict[str, Any]:
        record_id = id_of(key)
        document = None if self._log is None or record_id is None else self._log.find(record_id)
        if document is None:
            raise KeyError(key)
        return document

    def stream(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Ids and documents, in one pass."""
        return iter(()) if self._log is None else self._log.stream()

    def items(self) -> ItemsView[str, dict[str, Any]]:
        """Ids and documents."""
        return _Items(self)

    def values(self) -> ValuesView[dict[str, Any]]:
        """The documents."""
        return _Values(self)


class _Items(ItemsView[str, dict[str, Any]]):
    """In one pass, where the standard library's looks each key up."""

    _mapping: Documents

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        return ((str(record_id), document) for record_id, document in self._mapping.stream())


class _Values(ValuesView[dict[str, Any]]):
    """Likewise."""

    _mapping: Documents

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (document for _, document in self._mapping.stream())


def id_of(key: str) -> int | None:
    """The id that a key is written as; None when it is no id's."""
    may_be = key.isascii() and key.isdecimal() and key[0] != "0" and len(key) <= _ID_DIGITS_MAX
    return int(key) if may_be else None


class BufferStorage(Storage):
    """What TinyDB takes for its storage; it reads lazily, and writes only whole replacements."""

    def __init__(self, db: BufferDB) -> None:
        self._db = db

    def log(self, table: str) -> Log:
        """The log behind a table.

        Raises:
            BufferClosed: The database is closed.
        """
        self._db.require_open()
        return self._db.log(table)

    def log_if_any(self, table: str) -> Log | None:
        """The log behind a table; None when nothing was ever written to it.

        Raises:
            BufferClosed: The database is closed.
            DiskFault: Its directory cannot be listed.
        """
        self._db.require_open()
        return self._db.log(table) if self._db.has_log(table) else None

    def db(self) -> BufferDB:
        """The database it belongs to."""
        return self._db

    def read(self) -> dict[str, dict[str, Any]] | None:
        """All tables, lazily; None while there is none."""
        self._db.require_open()
        names = self._db.table_names()
        return {name: cast("dict[str, Any]", Documents(self.log_if_any(name))) for name in names} or None

    def write(self, data: dict[str, dict[str, Any]]) -> NoReturn:  # noqa: ARG002 (TinyDB names it)
        """Refused: nothing here rewrites everything.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a buffer is changed through its tables, not through its storage")

    def close(self) -> None:
        """The database closes its files itself."""


class BufferTable(Table):
    """A table whose inserts are appended, and whose changes rewrite only the segments they touch."""

    _storage: BufferStorage
    _cached_at: tuple[int, int] = (0, 0)

    @property
    def _log(self) -> Log:
        return self._storage.log(self._name)

    @property
    def _db(self) -> BufferDB:
        return self._storage.db()

    # -- inserting

    def insert(self, document: Mapping[str, Any]) -> int:
        """Insert a document; returns its id. Durable after `flush`, or within the window."""
        return self.insert_multiple([document])[0]

    def insert_multiple(self, documents: Iterable[Mapping[str, Any]]) -> list[int]:
        """Insert documents, all or none (of 8,192 at a time); returns their ids.

        Raises:
            ValueError: One is no mapping, has NaN or an infinity, or an id that is not free.
            TypeError: One has something that JSON does not know.
            BufferFull: The disk refuses, and memory is full.
        """
        taken = list(documents)
        for document in taken:
            if not isinstance(document, Mapping):
                raise ValueError("Document is not a Mapping")
        raw = [encoded(document) for document in taken]
        own = [each.doc_id if isinstance(each, self.document_class) else None for each in taken]
        if own.count(None) < len(own):
            self._require_free(own)
        ids: list[int] = []
        for start in range(0, len(raw), INSERT_RECORDS_MAX):
            stop = start + INSERT_RECORDS_MAX
            ids += self._append(raw[start:stop], own[start:stop])
        if self._db.options.sync == "each":
            self._db.flush()
        return ids

    def _append(self, raw: list[bytes], own: list[int | None]) -> list[int]:
        db, size = self._db, sum(map(len, raw))
        if own.count(None) == len(own):
            return list(self._with_room(lambda: db.append_checked(raw, size, table=self._name)))
        ids = self._with_room(lambda: self._log.append_at(list(zip(own, raw, strict=True))))
        db.arrived(size)
        return ids

    def _with_room(self, append: Callable[[], T]) -> T:
        try:
            return append()
        except BufferFull:
            self._db.flush()  # who inserts one after the other can wait for the disk
            return append()

    def _require_free(self, own: list[int | None]) -> None:
        """Say which of the callers' own ids is not free, before the first is used."""
        log, seen = self._log, set()
        following = log.next_id
        for doc_id in own:
            if doc_id is not None and doc_id < following:
                known = doc_id in seen or log.find(doc_id) is not None
                why = "already exists" if known else f"is below {following}, the next free one"
                raise ValueError(f"Document with ID {doc_id} {why}")
            seen.add(doc_id)
            following = (following if doc_id is None else doc_id) + 1

    # -- reading

    def _read_table(self) -> dict[str, Mapping[Any, Any]]:
        return cast("dict[str, Mapping[Any, Any]]", Documents(self._storage.log_if_any(self._name)))

    def get(self, cond: Any = None, doc_id: Any = None, doc_ids: list[int] | None = None) -> Any:
        """One document by condition or id, or several by ids."""
        if doc_id is None and doc_ids is not None:
            table = self._read_table()
            keys = {str(each) for each in doc_ids}
            wanted = sorted({record_id for key in keys if (record_id := id_of(key)) is not None})
            pairs = [(each, table.get(str(each))) for each in wanted]
            return [
                self.document_class(found, self.document_id_class(each))
                for each, found in pairs
                if found is not None
            ]
        return super().get(cond, doc_id)

    def search(self, cond: Any) -> list[Document]:
        """The documents that match."""
        log = self._storage.log_if_any(self._name)
        state = (log.next_id, log.version) if log else (0, 0)
        if state != self._cached_at:
            self.clear_cache()
            self._cached_at = state
        return super().search(cond)

    def count(self, cond: Any) -> int:
        """How many documents match; none is kept."""
        return sum(1 for document in self._read_table().values() if cond(document))

    # -- changing

    def update(
        self,
        fields: Mapping[str, Any] | Callable[[Any], None],
        cond: Any = None,
        doc_ids: Iterable[int] | None = None,
    ) -> list[int]:
        """Change documents, all or none: every one, those that match, or those of some ids; returns the ids changed.

        Raises:
            DiskFault: The disk refused; nothing changed.
            Exception: Whatever a callable or condition raises; nothing changed.
        """
        if doc_ids is not None:
            wanted = list(doc_ids)
            times = Counter(_numbers(wanted))

            def change(record_id: int, document: dict[str, Any]) -> Any:
                for _ in range(times[record_id]):
                    _changed(document, fields)
                return document

            done = set(self._edit(change, set(times)))
            return [each for each in wanted if each in done]
        return self._edit(
            lambda _, document: _changed(document, fields) if cond is None or cond(document) else KEEP
        )

    def update_multiple(
        self, updates: Iterable[tuple[Mapping[str, Any] | Callable[[Any], None], Any]]
    ) -> list[int]:
        """Apply several updates, each to the documents that match its condition; returns the ids changed.

        Raises:
            DiskFault, Exception: As `update`.
        """
        pairs, done = list(updates), []

        def change(record_id: int, document: dict[str, Any]) -> Any:
            touched = False
            for fields, cond in pairs:
                if cond(document):
                    _changed(document, fields)
                    done.append(record_id)
                    touched = True
            return document if touched else KEEP

        self._edit(change)
        return done

    def remove(self, cond: Any = None, doc_ids: Iterable[int] | None = None) -> list[int]:
        """Remove the documents that match, or those of some ids, all or none; returns the ids removed.

        Raises:
            DiskFault, Exception: As `update`.
        """
        if doc_ids is not None:
            wanted = dict.fromkeys(_numbers(doc_ids))
            done = set(self._edit(lambda _, __: None, set(wanted)))
            return [each for each in wanted if each in done]
        if cond is None:
            raise RuntimeError("Use truncate() to remove all documents")
        return self._edit(lambda _, document: None if cond(document) else KEEP)

    def truncate(self) -> None:
        """Remove all documents. Ids go on counting.

        Raises:
            DiskFault: The disk refused; nothing changed.
        """
        if self._storage.log_if_any(self._name) is not None:
            self._db.clear(table=self._name)

    def _edit(self, change: Callable[[int, dict[str, Any]], Any], ids: set[int] | None = None) -> list[int]:
        done: list[int] = []

        def noted(record_id: int, document: dict[str, Any]) -> Any:
            result = change(record_id, document)
            if result is not KEEP:
                done.append(record_id)
            return result

        if self._storage.log_if_any(self._name) is not None:
            self._db.edit(noted, ids, table=self._name)
        return done

    def _get_next_id(self) -> int:
        return self._log.next_id

    def _update_table(self, updater: Callable[[dict[int, Mapping[Any, Any]]], None]) -> NoReturn:
        raise NotImplementedError(f"no change of this table goes through a copy of it all ({updater})")


def _numbers(doc_ids: Iterable[Any]) -> list[int]:
    """Of what was given as ids, those that can be one: nothing else is equal to an id."""
    return [cast("int", each) for each in doc_ids if isinstance(each, int | float)]


def _changed(document: dict[str, Any], fields: Mapping[str, Any] | Callable[[Any], None]) -> dict[str, Any]:
    if callable(fields):
        fields(document)
    else:
        document.update(fields)
    return document
