"""The way of one frame or message through the device: recognised, parsed, processed, kept, acknowledged.

Every `CollectedData` ends in exactly one of four ways, and only then is its source told:

- its readings are durable in the buffer;
- a rule dropped it (a step of the pipeline gave no reading);
- it is durable as a dead letter, with its reason;
- it is a second delivery of what is kept already.

Nothing here waits for a commit item by item: deliveries that want an acknowledgement queue up with the
id of their last record, and `run` acknowledges them in the order they came, as commits return. The queue
is as long as what the sources have in flight, which their connections bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pydantic_core import to_json

from agent.dead_letters import TABLE as DEAD_LETTERS
from agent.dead_letters import dead_letter
from agent.redelivery import CAPACITY as REMEMBERED
from agent.redelivery import RedeliveryIndex, SessionNotes
from buffer import BufferFull, StoreError
from collectors import metadata_keys
from collectors.models import Origin, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Sequence

    from agent.redelivery import StateTable
    from agent.spine.processing import ProcessingManager
    from agent.spine.storage import StorageManager
    from collectors.interfaces import Acknowledging, IMetadataParser
    from collectors.models import CollectedData

_log = logging.getLogger(__name__)

READINGS = "readings"
_ORIGINS_SOUGHT = REMEMBERED
"""Newest records that are searched for origins at the start (9 us each: 0.3 s)."""
_PIECE_RECORDS = 1000
"""A message may hold more readings than may wait for the disk: so many are handed over at a time."""

_TURN_READINGS = 500
"""So many are encoded before others have their turn on the event loop: 1.5 ms."""


class Keeping(Protocol):
    """What the intake needs of the buffer beside storing."""

    def append(self, documents: Sequence[bytes], *, table: str) -> range:
        """Take records; their ids, not yet durable. Raises BufferFull."""
        ...

    async def room(self, *, table: str) -> None:
        """Wait until `append` takes something for this table."""
        ...

    async def wait_durable(self, last_id: int, *, table: str) -> None:
        """Wait until everything up to an id is durable."""
        ...

    def durable_id(self, table: str) -> int:
        """Everything up to this id is durable."""
        ...

    def state(self, name: str) -> StateTable:
        """A small durable table."""
        ...

    async def visit_recent(self, n: int, visit: Callable[[int, dict[str, Any]], None], *, table: str) -> None:
        """Call `visit(id, document)` in a thread for each of the newest records, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class _Owed:
    """An acknowledgement that is due once a record is durable."""

    table: str
    last_id: int
    source_id: str
    token: Hashable


