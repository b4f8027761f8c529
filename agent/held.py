"""What steps of pipelines hold back, kept durable, and let go exactly once.

A step that waits for a window to fill has taken readings that are nowhere else. So its state is rows of a small
durable table, and what goes through such a pipeline is acknowledged to its source when the rows are on the disk, not
when a reading comes out. What comes out becomes durable together with the rows that no longer hold it:

1. A snapshot is one write: the rows that changed, the readings that came out since the last one, where what they were
   made from came from (`origins`), and a running number, the version.
2. Only then are these readings handed to the buffer; and only when they are durable there does a later snapshot
   leave them out.

After a crash, what the last snapshot says came out is handed to the buffer again, unless it is there already; and
what the sources deliver again is recognised by its origin. So nothing is lost and nothing is counted twice. A source
that cannot deliver again loses what it said since the last snapshot, a second at most: as everywhere.

A step that is not configured any more gives what it holds as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic_core import from_json, to_json

from agent.processors.holding import READINGS as ROW_READINGS
from buffer import StoreError
from collectors.models import Origin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from agent.processors.holding import HoldingStep
    from collectors.models import Reading

_log = logging.getLogger(__name__)

TABLE: Final = "held"
"""The name of the small table, and of what is owed by it."""
WINDOW_S: Final = 1.0
"""How long what nobody waits for may be in memory only."""
GATHER_S: Final = 0.02
"""How long a snapshot that somebody waits for gathers what else comes in."""
RETRY_S: Final = 1.0
"""After this time a disk that refused is asked again."""
WAITING_MAX: Final = 20_000
"""Readings that may wait for a snapshot."""
ORIGINS_MAX: Final = 8_192
"""Origins that are remembered over a restart: what a broker had in flight."""
_RECENT: Final = 50_000
"""How many of the newest records are searched for what had come out before a crash."""
_VERSION: Final = "!version"
_OUT: Final = "!out"
_ORIGINS: Final = "!origins/"


class StateTable(Protocol):
    """A small durable table (the buffer's)."""

    def items(self) -> list[tuple[str, Any]]:
        """All rows."""
        ...

    async def put_all(self, rows: dict[str, Any]) -> None:
        """Set several rows (None removes one), all or none; durable on return."""
        ...


class Keeping(Protocol):
    """What is needed of the buffer."""

    def durable_id(self) -> int:
        """Every reading up to this id is on disk."""
        ...

    async def visit_recent(self, n: int, visit: Callable[[int, dict[str, Any]], None]) -> None:
        """Call `visit(id, document)` for the newest `n` durable readings."""
        ...


@dataclass(frozen=True, slots=True)
class Holder:
    """A step that holds readings back, in its pipeline."""

    key: str
    """Names its rows: the same again after a restart with the same configuration."""
    step: HoldingStep
    resume: Callable[[list[Reading]], Awaitable[None]]
    """Runs the rest of the pipeline on what it lets go, and brings what comes out to `absorb`."""


@dataclass(slots=True)
class _HandedOver:
    """Readings that were handed to the buffer and may not be durable there yet."""

    documents: list[bytes]
    after_id: int
    """Their ids are above this."""
    last_id: int


class Held:
    """Keeps what the steps of all pipelines hold.

    Args:
        buffer: Where the readings go that come out.
        submit: Hands JSON documents to it; returns their ids, which are pending.

    Attributes:
        durable_version: Everything up to this version is on the disk.
        restored_origins: Where what was held at the start came from, oldest first, and in which version it is.
        fault: Why the disk did not take the last snapshot, None when it did.
    """

    def __init__(self, buffer: Keeping, submit: Callable[[list[bytes]], Awaitable[range]]) -> None:
        self._table: StateTable | None = None
        self._buffer = buffer
        self._submit = submit
        self._holders: list[Holder] = []
        self._version = 0
        self.durable_version = 0
        self.restored_origins: list[tuple[Origin, int]] = []
        self.fault: str | None = None
        self._out: list[bytes] = []
        self._handed: deque[_HandedOver] = deque()
        self._origins: list[list[Any]] = []
        self._origin_rows: deque[tuple[str, int]] = deque()
        self._unwritten: dict[str, Any] = {}
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()
        self._landed = asyncio.Condition()

    # -- starting

    async def restore(self, table: StateTable, holders: Iterable[Holder]) -> None:
        """Go on with what was held when the program ended.

        Args:
            table: Where it is kept.
            holders: The steps that hold readings back now.

        Raises:
            StoreError: The disk cannot be read.
        """
        self._table, self._holders = table, list(holders)
        rows = dict(table.items())
        self._version = self.durable_version = rows.pop(_VERSION, {"number": 0})["number"]
        out = rows.pop(_OUT, None)
        self._restore_origins(rows)
        known = {holder.key: holder for holder in self._holders}
        of_holder: dict[str, dict[str, Any]] = {key: {} for key in known}
        for name, row in rows.items():
            key, _, series = name.partition("|")
            if key in known:
                of_holder[key][series] = row
            else:  # its step is not there any more: it gives what it held
                self._out += map(to_json, row[ROW_READINGS])
                self._unwritten[name] = None
                self._want(hurry=True)
        for key, series_rows in of_holder.items():
            known[key].step.restore(series_rows)
        if out is not None:
            self._out = await self._not_kept(out) + self._out
            self._want(hurry=True)

    def _restore_origins(self, rows: dict[str, Any]) -> None:
        found = sorted((int(name[len(_ORIGINS) :]), name) for name in rows if name.startswith(_ORIGINS))
        for version, name in found:
            entries = rows.pop(name)
            self._origin_rows.append((name, len(entries)))
            for client, packet, payload_hash in entries:
                origin = Origin(client=client, packet=packet, payload_hash=payload_hash)
                self.restored_origins.append((origin, version))

    async def _not_kept(self, out: dict[str, Any]) -> list[bytes]:
        """Of what had come out, what did not reach the disk."""
        missing: list[dict[str, Any]] = list(out["documents"])

        def look(record_id: int, document: dict[str, Any]) -> None:
            if record_id > out["after_id"] and document in missing:
                missing.remove(document)

        await self._buffer.visit_recent(_RECENT, look)
        return [to_json(document) for document in missing]

    @property
    def waiting(self) -> bool:
        """Whether something is to be written down."""
        return self._wanted.is_set()

    # -- while it runs

    async def absorb(self, documents: Sequence[bytes], origin: Origin | None, *, awaited: bool) -> int:
        """Take in that a message went through its pipeline; the version with which that becomes durable.

        Waits while too much waits for the disk.

        Args:
            documents: What came out.
            origin: Where the message came from, if it can come again.
            awaited: Its source waits for an acknowledgement.
        """
        async with self._landed:
            await self._landed.wait_for(lambda: len(self._out) < WAITING_MAX)
        self._out += documents
        if origin is not None:
            self._origins.append([origin.client, origin.packet, origin.payload_hash])
        self._want(hurry=awaited)
        return self._version + 1

    def _want(self, *, hurry: bool) -> None:
        self._wanted.set()
        if hurry:
            self._hurry.set()

    async def durable(self, version: int) -> None:
        """Return when a version is on the disk."""
        async with self._landed:
            await self._landed.wait_for(lambda: self.durable_version >= version)

    async def run(self) -> None:
        """Make snapshots, until cancelled."""
        while True:
            await self._wanted.wait()
            try:
                async with asyncio.timeout(WINDOW_S):
                    await self._hurry.wait()
                await asyncio.sleep(GATHER_S)
            except TimeoutError:
                pass
            try:
                await self.snapshot()
            except (StoreError, OSError) as error:
                if self.fault is None:
                    _log.error("what pipelines hold cannot be written down: %s; trying again", error)
                self.fault = str(error)
                await asyncio.sleep(RETRY_S)

    async def change(self, holders: Iterable[Holder]) -> None:
        """Go on with other steps; what those hold that are not among them comes out. Nothing is absorbed meanwhile."""
        holders = list(holders)
        stay = {holder.key for holder in holders}
        for holder in self._holders:
            if holder.key in stay:
                continue
            names = holder.step.row_names()
            self._out += [to_json(reading.to_document()) for reading in holder.step.let_go()]
            self._unwritten |= {f"{holder.key}|{name}": None for name in names | holder.step.row_names()}
        self._holders = holders
        self._want(hurry=True)

    async def look(self, monotonic_s: float) -> None:
        """Let go what need not wait any longer."""
        for holder in self._holders:
            due = holder.step.due(monotonic_s)
            if due:
                await holder.resume(list(due))

    async def snapshot(self) -> None:
        """Make everything durable that is held or came out so far.

        Raises:
            StoreError: The disk refused; nothing is forgotten.
        """
        self._wanted.clear()
        self._hurry.clear()
        assert self._table is not None, "it is restored first"
        # What comes in while the disk works belongs to the next version.
        self._version += 1
        version, out, self._out = self._version, self._out, []
        self._gather(version, out)
        rows, self._unwritten = self._unwritten, {}
        try:
            await self._table.put_all(rows)
            async with self._landed:
                self.durable_version = version
                self._landed.notify_all()
            rows = {}
            if out:
                await self._hand_over(out)
        except BaseException:
            self._out = out + self._out
            self._unwritten = rows | self._unwritten
            self._want(hurry=True)
            raise
        self.fault = None

    async def _hand_over(self, out: list[bytes]) -> None:
        after_id = self._buffer.durable_id()
        ids = await self._submit(out)
        self._handed.append(_HandedOver(out, after_id, ids[-1]))
        self._want(hurry=False)  # the next snapshot leaves them out, once they are durable

    def _gather(self, version: int, out: list[bytes]) -> None:
        """Add what the next snapshot writes to what the last one could not."""
        for holder in self._holders:
            for series, row in holder.step.changed_rows().items():
                self._unwritten[f"{holder.key}|{series}"] = row
        durable_id = self._buffer.durable_id()
        while self._handed and self._handed[0].last_id <= durable_id:
            self._handed.popleft()
        coming = [document for handed in self._handed for document in handed.documents] + out
        after_id = self._handed[0].after_id if self._handed else durable_id
        self._unwritten[_OUT] = (
            {"after_id": after_id, "documents": [from_json(document) for document in coming]}
            if coming
            else None
        )
        self._unwritten[_VERSION] = {"number": version}
        if self._origins:
            origins, self._origins = self._origins, []
            name = f"{_ORIGINS}{version}"
            known = self._unwritten.get(name)
            self._unwritten[name] = [*known, *origins] if known else origins
            self._origin_rows.append((name, len(origins)))
        while sum(count for _, count in self._origin_rows) > ORIGINS_MAX and len(self._origin_rows) > 1:
            self._unwritten[self._origin_rows.popleft()[0]] = None
