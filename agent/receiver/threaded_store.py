"""What the stores share: one thread that alone speaks to the database, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic_core import from_json

from agent.receiver.gaps import cuts
from agent.receiver.store import Coverage, KnownExtent, KnownLoss, Part, Stored, StoreError, StoreStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from agent.receiver.packs import Received, Refused
    from agent.sync.losses import ToldLosses

_T = TypeVar("_T")


class ThreadedStore(ABC):
    """A `ReadingStore` whose work is done in one thread; the methods to be filled in run there."""

    def __init__(self) -> None:
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
                await self._closed(asyncio.shield(closing))
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
            StoreError: As the protocol says.
        """
        inserted = await self._call(lambda: self._write(packs, refused, losses))
        given = sum(len(pack.readings) for pack in packs)
        assert 0 <= inserted <= given
        self._inserted += inserted
        self._duplicates += given - inserted
        self._rejected += len(refused)
        return Stored(inserted, given - inserted)

    async def statistics(self) -> StoreStatistics:
        """What it did since it was opened, and how many readings it holds."""
        count = await self._call(self._count)
        return StoreStatistics(count, self._inserted, self._duplicates, self._rejected)

    async def coverage(self, device_id: str | None = None) -> list[Coverage]:
        """What came of each buffer, of one device or of all."""
        return await self._report(lambda: self._coverage(device_id))

    async def holes(
        self, device_id: str, store_id: str, within: Sequence[tuple[int, int]], most: int
    ) -> list[tuple[int, int]]:
        """The first and last number of each run in these ranges that has not come; at most so many."""

        def look() -> list[tuple[int, int]]:
            found: list[tuple[int, int]] = []
            for first, last in within:
                if len(found) < most:
                    found += self._holes(device_id, store_id, first, last, most - len(found))
            return found

        return await self._report(look)

    async def _report(self, work: Callable[[], _T]) -> _T:
        """As `_call`, for what may take long."""
        return await self._call(work)

    async def _call(self, work: Callable[[], _T]) -> _T:
        if self._thread is None:
            raise StoreError("the database is not open")
        return await self._answer(asyncio.get_running_loop().run_in_executor(self._thread, work))

    async def _answer(self, working: asyncio.Future[_T]) -> _T:
        """Wait for the thread."""
        return await working

    async def _closed(self, closing: asyncio.Future[None]) -> None:
        """Wait until it is closed."""
        await closing

    # In the thread. Each raises StoreError only.

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _write(
        self, packs: Sequence[Received], refused: Sequence[Refused], losses: Sequence[ToldLosses]
    ) -> int:
        """Returns how many readings were new."""

    @abstractmethod
    def _count(self) -> int: ...

    @abstractmethod
    def _coverage(self, device_id: str | None) -> list[Coverage]: ...

    @abstractmethod
    def _holes(
        self, device_id: str, store_id: str, first: int, last: int, most: int
    ) -> list[tuple[int, int]]: ...


def coverage_of(
    covered: Iterable[tuple[str, str, int, int, int]],
    losses: Iterable[tuple[str, str, int, int, int, str]],
    extents: Iterable[tuple[Any, ...]],
) -> list[Coverage]:
    """Rows put together by device and store; a buffer of which only losses are known has a coverage too."""
    found: dict[tuple[str, str], Coverage] = {}

    def of(device: str, store: str) -> Coverage:
        return found.setdefault((device, store), Coverage(device, store, 0, 0, 0))

    for device, store, lowest, highest, readings in covered:
        found[device, store] = Coverage(device, store, lowest, highest, readings)
    for device, store, first, last, count, why in losses:
        of(device, store).losses.append(KnownLoss(first, last, count, why))
    for device, store, *numbers, routed, aside, told_at in extents:
        ranges = tuple((first, last, count) for first, last, count in from_json(aside))
        upstream, begins, since, absent, settled, newest = numbers
        known = KnownExtent(
            upstream, begins, since, absent, settled, newest, bool(routed), ranges, float(told_at)
        )
        of(device, store).extents.append(known)
    return [found[key] for key in sorted(found)]


def fill_parts(
    coverages: Sequence[Coverage], count: Callable[[Sequence[tuple[str, str, int, int]]], Iterable[int]]
) -> None:
    """Say how many have come in each part.

    Args:
        coverages: Of which it is to be said.
        count: How many readings there are of each device, store, first and last number; asked only where that is not plain.
    """
    wanted = {
        (one.device_id, one.store_id, first, last)
        for one in coverages
        if one.readings < one.last - one.first + 1
        for first, last in cuts(one)
        if one.first <= first and last <= one.last
    }
    asked = sorted(wanted)
    came = dict(zip(asked, count(asked), strict=True))
    for one in coverages:
        for first, last in cuts(one):
            whole = last - first + 1 if one.readings and one.first <= first and last <= one.last else 0
            here = came.get((one.device_id, one.store_id, first, last), whole)
            one.parts.append(Part(first, last, here))
