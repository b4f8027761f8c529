"""TinyDB's table over a log: the same calls, streaming instead of loading.

Intended differences from stock TinyDB:

- Ids are never reused, not after `remove`, `truncate` or a restart.
- An id of the caller's choice (`Document`) must lie above all that were given out.
- NaN and infinities are refused, since they are not JSON.
- What cannot be written as JSON is refused before anything changes.
- There is no query cache, so a document that was found is always a fresh one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from tinydb.storages import Storage
from tinydb.table import Document, Table

from buffer.edit import KEEP
from buffer.encoding import encoded
from buffer.errors import BufferFull

if TYPE_CHECKING:
    from buffer.database import BufferDB
    from buffer.log import Log

_CHUNK_RECORDS: Final = 8192


class Documents(Mapping[str, dict[str, Any]]):
    """All documents of a log, read as they are asked for; keys are strings, as TinyDB has them."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __len__(self) -> int:
        return self._log.total()

    def __iter__(self) -> Iterator[str]:
        return (str(record_id) for record_id, _ in self._log.stream())

    def __getitem__(self, key: str) -> dict[str, Any]:
        document = self._log.find(int(key)) if key.isdecimal() else None
        if document is None:
            raise KeyError(key)
        return document

    def items(self) -> Any:
        """Ids and documents, in one pass."""
        return ((str(record_id), document) for record_id, document in self._log.stream())


class BufferStorage(Storage):
    """What TinyDB takes for its storage; it reads lazily, and writes only whole replacements."""

    def __init__(self, db: BufferDB) -> None:
        self._db = db

    def names(self) -> set[str]:
        """All tables that have or had records."""
        return self._db.table_names()

    def log(self, table: str) -> Log:
        """The log behind a table."""
        return self._db.log(table)

    def db(self) -> BufferDB:
        """The database it belongs to."""
        return self._db

    def read(self) -> dict[str, dict[str, Any]] | None:
        """All tables, lazily; None while there is none."""
        return {name: cast("dict[str, Any]", Documents(self.log(name))) for name in self.names()} or None

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
        """Insert documents, all or none; returns their ids."""
        taken = list(documents)
        for document in taken:
            if not isinstance(document, Mapping):
                raise ValueError("Document is not a Mapping")
        raw = [encoded(document) for document in taken]
        db = self._db
        if any(isinstance(document, Document) for document in taken):
            given = self._insert_with_ids(taken, raw)
            db.flush()
            return given
        ids: list[int] = []
        for start in range(0, len(raw), _CHUNK_RECORDS):
            ids += self._append(raw[start : start + _CHUNK_RECORDS])
        if db.options.sync == "each":
            db.flush()
        return ids

    def _append(self, raw: list[bytes]) -> range:
        size = sum(map(len, raw))
        try:
            return self._db.append_checked(raw, size, table=self._name)
        except BufferFull:
            self._db.flush()  # who inserts one after the other can wait for the disk
            return self._db.append_checked(raw, size, table=self._name)

    def _insert_with_ids(self, documents: list[Mapping[str, Any]], raw: list[bytes]) -> list[int]:
        """Some have ids of their own; these must all be free before the first is inserted."""
        log, following = self._log, self._log.next_id
        ids = []
        for document in documents:
            record_id = document.doc_id if isinstance(document, Document) else following
            if record_id < following:
                known = (
                    "already exists"
                    if record_id in ids or log.find(record_id) is not None
                    else (f"is below {following}, the next free one")
                )
                raise ValueError(f"Document with ID {record_id} {known}")
            ids.append(record_id)
            following = record_id + 1
        for record_id, text in zip(ids, raw, strict=True):
            log.append_at(record_id, text)
            self._db.arrived(len(text))
        return ids

    # -- reading

    def _read_table(self) -> dict[str, Mapping[Any, Any]]:
        return cast("dict[str, Mapping[Any, Any]]", Documents(self._log))

    def get(self, cond: Any = None, doc_id: Any = None, doc_ids: list[int] | None = None) -> Any:
        """One document by condition or id, or several by ids."""
        if doc_id is not None:
            found = self._log.find(doc_id) if isinstance(doc_id, int) else None
            return None if found is None else self.document_class(found, doc_id)
        if doc_ids is not None:
            wanted = sorted({int(each) for each in doc_ids})
            pairs = [(each, self._log.find(each)) for each in wanted]
            return [self.document_class(found, each) for each, found in pairs if found is not None]
        return super().get(cond)

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
        """Change documents: all, those that match, or those of some ids; returns the ids changed."""
        if doc_ids is not None:
            wanted = list(doc_ids)
            done = set(self._edit(lambda _, document: _changed(document, fields), set(wanted)))
            return [each for each in wanted if each in done]
        return self._edit(
            lambda _, document: _changed(document, fields) if cond is None or cond(document) else KEEP
        )

    def update_multiple(
        self, updates: Iterable[tuple[Mapping[str, Any] | Callable[[Any], None], Any]]
    ) -> list[int]:
        """Apply several updates, each to the documents that match its condition; returns the ids changed."""
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
        """Remove the documents that match, or those of some ids; returns the ids removed."""
        if doc_ids is not None:
            wanted = list(doc_ids)
            done = set(self._edit(lambda _, __: None, set(wanted)))
            return [each for each in wanted if each in done]
        if cond is None:
            raise RuntimeError("Use truncate() to remove all documents")
        return self._edit(lambda _, document: None if cond(document) else KEEP)

    def truncate(self) -> None:
        """Remove all documents. Ids go on counting."""
        self._edit(lambda _, __: None)

    def _edit(self, change: Callable[[int, dict[str, Any]], Any], ids: set[int] | None = None) -> list[int]:
        done: list[int] = []

        def noted(record_id: int, document: dict[str, Any]) -> Any:
            result = change(record_id, document)
            if result is not KEEP:
                done.append(record_id)
            return result

        self._db.edit(noted, ids, table=self._name)
        self.clear_cache()
        return done

    def _get_next_id(self) -> int:
        return self._log.next_id

    def _update_table(self, updater: Callable[[dict[int, Mapping[Any, Any]]], None]) -> NoReturn:
        raise NotImplementedError(f"no change of this table goes through a copy of it all ({updater})")


def _changed(document: dict[str, Any], fields: Mapping[str, Any] | Callable[[Any], None]) -> dict[str, Any]:
    if callable(fields):
        fields(document)
    else:
        document.update(fields)
    return document
