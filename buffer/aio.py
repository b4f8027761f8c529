"""Consumers and small tables for asyncio: the same calls, with the file work on other threads."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from buffer.consumer import Batch, Consumer, Reach
from buffer.journal import SmallTable
from buffer.waiting import DurabilityWaiters

_Taken = tuple[Batch | None, bool]


class AsyncConsumer:
    """A consumer for asyncio. Made by `TinyDBBuffer.consumer`."""

    def __init__(
        self,
        consumer: Consumer,
        read: Callable[[Callable[[], _Taken]], Awaitable[_Taken]],
        waiters: Callable[[], DurabilityWaiters],
    ) -> None:
        self._consumer = consumer
        self._read = read
        self._waiters = waiters
        self._closed = False

    @property
    def name(self) -> str:
        """Its name; its state is kept under it."""
        return self._consumer.name

    async def take(
        self,
        n: int,
        max_bytes: int | None = None,
        *,
        newest: bool = False,
        lane: str | None = None,
        after: int = 0,
        upto: int | None = None,
        parsed: bool = True,
    ) -> Batch | None:
        """Durable records not acknowledged or taken; None when there are none. See `Consumer.take`.

        Args:
            n: At most so many records.
            max_bytes: At most so many bytes of stored JSON, though at least one record.
            newest: The newest that are free, instead of the oldest.
            lane: Of this lane only, `alarm` or `normal`.
            after: Only ids beyond this one.
            upto: Only ids up to this one.
            parsed: Parse the documents beforehand, apart from the event loop; else when `records` is first asked for.

        Raises:
            DiskFault: The disk cannot be read.
            BufferClosed: Not connected.
            ValueError: There is no such lane.
        """
        paused = self._consumer.ready_in(lane, after, upto)
        batch = None
        while batch is None and paused:  # others have their turn while alarms are searched for
            taking = asyncio.ensure_future(
                self._read(
                    lambda: (_parsed if parsed else _as_stored)(
                        self._consumer.take_some(
                            n, max_bytes, newest=newest, lane=lane, after=after, upto=upto
                        )
                    )
                )
            )
            try:
                batch, paused = await asyncio.shield(taking)
            except asyncio.CancelledError:
                taking.add_done_callback(self._give_back)
                raise
        return batch

    def _give_back(self, taking: "asyncio.Future[_Taken]") -> None:
        """Nobody waits for this batch any more."""
        if not taking.cancelled() and taking.exception() is None:
            batch, _ = taking.result()
            if batch is not None:
                self._consumer.release(batch)

    def ack(self, batch: Batch) -> None:
        """The batch arrived: exactly its records are never taken again. Harmless when repeated.

        Raises:
            UnknownBatch: The batch is not of this store.
        """
        self._consumer.ack(batch)

    def release(self, batch: Batch) -> None:
        """The batch did not arrive: its records may be taken again. Harmless when repeated."""
        self._consumer.release(batch)

    @property
    def backlog(self) -> int:
        """How many durable records it has not acknowledged."""
        return self._consumer.backlog

    @property
    def newest_id(self) -> int:
        """The highest id that is durable; 0 when none is."""
        return self._consumer.newest_id

    @property
    def reach(self) -> Reach:
        """Which ids it was to get, and how far it is."""
        return self._consumer.reach

    async def wait(
        self,
        timeout_s: float | None = None,
        *,
        lane: str | None = None,
        after: int = 0,
        upto: int | None = None,
    ) -> bool:
        """Wait until there may be something to take (as for `take`); False when the time is over first.

        Raises:
            BufferClosed: The buffer was closed meanwhile.
            ValueError: There is no such lane.
        """
        if self._consumer.ready_in(lane, after, upto):
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._waiters().until(lambda: self._consumer.ready_in(lane, after, upto))
        except TimeoutError:
            return False
        return True


def _as_stored(taken: _Taken) -> _Taken:
    return taken


def _parsed(taken: _Taken) -> _Taken:
    """What was taken, its documents parsed on this thread, so that the event loop need not."""
    if taken[0] is not None:
        _ = taken[0].records
    return taken


class StateTable:
    """A small durable table for asyncio. Made by `TinyDBBuffer.state`."""

    def __init__(self, table: SmallTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def get(self, key: str) -> Any:
        """The row of a key, None when there is none."""
        return self._table.get(key)

    def items(self) -> list[tuple[str, Any]]:
        """All rows."""
        return self._table.items()

    async def put(self, key: str, value: Any) -> None:
        """Set a row; durable on return.

        Raises:
            DiskFault: The disk refuses; the row is as it was.
            BufferClosed: The buffer is closed.
        """
        await asyncio.to_thread(self._table.put, key, value)

    async def put_all(self, rows: dict[str, Any]) -> None:
        """Set several rows (None removes one), all or none; durable on return.

        Raises:
            DiskFault: The disk refuses; the rows are as they were.
            BufferClosed: The buffer is closed.
        """
        await asyncio.to_thread(self._table.put_all, rows)

    async def remove(self, key: str) -> None:
        """Remove a row; durable on return. Fine when there is none.

        Raises:
            DiskFault: The disk refuses; the row is still there.
            BufferClosed: The buffer is closed.
        """
        await asyncio.to_thread(self._table.remove, key)
