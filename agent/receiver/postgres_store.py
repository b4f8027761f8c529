"""Readings in PostgreSQL, in a schema of their own: `outstation`.

| table | holds |
| --- | --- |
| readings | each reading once; `t` is when it was measured, `document` the whole of it, as it was sent |
| rejected | what was no pack, the newest 10,000 |
| losses | what devices told of readings that will never come |
| extents | how far each upstream of a device was, as it told last |
| schema_version | which of the migrations below were applied |

One statement inserts all that a commit holds: `INSERT ... SELECT unnest(...) ON CONFLICT DO NOTHING`. No target is
named for the conflict, so that the primary key may be made another one, with `t` in it, as a hypertable of TimescaleDB
or a partitioned table needs it: a reading's time never changes after it was first sent. `synchronous_commit` is on,
whatever the server's default.

`document` is of type json, not jsonb: it keeps every number and character as it was sent, where jsonb knows no
negative zero and refuses the character U+0000.

libpq speaks for us, in the store's own thread. A connection that was lost is made anew for the next commit. A server that
is away, starting, full or read-only makes StoreUnavailable, and so does one that does not answer in time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg import errors as sql_errors
from pydantic_core import to_json

from agent.receiver import postgres_gaps
from agent.receiver.store import (
    REJECTED_BYTES_MAX,
    REJECTED_MAX,
    StoreError,
    StoreUnavailable,
    Unstorable,
)
from agent.receiver.threaded_store import ThreadedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent.receiver.packs import Received, Refused
    from agent.receiver.store import Coverage
    from agent.sync.losses import ToldLosses
    from collectors.clock import Clock

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 60.0
"""A commit of 20,000 readings takes some 0.3 s; beyond this the connection is taken for dead."""
REPORT_TIMEOUT_S = 3600.0
"""A report on gaps reads the whole index."""
CLOSE_TIMEOUT_S = 2.0
_EXACT_COUNT_MAX = 100_000
"""Beyond so many readings, PostgreSQL's estimate is told instead of a count that reads the whole table."""
_MIGRATION_LOCK = 0x6F757473_74617469
"""An advisory lock ("outstati"): of several receivers that start together one makes the tables."""

# Of a time that timestamptz cannot hold, the sign is kept; the document has it in full.
_MIGRATIONS = (
    """
    CREATE TABLE outstation.readings (
        arrival bigint GENERATED ALWAYS AS IDENTITY,
        device_id text NOT NULL,
        store_id text NOT NULL,
        seq bigint NOT NULL,
        source text NOT NULL,
        t timestamptz NOT NULL,
        document json NOT NULL,
        received_at timestamptz NOT NULL,
        PRIMARY KEY (device_id, store_id, seq)
    );
    CREATE TABLE outstation.rejected (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        origin text NOT NULL,
        payload bytea NOT NULL,
        reason text NOT NULL,
        received_at timestamptz NOT NULL
    );
    CREATE TABLE outstation.losses (
        device_id text NOT NULL,
        store_id text NOT NULL,
        lane text NOT NULL,
        why text NOT NULL,
        first bigint NOT NULL,
        last bigint NOT NULL,
        count bigint NOT NULL,
        since timestamptz NOT NULL,
        until timestamptz NOT NULL,
        PRIMARY KEY (device_id, store_id, lane, why, first)
    );
    """,
    """
    CREATE TABLE outstation.extents (
        device_id text NOT NULL,
        store_id text NOT NULL,
        upstream text NOT NULL,
        begins bigint NOT NULL,
        since bigint NOT NULL,
        absent bigint NOT NULL,
        settled bigint NOT NULL,
        newest bigint NOT NULL,
        routed boolean NOT NULL,
        aside text NOT NULL,
        told_at timestamptz NOT NULL,
        PRIMARY KEY (device_id, store_id, upstream)
    );
    """,
)
SCHEMA_VERSION = len(_MIGRATIONS)

