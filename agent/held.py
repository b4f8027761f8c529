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

A snapshot must not be made of half a message: of a step's rows without what came out of it, or without the origin.
So what goes through such a pipeline does so in a `passage`, and a snapshot gathers what to write when none is under
way; those that come meanwhile wait for it (it is quick: the disk works afterwards).

A dead letter that is taken again is gone with the same snapshot that has what came of it (`taken_again`): its id stands in
the rows until it is removed from its table.

A step that is not configured any more gives what it holds as it is; so does one that cannot read its own rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic_core import from_json, to_json

from agent.passages import Passages
from agent.processors.holding import READINGS as ROW_READINGS
from buffer import StoreError
from collectors.models import Origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

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
"""So many readings may wait for a snapshot before more are let in."""
ORIGINS_MAX: Final = 8_192
"""Origins that are remembered over a restart: what a broker had in flight."""
_RECENT: Final = 50_000
"""How many of the newest records are searched for what had come out before a crash."""
_VERSION: Final = "!version"
_OUT: Final = "!out"
_ORIGINS: Final = "!origins/"
TAKEN_AGAIN: Final = "!taken_again"
"""The row of the dead letters that were taken again, and are no dead letters any more: `{"ids": [...]}`."""


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

    async def wait_durable(self, last_id: int) -> None:
        """Return when every reading up to this id is on disk; starts an early commit."""
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
        monotonic_s: The clock by which steps know that a sensor has fallen silent.

    Attributes:
        durable_version: Everything up to this version is on the disk.
        restored_origins: Where what was held at the start came from, oldest first, and in which version it is.
        fault: Why the disk did not take the last snapshot, None when it did.
        taken_again: Dead letters that were taken again and are not removed yet.
    """

    def __init__(
        self,
        buffer: Keeping,
        submit: Callable[[list[bytes]], Awaitable[range]],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._table: StateTable | None = None
        self._buffer = buffer
        self._submit = submit
        self._monotonic_s = monotonic_s
        self._holders: list[Holder] = []
        self._version = 0
        self.durable_version = 0
        self.restored_origins: list[tuple[Origin, int]] = []
        self.fault: str | None = None
        self.taken_again: set[int] = set()
        self._taken_again_changed = False
        self._out: list[bytes] = []
        self._handed: deque[_HandedOver] = deque()
        self._origins: list[list[Any]] = []
        self._origin_rows: deque[tuple[str, int]] = deque()
        self._unwritten: dict[str, Any] = {}
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()
        self._landed = asyncio.Condition()
        self._writing = asyncio.Lock()
        self._passages = Passages()

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
        self.taken_again = set(rows.pop(TAKEN_AGAIN, {"ids": ()})["ids"])
        self._restore_origins(rows)
        known = {holder.key: holder for holder in self._holders}
        for holder in self._holders:
            holder.step.begin(self._monotonic_s())
        for name, row in rows.items():
            key, _, series = name.partition("|")
            if key not in known or not _taken_up(known[key].step, series, row):
                self._out += map(to_json, row.get(ROW_READINGS, ()))
                self._unwritten[name] = None
                self._want(hurry=True)
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

    # -- while it runs

    @asynccontextmanager
    async def passage(self) -> AsyncIterator[None]:
        """Let something through pipelines that hold back, from their first step to `absorb`.

        Waits while too much waits for the disk.
        """
        async with self._landed:
            await self._landed.wait_for(lambda: len(self._out) < WAITING_MAX)
        async with self._passages.one():
            yield

    @asynccontextmanager
    async def _nothing_under_way(self) -> AsyncIterator[None]:
        """Nothing is half-way through a pipeline while the block runs; and no step has anything in hand."""
        async with self._passages.none():
            for holder in self._holders:
                await self._resume(holder, holder.step.overdue())
            yield

    def absorb(
        self,
        documents: Sequence[bytes],
        origin: Origin | None,
        *,
        awaited: bool,
        letter_id: int | None = None,
    ) -> int:
        """Take in that a message went through its pipeline; the version with which that becomes durable.

        Args:
            documents: What came out.
            origin: Where the message came from, if it can come again.
            awaited: Its source waits for an acknowledgement.
            letter_id: The dead letter that it was until now.
        """
        assert self._passages.in_use, "a snapshot may have been made of half of it"
        self._out += documents
        if origin is not None:
            self._origins.append([origin.client, origin.packet, origin.payload_hash])
        if letter_id is not None:
            self.taken_again.add(letter_id)
            self._taken_again_changed = True
        self._want(hurry=awaited)
        return self._version + 1

    def letters_removed(self, letter_ids: Iterable[int]) -> None:
        """These are in the table of dead letters no more."""
        self.taken_again.difference_update(letter_ids)
        self._taken_again_changed = True
        self._want(hurry=False)

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

    async def change(self, holders: Iterable[Holder], put: Callable[[], None]) -> None:
        """Go on with other steps; what those hold that are not among them comes out.

        Args:
            holders: The steps from now on. One that has the key of another goes on with what that one holds.
            put: Puts their pipelines into use.
        """
        async with self._nothing_under_way():
            others = {holder.key: holder.step for holder in holders}
            for holder in self._holders:
                successor = others.pop(holder.key, None)
                if successor is None:
                    self._let_go(holder)
                elif successor is not holder.step:
                    self._note_rows(holder)
                    successor.begin(self._monotonic_s())
                    successor.restore(holder.step.rows())
            for step in others.values():
                step.begin(self._monotonic_s())
            self._holders = list(holders)
            put()
        self._want(hurry=True)

    def _let_go(self, holder: Holder) -> None:
        names = holder.step.row_names()
        self._out += _documents(holder.step.let_go())
        self._unwritten |= {f"{holder.key}|{name}": None for name in names | holder.step.row_names()}

    async def look(self) -> None:
        """Let go what need not wait any longer."""
        for holder in self._holders:
            async with self.passage():
                if any(holder is one for one in self._holders):  # they may have changed while we waited
                    await self._resume(holder, holder.step.due(self._monotonic_s()))

    async def _resume(self, holder: Holder, given: Sequence[Reading]) -> None:
        """Bring what a step gave through the rest of its pipeline; it is nowhere else."""
        if not given:
            return
        try:
            await holder.resume(list(given))
        except BaseException:
            self._out += _documents(given)
            raise

    async def snapshot(self) -> None:
        """Make everything durable that is held or came out so far.

        Raises:
            StoreError: The disk refused; nothing is forgotten.
        """
        async with self._writing:
            await self._snapshot()

    async def settle(self) -> None:
        """Make a snapshot if there is anything that is in none yet.

        Raises:
            StoreError: The disk refused; nothing is forgotten.
        """
        async with self._writing:
            if self._wanted.is_set():
                await self._snapshot()

    async def _snapshot(self) -> None:
        assert self._table is not None, "it is restored first"
        async with self._nothing_under_way():
            hurried = self._hurry.is_set()
            self._wanted.clear()
            self._hurry.clear()
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
            handed = await self._hand_over(out) if out else None
        except BaseException:
            self._out = out + self._out
            self._unwritten = rows | self._unwritten
            self._want(hurry=True)
            raise
        self.fault = None
        if handed is not None and hurried:
            # The next snapshot comes soon: it should not have to write all of them once more.
            await self._buffer.wait_durable(handed.last_id)

    async def _hand_over(self, out: list[bytes]) -> _HandedOver:
        after_id = self._buffer.durable_id()
        ids = await self._submit(out)
        handed = _HandedOver(out, after_id, ids[-1])
        self._handed.append(handed)
        self._want(hurry=False)  # the next snapshot leaves them out, once they are durable
        return handed

    def _note_rows(self, holder: Holder) -> None:
        for series, row in holder.step.changed_rows().items():
            self._unwritten[f"{holder.key}|{series}"] = row

    def _gather(self, version: int, out: list[bytes]) -> None:
        """Add what the next snapshot writes to what the last one could not."""
        for holder in self._holders:
            self._note_rows(holder)
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
        if self._taken_again_changed:
            self._taken_again_changed = False
            self._unwritten[TAKEN_AGAIN] = {"ids": sorted(self.taken_again)} if self.taken_again else None
        if self._origins:
            origins, self._origins = self._origins, []
            name = f"{_ORIGINS}{version}"
            known = self._unwritten.get(name)
            self._unwritten[name] = [*known, *origins] if known else origins
            self._origin_rows.append((name, len(origins)))
        while sum(count for _, count in self._origin_rows) > ORIGINS_MAX and len(self._origin_rows) > 1:
            self._unwritten[self._origin_rows.popleft()[0]] = None


def _documents(readings: Iterable[Reading]) -> list[bytes]:
    return [to_json(reading.to_document()) for reading in readings]


def _taken_up(step: HoldingStep, series: str, row: Mapping[str, Any]) -> bool:
    """Whether a step could go on with one of its rows. Another version of the program may have written it."""
    try:
        step.restore({series: row})
    except (ValueError, TypeError, LookupError) as error:
        _log.warning(
            "%s cannot go on with what it held of %s (%s: %s): that is kept as it is",
            step.get_processor_name(),
            series,
            type(error).__name__,
            error,
        )
        return False
    return True