class Intake:
    """The sink of every source."""

    def __init__(
        self,
        *,
        parser: IMetadataParser,
        processing: ProcessingManager,
        storage: StorageManager,
        buffer: Keeping,
        backend_id: str,
        pipeline_of: Callable[[str], str],
    ) -> None:
        self._parser = parser
        self._processing = processing
        self._storage = storage
        self._buffer = buffer
        self._backend_id = backend_id
        self._pipeline_of = pipeline_of
        self._sources: dict[str, Acknowledging] = {}
        self._owed: deque[_Owed] = deque()
        self._wanted = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._last_id = {READINGS: 0, DEAD_LETTERS: 0}
        self.redeliveries = RedeliveryIndex()
        self.dead_letters: Counter[str] = Counter()
        """Dead letters since the start, by source."""
        self.recognised: Counter[str] = Counter()
        """Second deliveries that were acknowledged and not stored again, by source."""

    async def load(self) -> None:
        """Learn the newest origins from the buffer, so that redeliveries after a restart are recognised."""
        for client in self._sessions.distrusted():
            self.redeliveries.distrust(client)
        for table in (DEAD_LETTERS, READINGS):
            await self._buffer.visit_recent(_ORIGINS_SOUGHT, partial(self._learn, table), table=table)

    def _learn(self, table: str, record_id: int, document: dict[str, Any]) -> None:
        match document.get("origin"):
            case [str(client), int(packet), str(payload_hash)] if 0 < packet < 65536:  # noqa: PLR2004 (MQTT's range)
                if record_id < self._sessions.since(client, table):
                    return  # of a session that the broker has forgotten
                origin = Origin.model_construct(client=client, packet=packet, payload_hash=payload_hash)
                with suppress(ValueError):  # no hexadecimal digest: not from one of our drivers
                    self.redeliveries.restore(origin, table, record_id)

    def acknowledge_to(self, source_id: str, source: Acknowledging) -> None:
        """Tell this source when what it delivered is safe."""
        self._sources[source_id] = source

    async def __call__(self, data: CollectedData) -> str | None:
        """Take one frame or message; why it was garbage, None when it was not."""
        metadata = data.metadata
        token = metadata.get(metadata_keys.ACK_TOKEN)
        origin = metadata.get(metadata_keys.ORIGIN)
        if origin is not None:
            again = metadata.get(metadata_keys.REDELIVERED, False)
            if metadata.get(metadata_keys.NEW_SESSION):
                await self._begin_session(origin.client)
            elif again and (kept := self.redeliveries.find(origin)) is not None:
                self.recognised[data.source_id] += 1
                self._owe(kept.table, kept.last_id, data.source_id, token)
                return None
            if self.redeliveries.deliver(origin, again=again):
                await self._note(self._sessions.distrust(origin.client))
        table, documents, garbage = await self._documents_of(data)
        # What a rule dropped needs nothing durable of its own: it is acknowledged in its turn.
        last_id = self._last_id[table]
        for first in range(0, len(documents), _PIECE_RECORDS):
            last_id = await self._keep(table, documents[first : first + _PIECE_RECORDS], data.source_id)
        if documents and origin is not None:
            self.redeliveries.remember(origin, table, last_id)
        self._owe(table, last_id, data.source_id, token)
        return garbage

    async def _begin_session(self, client: str) -> None:
        self.redeliveries.forget(client)
        since = {
            table: max(last_id, self._buffer.durable_id(table)) + 1
            for table, last_id in self._last_id.items()
        }
        await self._note(self._sessions.begin(client, since))

    async def _note(self, writing: Coroutine[Any, Any, None]) -> None:
        try:
            await writing
        except (StoreError, OSError) as error:
            # Known until the next start all the same; the disk's trouble is told by those who lose by it.
            _log.warning("what was found out about an MQTT session could not be written down: %s", error)

    @property
    def _sessions(self) -> SessionNotes:
        return SessionNotes(self._buffer.state("device_state"))

    async def _documents_of(self, data: CollectedData) -> tuple[str, list[bytes], str | None]:
        """The records to keep of one item, the table they belong in, and why it was garbage."""
        garbage = data.metadata.get(metadata_keys.FRAME_ERROR)
        if garbage is not None:
            return self._set_aside(data, "framing", garbage)
        try:
            parsed = await self._parser.parse(data)
        except ValueError as error:
            return self._set_aside(data, "metadata", str(error))
        if not parsed.is_valid:
            return self._set_aside(data, "metadata", "; ".join(parsed.validation_errors))
        result = await self._processing.execute(self._pipeline_of(data.source_id), data)
        if not result.success:
            reason = result.step_results[-1].error if result.step_results else None
            return self._set_aside(data, result.failed_step or "pipeline", reason or "no reason given")
        readings: list[Reading] = result.final_data or []
        documents: list[bytes] = []
        for first in range(0, len(readings), _TURN_READINGS):
            if first:
                await asyncio.sleep(0)
            documents += map(to_json, _documents(readings, first, first + _TURN_READINGS))
        return READINGS, documents, None

    def _set_aside(self, data: CollectedData, stage: str, reason: str) -> tuple[str, list[bytes], str]:
        self.dead_letters[data.source_id] += 1
        return DEAD_LETTERS, [dead_letter(data, stage=stage, reason=reason)], reason

    async def _keep(self, table: str, documents: list[bytes], source_id: str) -> int:
        """Hand records to the buffer, waiting while it is full; the id of the last one."""
        if table == READINGS:
            ids = await self._storage.submit(self._backend_id, documents, source=source_id, vouched=True)
        else:
            ids = await self._append_dead_letters(documents)
        self._last_id[table] = ids[-1]
        return ids[-1]

    async def _append_dead_letters(self, documents: list[bytes]) -> range:
        while True:
            try:
                return self._buffer.append(documents, table=DEAD_LETTERS)
            except BufferFull:
                await self._buffer.room(table=DEAD_LETTERS)

    def _owe(self, table: str, last_id: int, source_id: str, token: Hashable | None) -> None:
        if token is not None:
            self._owed.append(_Owed(table, last_id, source_id, token))
            self._settled.clear()
            self._wanted.set()

    async def run(self) -> None:
        """Acknowledge what has become durable, until cancelled."""
        while True:
            while self._owed:  # first, since what was owed when an earlier run failed is owed still
                # Waiting for the newest of a table lets one commit serve all that came before it.
                newest = {owed.table: owed.last_id for owed in self._owed}
                table = self._owed[0].table
                await self._buffer.wait_durable(newest[table], table=table)
                self._acknowledge_durable()
            self._settled.set()
            await self._wanted.wait()
            self._wanted.clear()

    def _acknowledge_durable(self) -> None:
        while self._owed and self._owed[0].last_id <= self._buffer.durable_id(self._owed[0].table):
            owed = self._owed.popleft()
            self._sources[owed.source_id].acknowledge(owed.token)

    async def settled(self) -> None:
        """Wait until every acknowledgement that was due has been given."""
        await self._settled.wait()


def _documents(readings: Sequence[Reading], first: int, end: int) -> list[dict[str, Any]]:
    """Some of a message's readings as they are kept.

    The last one alone says where all came from: should we be killed between two commits, a message of which
    only a part is durable is not recognised when it comes again, and so is kept whole.
    """
    kept = [reading.to_document() for reading in readings[first:end]]
    for document in kept[:-1] if end >= len(readings) else kept:
        document.pop("origin", None)
    return kept