_TIME = "CASE WHEN {0} BETWEEN -210866803200 AND 9224318015999 THEN to_timestamp({0}) ELSE ({0} * 'infinity'::float8)::text::timestamptz END"
_INSERT = f"""
INSERT INTO outstation.readings (device_id, store_id, seq, source, t, document, received_at)
SELECT (%b::text[])[pack], (%b::text[])[pack], seq, source, {_TIME.format("t")}, document::json, to_timestamp(%b::float8)
FROM unnest(%b::int[], %b::bigint[], %b::text[], %b::float8[], %b::text[]) AS given (pack, seq, source, t, document)
ON CONFLICT DO NOTHING
"""  # noqa: S608 (a constant)
_DURABLY = """
SELECT set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)
"""
"""In each transaction, since behind a pooler the next one may be over another connection. Stricter settings stay."""
_REJECT = "INSERT INTO outstation.rejected (origin, payload, reason, received_at) VALUES (%s, %s, %s, to_timestamp(%s))"
_FORGET = "DELETE FROM outstation.rejected WHERE id <= (SELECT max(id) FROM outstation.rejected) - %s"
# As in SQLite: a range replaces those of its kind that it contains, and is nothing new where it is contained in one.
_KNOWN_LOSS = """
SELECT 1 FROM outstation.losses WHERE device_id = %s AND store_id = %s AND lane = %s AND why = %s
AND first <= %s AND last >= %s AND count >= %s
"""
_CONTAINED = """
DELETE FROM outstation.losses WHERE device_id = %s AND store_id = %s AND lane = %s AND why = %s
AND first >= %s AND last <= %s
"""
_LOSS = """
INSERT INTO outstation.losses VALUES (%s, %s, %s, %s, %s, %s, %s, to_timestamp(%s), to_timestamp(%s))
ON CONFLICT (device_id, store_id, lane, why, first) DO UPDATE
SET last = excluded.last, count = excluded.count, since = excluded.since, until = excluded.until
"""
# What is older than what is known changes nothing: messages may overtake each other.
_EXTENT = """
INSERT INTO outstation.extents AS known VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, to_timestamp(%s))
ON CONFLICT (device_id, store_id, upstream) DO UPDATE SET begins = excluded.begins, since = excluded.since,
absent = excluded.absent, settled = greatest(known.settled, excluded.settled), newest = excluded.newest,
routed = excluded.routed, aside = excluded.aside, told_at = excluded.told_at WHERE excluded.newest >= known.newest
"""
_ESTIMATE = "SELECT reltuples::bigint FROM pg_class WHERE oid = 'outstation.readings'::regclass"
_PASSING_WORDS = ("starting up", "shutting down", "recovery mode", "not yet accepting", "too many", "slots")

_T = TypeVar("_T")


