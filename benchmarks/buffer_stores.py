"""The stores that are compared, each behind the same two calls.

Each of them is told to be durable at every commit: `put` returns when what it was given would outlive
a power cut, or, where a store is also shown with its own settings, says that it would not. A library is
imported when a store of it is made, so that its memory can be told.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_TABLE = "CREATE TABLE IF NOT EXISTS readings (id INTEGER PRIMARY KEY AUTOINCREMENT, document BLOB)"
_INSERT = "INSERT INTO readings (document) VALUES (?)"

HOW_TO_INSTALL = (
    "to compare with persist-queue, litequeue and diskcache: python -m pip install --group bench"
    " (pip 25.1 or newer; else name the three)"
)


class Store(Protocol):
    """What takes documents."""

    def put(self, documents: Sequence[bytes]) -> None:
        """Store compact JSON documents in one commit where the store has such a thing."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Buffer:
    """This project's buffer as the agent uses it: documents come from a JSON encoder, none is parsed again."""

    def __init__(self, directory: Path) -> None:
        from buffer import BufferDB

        self.db = BufferDB(directory)

    def put(self, documents: Sequence[bytes]) -> None:
        self.db.insert_json(documents, vouched=True)
        self.db.flush()

    def close(self) -> None:
        self.db.close()


class Sqlite:
    """The standard library's sqlite3, durable at each commit, with ids that are never reused."""

    def __init__(self, directory: Path, *, any_thread: bool = False) -> None:
        import sqlite3

        self.connection = sqlite3.connect(
            directory / "readings.sqlite", isolation_level=None, check_same_thread=not any_thread
        )
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        self.connection.execute(_TABLE)

    def put(self, documents: Sequence[bytes]) -> None:
        if len(documents) == 1:
            self.connection.execute(_INSERT, (documents[0],))
            return
        self.connection.execute("BEGIN")
        self.connection.executemany(_INSERT, [(document,) for document in documents])
        self.connection.execute("COMMIT")

    def close(self) -> None:
        self.connection.close()


class StockTinyDB:
    """TinyDB as it comes: it writes the whole file anew, in place, and syncs it."""

    def __init__(self, directory: Path) -> None:
        from tinydb import TinyDB

        self._db = TinyDB(directory / "readings.json")

    def put(self, documents: Sequence[bytes]) -> None:
        self._db.insert_multiple(json.loads(document) for document in documents)

    def close(self) -> None:
        self._db.close()


class PersistQueue:
    """persist-queue's SQLite queue: each put is a commit of its own, in WAL mode with SQLite's FULL sync."""

    def __init__(self, directory: Path) -> None:
        from persistqueue import SQLiteQueue

        self._queue = SQLiteQueue(str(directory), auto_commit=True, multithreading=True)

    def put(self, documents: Sequence[bytes]) -> None:
        for document in documents:
            self._queue.put(document)

    def close(self) -> None:
        self._queue.close()


class LiteQueue:
    """litequeue: SQLite in WAL mode, which it sets to sync NORMAL; `durable` sets it to FULL."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        from litequeue import LiteQueue as Queue

        self._queue = Queue(str(directory / "queue.sqlite"))
        if durable:
            self._queue.conn.execute("PRAGMA synchronous=FULL")

    def put(self, documents: Sequence[bytes]) -> None:
        if len(documents) == 1:
            self._queue.put(documents[0])
            return
        with self._queue.transaction():
            for document in documents:
                self._queue.put(document)

    def close(self) -> None:
        self._queue.close()


class DiskCache:
    """diskcache's Deque: SQLite in WAL mode, sync NORMAL by default; `durable` sets it to FULL."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        from diskcache import Cache, Deque

        settings = {"sqlite_synchronous": 2} if durable else {}
        self._cache = Cache(str(directory), eviction_policy="none", **settings)
        self._deque = Deque.fromcache(self._cache)

    def put(self, documents: Sequence[bytes]) -> None:
        if len(documents) == 1:
            self._deque.append(documents[0])
            return
        with self._deque.transact():
            self._deque.extend(documents)

    def close(self) -> None:
        self._cache.close()


@dataclass(frozen=True)
class Choice:
    """One row of the comparison."""

    name: str
    durable: str
    make: Callable[[Path], Store]


CHOICES = (
    Choice("buffer", "yes", Buffer),
    Choice("sqlite3, WAL, FULL", "yes", Sqlite),
    Choice("persist-queue", "yes", PersistQueue),
    Choice("litequeue", "no: NORMAL", lambda directory: LiteQueue(directory, durable=False)),
    Choice("litequeue, FULL", "yes", lambda directory: LiteQueue(directory, durable=True)),
    Choice("diskcache", "no: NORMAL", lambda directory: DiskCache(directory, durable=False)),
    Choice("diskcache, FULL", "yes", lambda directory: DiskCache(directory, durable=True)),
    Choice("stock TinyDB", "no: in place", StockTinyDB),
)


def installed(choices: Sequence[Choice], directory: Path) -> tuple[list[Choice], list[str]]:
    """The choices whose library is there, and the names of the others."""
    there, missing = [], []
    for at, choice in enumerate(choices):
        place = directory / f"probe-{at}"
        place.mkdir()
        try:
            choice.make(place).close()
            there.append(choice)
        except ModuleNotFoundError:
            missing.append(choice.name)
    return there, missing


class Opened:
    """Stores that are open side by side, so that rounds can be interleaved; a context manager."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, make: Callable[[Path], Store]) -> Store:
        """Open a store in a folder of its own."""
        self._count += 1
        place = self._directory / f"store-{self._count}"
        place.mkdir()
        store = make(place)
        self._stack.callback(store.close)
        return store
