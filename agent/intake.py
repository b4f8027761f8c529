"""The way of one frame or message through the device: recognised, parsed, processed, kept, acknowledged.

Every `CollectedData` ends in exactly one of four ways, and only then is its source told:

- its readings are durable in the buffer;
- a rule dropped it (a step of the pipeline gave no reading);
- it is durable as a dead letter, with its reason;
- it is a second delivery of what is kept already.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from agent.acknowledgements import Acknowledgements
from agent.dead_letters import TABLE as DEAD_LETTERS
from agent.dead_letters import dead_letter, unprocessed
from agent.encoding import encoded
from agent.forward import Standing
from agent.held import TABLE as HELD
from agent.passages import Passages
from agent.redelivery import CAPACITY as REMEMBERED
from agent.redelivery import RedeliveryIndex, SessionNotes
from buffer import BufferFull, StoreError
from collectors import metadata_keys
from collectors.enums import ClockQuality
from collectors.models import Origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

    from agent.held import Held
    from agent.redelivery import StateTable
    from agent.spine.processing import ProcessingManager
    from agent.spine.storage import StorageManager
    from collectors.clock import Clock
    from collectors.interfaces import IMetadataParser
    from collectors.models import CollectedData, PipelineResult, Reading

_log = logging.getLogger(__name__)

READINGS = "readings"
_ORIGINS_SOUGHT = REMEMBERED
"""Newest records that are searched for origins at the start (9 us each: 0.3 s)."""
_PIECE_RECORDS = 1000
"""A message may hold more readings than may wait for the disk: so many are handed over at a time."""

_PAUSE_TIMEOUT_S = 5.0


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
class _Outcome:
    """What became of one item."""

    documents: list[bytes]
    """The readings that came out, as they are kept."""
    letter: bytes | None = None
    """The dead letter of what could not be processed."""
    garbage: str | None = None
    """Why it could not."""
    was_held: bool = False
    """A step has taken it in that holds readings back."""


class _Disk:
    """Says what is durable: of the buffer's tables, and of what pipelines hold, by its version."""

    def __init__(self, buffer: Keeping, held: Held) -> None:
        self._buffer = buffer
        self._held = held

    def durable_id(self, table: str) -> int:
        """Everything up to this id is durable."""
        return self._held.durable_version if table == HELD else self._buffer.durable_id(table)

    async def wait_durable(self, last_id: int, *, table: str) -> None:
        """Wait until everything up to an id is durable."""
        if table == HELD:
            await self._held.durable(last_id)
        else:
            await self._buffer.wait_durable(last_id, table=table)


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
        held: Held,
        holding: Mapping[str, frozenset[str]],
        clock: Clock,
        taken: Callable[[], tuple[int, ClockQuality]] = lambda: (0, ClockQuality.SYNCED),
    ) -> None:
        """Wire it.

        Args:
            parser: Reads metadata.
            processing: Has the pipelines.
            storage: Takes readings.
            buffer: Takes dead letters, and says what is durable.
            backend_id: The buffer's.
            pipeline_of: The pipeline of a source.
            held: Keeps what steps hold back.
            holding: The pipelines with such steps, and the steps in each that come after the first of them.
            clock: Dates dead letters.
            taken: Which boot this is (0: unknown), and how good the wall clock is now.
        """
        self._parser = parser
        self._processing = processing
        self._storage = storage
        self._buffer = buffer
        self._backend_id = backend_id
        self._pipeline_of = pipeline_of
        self._held = held
        self._holding = holding
        self._clock = clock
        self._taken = taken
        self._passages = Passages()
        self._disk = _Disk(buffer, held)
        self.acknowledgements = Acknowledgements(self._disk)
        """Those that are due to sources."""
        self._last_id = {READINGS: 0, DEAD_LETTERS: 0, HELD: 0}
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
        for origin, version in self._held.restored_origins:
            if version >= self._sessions.since(origin.client, HELD):
                self.redeliveries.restore(origin, HELD, version)

    def _learn(self, table: str, record_id: int, document: dict[str, Any]) -> None:
        match document.get("origin"):
            case [str(client), int(packet), str(payload_hash)] if 0 < packet < 65536:  # noqa: PLR2004 (MQTT's range)
                if record_id < self._sessions.since(client, table):
                    return  # of a session that the broker has forgotten
                origin = Origin.model_construct(client=client, packet=packet, payload_hash=payload_hash)
                with suppress(ValueError):  # no hexadecimal digest: not from one of our drivers
                    self.redeliveries.restore(origin, table, record_id)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Nothing is in process while the block runs; what comes in waits.

        Raises:
            TimeoutError: What is in process takes too long, on a disk that hangs.
        """
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(_PAUSE_TIMEOUT_S):
                await stack.enter_async_context(self._passages.none())
            yield

    async def __call__(self, data: CollectedData) -> str | None:
        """Take one frame or message; why it was garbage, None when it was not."""
        await self._passages.enter()
        try:
            return await self._take(data)
        finally:
            self._passages.leave()

    async def _take(self, data: CollectedData) -> str | None:
        metadata = data.metadata
        token = metadata.get(metadata_keys.ACK_TOKEN)
        origin = metadata.get(metadata_keys.ORIGIN)
        if origin is not None:
            again = metadata.get(metadata_keys.REDELIVERED, False)
            if metadata.get(metadata_keys.NEW_SESSION):
                await self._begin_session(origin.client)
            elif again and (kept := self.redeliveries.find(origin)) is not None:
                self.recognised[data.source_id] += 1
                self.acknowledgements.owe(data.source_id, token, (kept.table, kept.last_id))
                return None
            if self.redeliveries.deliver(origin, again=again):
                await self._note(self._sessions.distrust(origin.client))
        pipeline_id = self._pipeline_of(data.source_id)
        if pipeline_id in self._holding:
            async with self._held.passage():
                outcome = await self._process(data, pipeline_id)
                need = await self._keep(outcome, data)
        else:
            outcome = await self._process(data, pipeline_id)
            need = await self._keep(outcome, data)
        if origin is not None and (outcome.documents or outcome.letter or outcome.was_held):
            self.redeliveries.remember(origin, *need)
        self.acknowledgements.owe(data.source_id, token, need)
        return outcome.garbage

    async def _keep(self, outcome: _Outcome, data: CollectedData) -> tuple[str, int]:
        """Hand over what became of an item; the table in which that is kept, and up to which id."""
        if outcome.letter is not None:
            self.dead_letters[data.source_id] += 1
            return DEAD_LETTERS, await self._keep_letter(outcome.letter)
        if outcome.was_held:
            origin = data.metadata.get(metadata_keys.ORIGIN)
            awaited = data.metadata.get(metadata_keys.ACK_TOKEN) is not None
            version = self._last_id[HELD] = self._held.absorb(outcome.documents, origin, awaited=awaited)
            return HELD, version
        # What a rule dropped needs nothing durable of its own: it is acknowledged in its turn.
        return READINGS, await self._keep_readings(outcome.documents, data.source_id)

    async def _begin_session(self, client: str) -> None:
        self.redeliveries.forget(client)
        since = {
            table: max(last_id, self._disk.durable_id(table)) + 1 for table, last_id in self._last_id.items()
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

    async def _process(self, data: CollectedData, pipeline_id: str) -> _Outcome:
        """What becomes of one item."""
        garbage = data.metadata.get(metadata_keys.FRAME_ERROR)
        if garbage is not None:
            return self._set_aside(data, "framing", garbage)
        try:
            parsed = await self._parser.parse(data)
        except ValueError as error:
            return self._set_aside(data, "metadata", str(error))
        if not parsed.is_valid:
            return self._set_aside(data, "metadata", "; ".join(parsed.validation_errors))
        result = await self._processing.execute(pipeline_id, data)
        if result.success:
            was_held = pipeline_id in self._holding
            return _Outcome(await encoded(result.final_data or []), was_held=was_held)
        if result.failed_step in self._holding.get(pipeline_id, ()):
            # An earlier step has taken it in already: what failed is what had come out of that one.
            again = data.metadata.get(metadata_keys.LETTER)
            await self._set_aside_held(pipeline_id, result, [], again)
            return _Outcome([], garbage=_reason(result), was_held=True)
        return self._set_aside(data, result.failed_step or "pipeline", _reason(result))

    async def take_again(self, frames: Sequence[CollectedData], letter_id: int) -> str | None:
        """Take what a dead letter holds as if it had just come; why it is one still, if it is.

        With the next snapshot of what is held it is durably no dead letter any more.

        Args:
            frames: What is in it. Where one of several is garbage, that becomes a dead letter of its own.
            letter_id: The dead letter.
        """
        async with self._passages.one(), self._held.passage():
            outcomes = [await self._process(data, self._pipeline_of(data.source_id)) for data in frames]
            letters = [outcome.letter for outcome in outcomes if outcome.letter is not None]
            if len(letters) == len(outcomes):
                return outcomes[0].garbage
            for letter in letters:
                await self._buffer.wait_durable(await self._keep_letter(letter), table=DEAD_LETTERS)
            for data, outcome in zip(frames, outcomes, strict=True):
                origin = data.metadata.get(metadata_keys.ORIGIN) if outcome.was_held else None
                self._held.absorb(outcome.documents, origin, awaited=True, letter_id=letter_id)
            return None

    async def take_rest_again(
        self, pipeline_id: str, step_id: str | None, readings: list[Reading], letter_id: int
    ) -> str | None:
        """Take readings that are a dead letter of one step again; why they are one still, if they are.

        Args:
            pipeline_id: The pipeline of their source.
            step_id: The step before the one that could not process them; None: it is not there any more, and they are kept
                as they are.
            readings: What is in it.
            letter_id: The dead letter.
        """
        async with self._passages.one(), self._held.passage():
            if step_id is not None:
                result = await self._processing.resume(pipeline_id, step_id, readings)
                if not result.success and len(result.step_results) == 1:
                    return _reason(result)
                if not result.success:
                    await self._set_aside_held(pipeline_id, result, readings, letter_id)
                readings = result.final_data or []
            self._held.absorb(await encoded(readings), None, awaited=True, letter_id=letter_id)
            return None

    async def take_late(self, pipeline_id: str, step_id: str | None, readings: list[Reading]) -> None:
        """Bring what a step gives later than it took it through the rest of its pipeline.

        It is never paused: what a step has given is nowhere else until this is done.

        Args:
            pipeline_id: The pipeline of their source.
            step_id: The step in it; None when it is not in it any more: then they are kept as they are.
            readings: What it gives.
        """
        if step_id is not None:
            result = await self._processing.resume(pipeline_id, step_id, readings)
            if not result.success:
                await self._set_aside_held(pipeline_id, result, readings)
            readings = result.final_data or []
        self._held.absorb(await encoded(readings), None, awaited=False)

    async def _set_aside_held(
        self,
        pipeline_id: str,
        result: PipelineResult,
        given: list[Reading],
        again: int | None = None,
    ) -> None:
        """Keep what a step after one that holds back could not process; durably, since no row stands for it any more.

        Args:
            pipeline_id: In which pipeline.
            result: Whose last step failed.
            given: What its first step was given.
            again: The dead letter that it came of.
        """
        before: list[Reading] = given
        if len(result.step_results) > 1:
            before = result.step_results[-2].processed_data or []
        for source in {reading.source for reading in before}:
            self.dead_letters[source] += 1
        letter = unprocessed(
            before,
            t=self._clock.now().timestamp(),
            stage=result.failed_step or "pipeline",
            pipeline_id=pipeline_id,
            reason=_reason(result),
            again=again,
        )
        letter_id = await self._keep_letter(letter)
        await self._buffer.wait_durable(letter_id, table=DEAD_LETTERS)

    def _set_aside(self, data: CollectedData, stage: str, reason: str) -> _Outcome:
        boot, clock = data.metadata.get(metadata_keys.TAKEN) or self._taken()
        letter = dead_letter(data, stage=stage, reason=reason, boot=boot, clock=clock)
        return _Outcome([], letter=letter, garbage=reason)

    async def _keep_readings(self, documents: list[bytes], source_id: str) -> int:
        """Hand readings to the buffer, waiting while it is full; the id of the last one so far."""
        for first in range(0, len(documents), _PIECE_RECORDS):
            piece = documents[first : first + _PIECE_RECORDS]
            ids = await self._storage.submit(self._backend_id, piece, source=source_id, vouched=True)
            self._last_id[READINGS] = ids[-1]
        return self._last_id[READINGS]

    async def _keep_letter(self, letter: bytes) -> int:
        ids = await self._append_dead_letters([letter])
        self._last_id[DEAD_LETTERS] = ids[-1]
        return ids[-1]

    async def _append_dead_letters(self, documents: list[bytes]) -> range:
        while True:
            try:
                return self._buffer.append(documents, table=DEAD_LETTERS)
            except BufferFull:
                await self._buffer.room(table=DEAD_LETTERS)

    def standing(self, *, hindered: bool) -> Standing:
        """How far things have come; `hindered` is said of the buffer by whoever knows."""
        durable = {table: self._disk.durable_id(table) for table in self._last_id}
        in_memory = any(self._last_id[table] > durable[table] for table in durable)
        under_way = self._passages.passing > 0 or self.acknowledgements.are_due or in_memory
        return Standing(under_way, (self._passages.ended, *durable.values()), hindered)


def _reason(result: PipelineResult) -> str:
    return (result.step_results[-1].error if result.step_results else None) or "no reason given"