class PostgresStore(ThreadedStore):
    """Readings in a PostgreSQL database.

    Args:
        url: A connection URI of libpq: `postgresql://user@host:port/database?sslmode=verify-full`. What it does not
            say comes from libpq's environment variables and password file.
        clock: Stamps arrivals.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        super().__init__()
        parts = urlsplit(url)
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        """Where it is, without user and password."""
        self._url = url
        self._clock = clock
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._plug: socket.socket | None = None
        """The connection's socket once more: to pull when there is no answer."""
        self._migrated = False

    async def _answer(self, working: asyncio.Future[_T], timeout_s: float | None = None) -> _T:
        """Wait for the thread; when the server keeps it waiting too long, end the connection under it."""
        timeout_s = ANSWER_TIMEOUT_S if timeout_s is None else timeout_s
        done, _ = await asyncio.wait([working], timeout=timeout_s)
        if not done:
            self._pull()
            working.cancel()
            raise StoreUnavailable(f"{self.name}: no answer within {timeout_s:g} s")
        return await working

    async def _closed(self, closing: asyncio.Future[None]) -> None:
        done, _ = await asyncio.wait([closing], timeout=CLOSE_TIMEOUT_S)
        if not done:
            self._pull()
        await closing

    async def _report(self, work: Callable[[], _T]) -> _T:
        thread = self._thread
        if thread is None:
            raise StoreError("the database is not open")
        return await self._answer(asyncio.get_running_loop().run_in_executor(thread, work), REPORT_TIMEOUT_S)

    def _pull(self) -> None:
        plug = self._plug
        if plug is not None:
            try:
                plug.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it has ended already

    # In the thread

    def _open(self) -> None:
        try:
            self._connected()
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        plug, self._plug = self._plug, None
        if connection is not None:
            connection.close()
        if plug is not None:
            plug.close()

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        self._close()
        with self._translated():
            # No statement is prepared for later: poolers such as PgBouncer hand connections round.
            self._connection = connection = psycopg.connect(
                self._url,
                autocommit=True,
                prepare_threshold=None,
                **_missing_in(
                    self._url, connect_timeout=CONNECT_TIMEOUT_S, application_name="outstation-receive"
                ),
            )
            self._plug = socket.socket(fileno=os.dup(connection.fileno()))
            _warn_of_no_fsync(connection, self.name)
            if not self._migrated:
                self._migrate(connection)
                self._migrated = True
        return connection

    def _migrate(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
            if connection.execute("SELECT to_regclass('outstation.schema_version')").fetchone() == (None,):
                connection.execute("CREATE SCHEMA IF NOT EXISTS outstation")
                connection.execute("CREATE TABLE outstation.schema_version (version int PRIMARY KEY)")
            row = connection.execute("SELECT max(version) FROM outstation.schema_version").fetchone()
            version = (row and row[0]) or 0
            if version > SCHEMA_VERSION:
                raise StoreError(f"{self.name} is of version {version}; this program knows {SCHEMA_VERSION}")
            for number in range(version + 1, SCHEMA_VERSION + 1):
                connection.execute(_MIGRATIONS[number - 1].encode())
                connection.execute("INSERT INTO outstation.schema_version VALUES (%s)", (number,))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            said = f"{self.name}: {_in_one_line(error)}"
            if self._connection is None:
                kind = StoreError if not self._migrated and _will_not_have_us(said) else StoreUnavailable
            else:
                kind = StoreUnavailable if self._connection.closed else _kind_of(error)
            raise kind(said) from error

    @contextmanager
    def _working(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A transaction."""
        connection = self._connected()
        with self._translated(), connection.transaction():
            yield connection

    def _write(
        self, packs: Sequence[Received], refused: Sequence[Refused], losses: Sequence[ToldLosses]
    ) -> int:
        now = self._clock.now().timestamp()
        # Receivers that hold the same packs meet them in the same order, and so never wait for each other in a circle.
        # The sort is stable: what one device sent stays in the order of arrival.
        packs = sorted(packs, key=lambda pack: (pack.device_id, pack.store_id))
        inserted = 0
        given = _columns(packs, now) if packs else None
        with self._working() as connection:
            connection.execute(_DURABLY)
            if given is not None:
                inserted = connection.execute(_INSERT, given).rowcount
            if refused:
                for each in refused:
                    payload = each.payload[:REJECTED_BYTES_MAX]
                    connection.execute(_REJECT, (each.origin, payload, _storable(each.reason), now))
                connection.execute(_FORGET, (REJECTED_MAX,))
            for told in losses:
                _enter(connection, told, now)
        return inserted

    def _count(self) -> int:
        with self._working() as connection:
            row = connection.execute(_ESTIMATE).fetchone()
            if row is not None and row[0] > _EXACT_COUNT_MAX:
                return int(row[0])
            row = connection.execute("SELECT count(*) FROM outstation.readings").fetchone()
        assert row is not None
        return int(row[0])

    def _coverage(self, device_id: str | None) -> list[Coverage]:
        with self._working() as connection:
            return postgres_gaps.coverage(connection, device_id)

    def _holes(
        self, device_id: str, store_id: str, first: int, last: int, most: int
    ) -> list[tuple[int, int]]:
        with self._working() as connection:
            return postgres_gaps.holes(connection, device_id, store_id, (first, last), most)


def _missing_in(url: str, **options: Any) -> dict[str, Any]:
    """Those options that the URL does not name itself."""
    named = psycopg.conninfo.conninfo_to_dict(url)
    return {name: value for name, value in options.items() if name not in named}


def _warn_of_no_fsync(connection: psycopg.Connection[tuple[Any, ...]], name: str) -> None:
    if connection.execute("SHOW fsync").fetchone() != ("on",):
        _log.warning(
            "receive: %s has fsync off: a power cut there costs readings that were acknowledged", name
        )


def _columns(packs: Sequence[Received], now: float) -> tuple[object, ...]:
    """What `_INSERT` takes: a value a pack, and a column a field of the readings."""
    numbers: list[int] = []
    seqs: list[int] = []
    sources: list[str] = []
    times: list[float] = []
    documents: list[str] = []
    for number, pack in enumerate(packs, 1):
        numbers += [number] * len(pack.readings)
        for reading in pack.readings:
            document = reading.document
            seqs.append(reading.seq)
            sources.append(document["source"])
            times.append(float(document["t"]))
            documents.append(to_json(document).decode())
    devices = [pack.device_id for pack in packs]
    stores = [pack.store_id for pack in packs]
    return devices, stores, now, numbers, seqs, sources, times, documents


def _enter(connection: psycopg.Connection[tuple[Any, ...]], told: ToldLosses, now: float) -> None:
    for loss in told.losses:
        kind = (told.device, told.store, loss.lane or "", loss.why)
        if connection.execute(_KNOWN_LOSS, (*kind, loss.first, loss.last, loss.count)).fetchone():
            continue
        connection.execute(_CONTAINED, (*kind, loss.first, loss.last))
        connection.execute(_LOSS, (*kind, loss.first, loss.last, loss.count, loss.since, loss.until))
    if told.extent is not None:
        connection.execute(_EXTENT, (told.device, told.store, *told.extent.row(), now))


def _kind_of(error: psycopg.Error) -> type[StoreError]:
    """Who must act: nobody but time, nobody at all, or the operator (SQLSTATE classes, PostgreSQL appendix A)."""
    if isinstance(error, psycopg.DataError):
        return Unstorable
    state = error.sqlstate or ""
    if isinstance(error, sql_errors.ReadOnlySqlTransaction):
        return StoreUnavailable  # a standby, until it is promoted
    # 08 connection, 40 deadlock or serialization, 53 resources (disk full, too many connections), 55 and 57 in use,
    # starting or stopping, 58 the server's system.
    if state[:2] in {"08", "40", "53", "55", "57", "58"}:
        return StoreUnavailable
    return StoreError


def _will_not_have_us(said: str) -> bool:
    """Whether a refused connection is the operator's affair: a wrong password, no such database.

    libpq hands down no SQLSTATE here, only the server's words. Asked once, when a receiver starts; later all is waited for.
    """
    return "FATAL:" in said and not any(words in said for words in _PASSING_WORDS)


def _storable(text: str) -> str:
    return text.replace("\0", "\\0")


def _in_one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__
