"""Readings in one SQLite file.

A commit is durable (`synchronous=FULL`, WAL). `arrival` is the order in which readings first came in. `rejected`
keeps what was no pack, newest first to stay, so that garbage is looked at and blocks nobody.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic_core import to_json

from agent.receiver.store import (
    REJECTED_BYTES_MAX,
    REJECTED_MAX,
    StoreError,
    StoreUnavailable,
)
from agent.receiver.threaded_store import ThreadedStore, coverage_of, fill_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.receiver.packs import Received, Refused
    from agent.receiver.store import Coverage
    from agent.sync.losses import ToldLosses
    from collectors.clock import Clock

SCHEMA_VERSION = 3
_BUSY_TIMEOUT_S = 5.0
"""How long to wait for another process that holds the database."""

_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
"""Held by another program, or a disk that is full or fails: the same again may go well."""

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
CREATE TABLE IF NOT EXISTS extents (
    device_id TEXT NOT NULL,
    store_id TEXT NOT NULL,
    upstream TEXT NOT NULL,
    begins INTEGER NOT NULL,
    since INTEGER NOT NULL,
    absent INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    newest INTEGER NOT NULL,
    routed INTEGER NOT NULL,
    aside TEXT NOT NULL,
    told_at REAL NOT NULL,
    PRIMARY KEY (device_id, store_id, upstream)
);
PRAGMA user_version = 3;
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
_LOSS = "INSERT OR REPLACE INTO losses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

# What is older than what is known changes nothing: messages may overtake each other.
_EXTENT = """
INSERT INTO extents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (device_id, store_id, upstream) DO UPDATE SET begins = excluded.begins, since = excluded.since,
absent = excluded.absent, settled = max(extents.settled, excluded.settled), newest = excluded.newest,
routed = excluded.routed, aside = excluded.aside, told_at = excluded.told_at WHERE excluded.newest >= extents.newest
"""

_COVERED = """
SELECT device_id, store_id, min(seq), max(seq), count(*) FROM readings
WHERE ?1 IS NULL OR device_id = ?1 GROUP BY device_id, store_id
"""
_COUNT = "SELECT count(*) FROM readings WHERE device_id = ? AND store_id = ? AND seq BETWEEN ? AND ?"
_HOLES = """
SELECT before + 1, seq - 1 FROM (
    SELECT seq, lag(seq, 1, ?3 - 1) OVER (ORDER BY seq) AS before FROM (
        SELECT seq FROM readings WHERE device_id = ?1 AND store_id = ?2 AND seq BETWEEN ?3 AND ?4
        UNION ALL SELECT ?4 + 1
    )
) WHERE before < seq - 1 ORDER BY seq LIMIT ?5
"""
_LOSSES = """
SELECT device_id, store_id, first, last, count, why FROM losses
WHERE ?1 IS NULL OR device_id = ?1 ORDER BY first, last
"""
_EXTENTS = """
SELECT device_id, store_id, upstream, begins, since, absent, settled, newest, routed, aside, told_at FROM extents
WHERE ?1 IS NULL OR device_id = ?1 ORDER BY upstream
"""


class SqliteStore(ThreadedStore):
    """Readings in one SQLite file.

    Args:
        path: The file; made when it is not there.
        clock: Stamps arrivals.
    """

    def __init__(self, path: str, clock: Clock) -> None:
        super().__init__()
        self.path = path
        self._clock = clock
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def _working(self) -> Iterator[sqlite3.Connection]:
        assert self._connection is not None
        try:
            yield self._connection
        except sqlite3.Error as error:
            # The low byte is the primary code; what extends it says in which way.
            waiting = (getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF) in _PASSING
            raise (StoreUnavailable if waiting else StoreError)(f"{self.path}: {error}") from error

    def _open(self) -> None:
        try:
            connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error
        self._connection = connection
        try:
            with self._working():
                self._prepare(connection)
        except BaseException:
            self._close()
            raise

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(f"{self.path} is of version {version}; this program knows {SCHEMA_VERSION}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if version < SCHEMA_VERSION:
            connection.executescript(_SCHEMA)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(
        self, packs: Sequence[Received], refused: Sequence[Refused], losses: Sequence[ToldLosses]
    ) -> int:
        now = self._clock.now().timestamp()
        with self._working() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                inserted = connection.executemany(_INSERT, _rows(packs, now)).rowcount if packs else 0
                if refused:
                    rejected = [(r.origin, r.payload[:REJECTED_BYTES_MAX], r.reason, now) for r in refused]
                    connection.executemany(_REJECT, rejected)
                    connection.execute(_FORGET, (REJECTED_MAX,))
                for told in losses:
                    _enter(connection, told, now)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return inserted

    def _count(self) -> int:
        with self._working() as connection:
            (count,) = connection.execute("SELECT count(*) FROM readings").fetchone()
        return int(count)

    def _coverage(self, device_id: str | None) -> list[Coverage]:
        with self._working() as connection:

            def count(asked: Sequence[tuple[str, str, int, int]]) -> Iterator[int]:
                for each in asked:
                    yield connection.execute(_COUNT, each).fetchone()[0]

            connection.execute("BEGIN")  # one state of the database for all of it
            try:
                covered, losses, extents = (
                    connection.execute(query, (device_id,)).fetchall()
                    for query in (_COVERED, _LOSSES, _EXTENTS)
                )
                found = coverage_of(covered, losses, extents)
                fill_parts(found, count)
            finally:
                connection.execute("ROLLBACK")
        return found

    def _holes(
        self, device_id: str, store_id: str, first: int, last: int, most: int
    ) -> list[tuple[int, int]]:
        with self._working() as connection:
            return connection.execute(_HOLES, (device_id, store_id, first, last, most)).fetchall()


def _enter(connection: sqlite3.Connection, told: ToldLosses, now: float) -> None:
    for loss in told.losses:
        kind = (told.device, told.store, loss.lane or "", loss.why)
        if connection.execute(_KNOWN_LOSS, (*kind, loss.first, loss.last, loss.count)).fetchone():
            continue
        connection.execute(_CONTAINED, (*kind, loss.first, loss.last))
        connection.execute(_LOSS, (*kind, loss.first, loss.last, loss.count, loss.since, loss.until))
    if told.extent is not None:
        connection.execute(_EXTENT, (told.device, told.store, *told.extent.row(), now))


def _rows(packs: Sequence[Received], now: float) -> Iterator[tuple[object, ...]]:
    for pack in packs:
        device_id, store_id = pack.device_id, pack.store_id
        for reading in pack.readings:
            document = reading.document
            text = to_json(document).decode()
            yield device_id, store_id, reading.seq, document["source"], float(document["t"]), text, now
