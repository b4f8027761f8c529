"""Readings in SQLite, each once: the key (device_id, store_id, seq) is unique, a resend inserts nothing.

One thread writes; a commit is durable (`synchronous=FULL`, WAL). `arrival` is the order in which readings first
came in. `rejected` keeps what was no pack, newest first to stay, so that garbage is looked at and blocks nobody.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic_core import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from agent.receiver.packs import Received, Refused
    from agent.sync.losses import ToldLosses
    from collectors.clock import Clock

SCHEMA_VERSION = 2
REJECTED_MAX = 10_000
"""Rejected packs that are kept; older ones go."""
_REJECTED_BYTES_MAX = 64 * 1024
"""Of a rejected payload; the rest is cut off."""
_BUSY_TIMEOUT_S = 5.0
"""How long to wait for another process that holds the database."""

_SCHEMA = """
BEGIN;
CREATE TABLE IF NOT EXISTS readings (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT,
    device_id TEXT NOT NULL,
    store_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    source TEXT NOT NULL,
    t REAL NOT NULL,
    document TEXT NOT NULL,
    received_at REAL NOT NULL,
    UNIQUE (device_id, store_id, seq)
);
CREATE TABLE IF NOT EXISTS rejected (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    origin TEXT NOT NULL,
    payload BLOB NOT NULL,
    reason TEXT NOT NULL,
    received_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS losses (
    device_id TEXT NOT NULL,
    store_id TEXT NOT NULL,
    lane TEXT NOT NULL,
    why TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    count INTEGER NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (device_id, store_id, lane, why, first)
);
PRAGMA user_version = 2;
COMMIT;
"""
_INSERT = """
INSERT INTO readings (device_id, store_id, seq, source, t, document, received_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (device_id, store_id, seq) DO NOTHING
"""
_REJECT = "INSERT INTO rejected (origin, payload, reason, received_at) VALUES (?, ?, ?, ?)"
_FORGET = "DELETE FROM rejected WHERE id <= (SELECT max(id) FROM rejected) - ?"

# A range replaces those of its kind that it contains, and is nothing new where it is contained in one; of losses
# without ids, whose `first` and `last` are 0, the highest count is the newest.
_KNOWN_LOSS = """
SELECT 1 FROM losses WHERE device_id = ? AND store_id = ? AND lane = ? AND why = ?
AND first <= ? AND last >= ? AND count >= ?
"""
_CONTAINED = """
DELETE FROM losses WHERE device_id = ? AND store_id = ? AND lane = ? AND why = ? AND first >= ? AND last <= ?
"""
_LOSS = "INSERT INTO losses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

_T = TypeVar("_T")


class StoreError(OSError):
    """The database cannot be opened, or did not commit."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a commit came to."""

    inserted: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """What a store did since it was opened, and what it holds."""

    readings: int
    inserted: int
    duplicates: int
    rejected: int


class ReadingStore(Protocol):
    """Where a receiver keeps readings; an asynchronous context manager."""

    async def __aenter__(self) -> Self:
        """Open it. Raises StoreError."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        ...

    async def write(
        self,
        packs: Sequence[Received],
        refused: Sequence[Refused] = (),
        losses: Sequence[ToldLosses] = (),
    ) -> Stored:
        """Commit all of these at once; durable on return. Raises StoreError: then nothing was stored."""
        ...

    async def statistics(self) -> StoreStatistics:
        """What it did and holds. Raises StoreError."""
        ...


class SqliteStore:
    """Readings in one SQLite file.

    Args:
        path: The file; made when it is not there.
        clock: Stamps arrivals.
    """

    def __init__(self, path: str, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._inserted = 0
        self._duplicates = 0
        self._rejected = 0

    async def __aenter__(self) -> Self:
        """Open the database, and make its tables.

        Raises:
            StoreError: It cannot be opened, or is of a newer version.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outstation-store")
        try:
            await self._call(self._open)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it, after what is being written."""
        thread, self._thread = self._thread, None
        if thread is not None:
            closing = asyncio.get_running_loop().run_in_executor(thread, self._close)
            try:
                await asyncio.shield(closing)
            finally:
                thread.shutdown(wait=False)

    async def write(
        self,
        packs: Sequence[Received],
        refused: Sequence[Refused] = (),
        losses: Sequence[ToldLosses] = (),
    ) -> Stored:
        """Commit all of these in one transaction; durable on return.

        Raises:
            StoreError: Nothing was stored.
        """
        return await self._call(lambda: self._write(packs, refused, losses))

    async def statistics(self) -> StoreStatistics:
        """What it did since it was opened, and how many readings it holds."""
        return await self._call(self._statistics)

    async def _call(self, work: Callable[[], _T]) -> _T:
        if self._thread is None:
            raise StoreError("the database is not open")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error

    # In the thread

    def _open(self) -> None:
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            version = self._check_version(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if version < SCHEMA_VERSION:
                connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _check_version(self, connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(f"{self.path} is of version {version}; this program knows {SCHEMA_VERSION}")
        return version

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(
        self, packs: Sequence[Received], refused: Sequence[Refused], losses: Sequence[ToldLosses]
    ) -> Stored:
        connection = self._connection
        assert connection is not None
        now = self._clock.now().timestamp()
        given = sum(len(pack.readings) for pack in packs)
        connection.execute("BEGIN IMMEDIATE")
        try:
            inserted = connection.executemany(_INSERT, _rows(packs, now)).rowcount if packs else 0
            if refused:
                connection.executemany(
                    _REJECT,
                    [(r.origin, r.payload[:_REJECTED_BYTES_MAX], r.reason, now) for r in refused],
                )
                connection.execute(_FORGET, (REJECTED_MAX,))
            for told in losses:
                _enter(connection, told)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        assert 0 <= inserted <= given
        self._inserted += inserted
        self._duplicates += given - inserted
        self._rejected += len(refused)
        return Stored(inserted, given - inserted)

    def _statistics(self) -> StoreStatistics:
        assert self._connection is not None
        (count,) = self._connection.execute("SELECT count(*) FROM readings").fetchone()
        return StoreStatistics(count, self._inserted, self._duplicates, self._rejected)


def _enter(connection: sqlite3.Connection, told: ToldLosses) -> None:
    for loss in told.losses:
        kind = (told.device, told.store, loss.lane or "", loss.why)
        if connection.execute(_KNOWN_LOSS, (*kind, loss.first, loss.last, loss.count)).fetchone():
            continue
        connection.execute(_CONTAINED, (*kind, loss.first, loss.last))
        connection.execute(_LOSS, (*kind, loss.first, loss.last, loss.count, loss.since, loss.until))


def _rows(packs: Sequence[Received], now: float) -> Iterator[tuple[object, ...]]:
    for pack in packs:
        device_id, store_id = pack.device_id, pack.store_id
        for reading in pack.readings:
            document = reading.document
            text = to_json(document).decode()
            yield device_id, store_id, reading.seq, document["source"], float(document["t"]), text, now


def store_for(url: str, clock: Clock) -> ReadingStore:
    """The store that a URL names: `sqlite:///relative.db`, `sqlite:////absolute.db`.

    Raises:
        ValueError: There is no such kind of store.
    """
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        raise ValueError(f"cannot write into {parts.scheme or url!r}: it should be sqlite:///file.db")
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path:
        raise ValueError("it should be sqlite:///file.db, or sqlite:////absolute/file.db")
    return SqliteStore(path, clock)
