"""`TinyDBBuffer`: the buffer as a storage backend, for asyncio. All file work happens on threads.

One commits (`outstation-commit`), one reads for those who deliver (`outstation-read`), and a third,
begun with the first query, queries (`outstation-query`), so that nothing is delivered later because
somebody looks for something. The event loop waits for none.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from buffer.aio import AsyncConsumer, StateTable
from buffer.consumer import Record
from buffer.database import BufferDB
from buffer.encoding import checked, encoded, trusted
from buffer.errors import BufferClosed, BufferLocked, DiskFault, InvalidDocument, StoreError, UnknownRecord
from buffer.identity import Identity
from buffer.naming import DEAD_LETTERS, READINGS
from buffer.options import BufferOptions
from buffer.selection import location
from buffer.streaming import STREAM_RECORDS
from buffer.table import id_of
from buffer.waiting import DurabilityWaiters
from collectors.interfaces import IStorageBackend
from collectors.models import QueryCriteria, Reading, StorageLocation, StorageStatistics

if TYPE_CHECKING:
    from datetime import datetime

T = TypeVar("T")


class TinyDBBuffer(IStorageBackend):
    """A buffer on disk, as the contract wants a storage backend, and as the agent wants it.

    Locations are `<table>/<id>`. Use it from one event loop.
    """

    def __init__(self, backend_id: str, path: str | os.PathLike[str], **options: Any) -> None:
        """Say where and how; nothing is opened before `connect`.

        Args:
            backend_id: Its identifier.
            path: The directory; made when missing.
            **options: The fields of `BufferOptions`.
        """
        self._backend_id = backend_id
        self._path = os.fspath(path)
        self._options = options
        self._db: BufferDB | None = None
        self._connecting = asyncio.Lock()
        self._unwanted: asyncio.Task[None] | None = None
        """Closes what a `connect` opened that was cancelled meanwhile."""
        self._reading: ThreadPoolExecutor | None = None
        self._querying: ThreadPoolExecutor | None = None
        self._given_up: set[threading.Event] = set()
        self._waiters: dict[str, DurabilityWaiters] = {}
        self._consumers: dict[str, AsyncConsumer] = {}
        self._last_stored: datetime | None = None

    # -- IStorageBackend

    def get_backend_id(self) -> str:
        """The unique identifier of this backend."""
        return self._backend_id

    async def connect(self) -> None:
        """Open the buffer, recovering what a crash left. Harmless when it is open.

        Raises:
            ConnectionError: It cannot be opened: locked by another process, or no such place.
            ValueError: An option makes no sense.
        """
        async with self._connecting:
            if self._db is not None:
                return
            try:
                BufferOptions(**self._options)
            except TypeError as error:
                raise ValueError(f"an option of the buffer makes no sense: {error}") from error
            await self._unwanted_closed()
            try:
                db = await self._open()
            except BufferLocked:
                raise
            except (OSError, DiskFault) as error:
                raise ConnectionError(f"the buffer at {self._path} cannot be opened: {error}") from error
            self._db = db
            self._reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outstation-read")

    async def _open(self) -> BufferDB:
        opening = asyncio.create_task(asyncio.to_thread(self._opened), name="buffer-open")
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:  # the thread goes on: left alone, it would keep the directory locked
            self._unwanted = asyncio.create_task(_close_opened(opening), name="buffer-close-unwanted")
            raise

    async def _unwanted_closed(self) -> None:
        if self._unwanted is not None:
            await asyncio.shield(self._unwanted)
            self._unwanted = None

    def _opened(self) -> BufferDB:
        """In a thread: the buffer with every log that is appended to from the event loop."""
        db = BufferDB(self._path, **self._options)
        try:
            db.log(DEAD_LETTERS)
        except BaseException:
            db.close()
            raise
        return db

    def change(self, **options: Any) -> None:
        """Set some options anew (`BufferDB.change`); never waits for the disk.

        Raises:
            ValueError: One cannot be changed, or makes no sense; nothing was changed.
            BufferClosed: Not connected.
        """
        self._database.change(**options)
        self._options = self._options | options

    async def disconnect(self) -> None:
        """Commit what waits, and close. Harmless after a failed or missing connect.

        Raises:
            ConnectionError: What waited could not be made durable.
        """
        db, self._db = self._db, None
        if db is None:
            await self._unwanted_closed()
            return
        threads, self._reading, self._querying = (self._reading, self._querying), None, None
        for given_up in self._given_up:
            given_up.set()
        try:
            await asyncio.to_thread(db.close)
        except StoreError as error:
            raise ConnectionError(f"the buffer at {self._path} closed with a loss: {error}") from error
        finally:
            for thread in threads:
                if thread is not None:
                    thread.shutdown(wait=False)
            for waiters in self._waiters.values():
                waiters.close()
            self._waiters.clear()
            self._consumers.clear()

    async def store(self, data: Any) -> StorageLocation:
        """Store one item (a `Reading`, a pydantic model, or an object of JSON values); durable on return.

        Raises:
            ConnectionError: Not connected, or disconnected meanwhile.
            ValueError: The data cannot be stored in this form.
            RuntimeError: The disk refuses, and memory is full.
        """
        document = self._document(data)
        record_id = self.append([document])[0]
        await self.wait_durable(record_id)
        now = self._database.options.clock.now()
        self._last_stored = now
        return StorageLocation(
            backend_id=self._backend_id,
            location_id=location(READINGS, record_id),
            path=f"{self._path}/{READINGS}#{record_id}",
            created_at=now,
        )

    async def query(self, criteria: QueryCriteria) -> list[Any]:
        """The readings that match, as dictionaries; see `collectors.criteria` for the filters.

        Raises:
            ConnectionError: Not connected, or disconnected meanwhile.
            ValueError: The criteria make no sense.
            RuntimeError: The disk cannot be read.
        """
        db = self._database
        with self._check() as check:
            found = await self._query(lambda: db.query(criteria, check=check))
        return [document for _, document in found]

    async def delete(self, location_id: str) -> None:
        """Delete one item; durable on return.

        Raises:
            ConnectionError: Not connected.
            KeyError: There is no such item.
            RuntimeError: The disk refuses.
        """
        table, _, number = location_id.rpartition("/")
        db = self._database
        record_id = id_of(number)
        if record_id is None or (table != READINGS and table not in await self._read(db.table_names)):
            raise UnknownRecord(f"no item {location_id!r}; a location is '<table>/<id>'")
        await self._read(lambda: db.delete(record_id, table=table))

    # -- appending

    def append(self, documents: Sequence[bytes], *, table: str = READINGS, vouched: bool = False) -> range:
        """Take JSON objects; they are in memory only when this returns. Never waits.

        Args:
            documents: The objects.
            table: Where to.
            vouched: They were just made by a JSON encoder, so they are not parsed to make sure.

        Raises:
            BufferFull: Too much waits for the disk; wait for `room`.
            BufferClosed: Not connected.
            InvalidDocument: One is not a JSON object; none was taken.
        """
        documents, size = trusted(documents) if vouched else checked(documents)
        return self._database.append_checked(documents, size, table=table)

    async def room(self, *, table: str = READINGS) -> None:
        """Return when `append` would be accepted.

        Raises:
            BufferClosed: The buffer was closed meanwhile.
        """
        log = self._database.log(table)
        if not log.has_room():
            await self._waiters_of(table).until(log.has_room, hurry=True)

    async def wait_durable(self, last_id: int, *, table: str = READINGS) -> None:
        """Return when every record up to this id is on disk; starts an early commit.

        Raises:
            BufferClosed: The buffer was closed meanwhile.
        """
        waiters = self._waiters.get(table) or self._waiters_of(table)
        landing = waiters.durable(last_id)
        if landing is not None:
            await landing

    def durable_id(self, table: str = READINGS) -> int:
        """Every record of a table up to this id is on disk."""
        return self._database.durable_id(table)

    async def flush(self) -> None:
        """Make everything appended so far durable, now.

        Raises:
            DiskFault: The disk refuses; it is tried again by itself.
            BufferClosed: Not connected.
        """
        await asyncio.to_thread(self._database.flush)

    # -- reading

    def consumer(self, name: str) -> AsyncConsumer:
        """The consumer of this name; a new one begins with the oldest record there is.

        A new name is made durable at once (one small fsync), so do this at start-up.

        Raises:
            DiskFault: A new one cannot be made durable.
            BufferClosed: Not connected.
        """
        if name not in self._consumers:
            self._consumers[name] = AsyncConsumer(
                self._database.consumer(name), self._read, lambda: self._waiters_of(READINGS)
            )
        return self._consumers[name]

    async def recent(self, n: int, *, table: str = READINGS) -> list[Record]:
        """The newest `n` durable records, ascending.

        Raises:
            DiskFault: The disk cannot be read.
        """
        log = self._database.log(table)
        return [Record(*record) for record in await self._read(lambda: log.recent(n))]

    async def visit_recent(
        self, n: int, visit: Callable[[int, dict[str, Any]], None], *, table: str = READINGS
    ) -> None:
        """Call `visit(id, document)` in a thread for the newest `n` durable records, ascending.

        Holds a few of them in memory at a time. Where some were deleted, a few older ones may come before them.

        Raises:
            DiskFault: The disk cannot be read.
        """
        log = self._database.log(table)
        await self._read(lambda: log.visit_recent(n, visit))

    async def readings(
        self, *, source: str | None = None, since_s: float | None = None, until_s: float | None = None
    ) -> AsyncIterator[Record]:
        """The readings of a source, or of all, measured in a time range; ascending by id, a few in memory at a time.

        Ends with what there was when it began.

        Args:
            source: Of this source only.
            since_s: Measured then or later: seconds since 1970.
            until_s: Measured before.

        Raises:
            DiskFault: The disk cannot be read.
            BufferClosed: Not connected, or disconnected meanwhile.
        """
        db = self._database
        with self._check() as check:
            found = db.readings(source=source, since_s=since_s, until_s=until_s, check=check)
            while block := await self._query(lambda: list(islice(found, STREAM_RECORDS))):
                for record in block:
                    yield record

    def state(self, name: str) -> StateTable:
        """A small durable table: keys to JSON objects."""
        return StateTable(self._database.small_table(name))

    async def statistics(self) -> StorageStatistics:
        """What is stored durably; what waits in memory is not counted.

        Raises:
            ConnectionError: Not connected.
        """
        log = self._database.log(READINGS)
        return StorageStatistics(
            backend_id=self._backend_id,
            stored_count=log.durable_total(),
            storage_usage_bytes=await self._read(lambda: log.disk_bytes),
            last_storage_time=self._last_stored,
        )

    @property
    def database(self) -> BufferDB:
        """The buffer itself, for what this face does not offer; its calls may wait for the disk.

        Raises:
            BufferClosed: Not connected.
        """
        return self._database

    @property
    def fault(self) -> str | None:
        """What is wrong with the disk now, None when nothing. Readings wait in bounded memory meanwhile."""
        return None if self._db is None else self._db.fault

    @property
    def epochs(self) -> list[Identity]:
        """Whose records these are, ascending by first id."""
        return list(self._database.epochs)

    @property
    def store_id(self) -> str:
        """The random identity of this store, part of every record's key."""
        return self._database.store_id

    # -- parts

    @property
    def _database(self) -> BufferDB:
        if self._db is None:
            raise BufferClosed(f"the buffer {self._backend_id!r} is not connected")
        return self._db

    async def _read(self, work: Callable[[], T]) -> T:
        if self._reading is None:
            raise BufferClosed(f"the buffer {self._backend_id!r} is not connected")
        return await asyncio.get_running_loop().run_in_executor(self._reading, work)

    async def _query(self, work: Callable[[], T]) -> T:
        self._database  # noqa: B018 (says so when it is not connected)
        if self._querying is None:
            self._querying = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outstation-query")
        return await asyncio.get_running_loop().run_in_executor(self._querying, work)

    @contextmanager
    def _check(self) -> Iterator[Callable[[], None]]:
        """What a query calls now and then: it raises when nobody waits for it any more."""
        given_up = threading.Event()
        self._given_up.add(given_up)

        def check() -> None:
            if given_up.is_set():
                raise BufferClosed(f"the buffer {self._backend_id!r} was closed during a query")

        try:
            yield check
        finally:
            self._given_up.discard(given_up)
            given_up.set()

    def _waiters_of(self, table: str) -> DurabilityWaiters:
        waiters = self._waiters.get(table)
        if waiters is None:
            db = self._database
            waiters = DurabilityWaiters(db.log(table), db.hurry, asyncio.get_running_loop())
            self._waiters[table] = waiters
        return waiters

    @staticmethod
    def _document(data: Any) -> bytes:
        if isinstance(data, Reading):
            data = data.to_document()
        elif hasattr(data, "model_dump"):
            data = data.model_dump(mode="json")
        if not isinstance(data, Mapping):
            raise InvalidDocument(f"only objects can be stored, not {type(data).__name__}")
        try:
            return encoded(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidDocument(f"this cannot be stored as JSON: {error}") from error


async def _close_opened(opening: asyncio.Task[BufferDB]) -> None:
    """Close what is being opened, once it is; what cannot be opened needs no closing."""
    with suppress(StoreError, OSError):
        db = await opening
        await asyncio.to_thread(db.close)
