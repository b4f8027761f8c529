"""All parts of a running agent, wired. `agent.runtime` says when what happens; this says who does it."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from typing import TYPE_CHECKING

from agent.buffer_watch import BufferWatch, lost_by_reason
from agent.composition.parts import (
    BACKEND_ID,
    create_source,
    device_id_of,
    find_codec,
    open_buffer,
    read_values,
    registration_of,
    socket_path,
)
from agent.composition.pipelines import Pipelines, pipeline_id_of
from agent.composition.source_memory import SourceMemory
from agent.dead_letters import TABLE as DEAD_LETTERS
from agent.held import TABLE as HELD
from agent.held import Held
from agent.intake import READINGS, Intake
from agent.processors.decode import Decode
from agent.resumption import newest_readings
from agent.spine.backoff import LOCAL, Backoff
from agent.spine.errors import COLLECTION, STORAGE, SYNC
from agent.spine.factories import CollectionLayerFactory, ProcessingLayerFactory, StorageLayerFactory
from agent.status.clock import clock_status
from agent.status.report import BufferStatus, SourceStatus, StatusReport, UpstreamStatus
from agent.status.socket import serve_status
from agent.status.sources import source_status
from agent.supervisor import supervise
from agent.sync.dead_letters import BufferDeadLetters
from agent.sync.registry import create_sender
from agent.timekeeping import Boot, Chronicle, ClockWatch, Correction, recognise_boot
from agent.timekeeping.synchronisation import clock_ran_on_battery
from agent.version import version
from buffer import StoreError
from collectors.interfaces import Acknowledging, Remembering, Resuming
from drivers.codecs import CODECS

if TYPE_CHECKING:
    from agent.config import AgentConfig, SourceConfig, UpstreamConfig
    from agent.spine.spine import Spine
    from agent.sync.sender import Sender
    from buffer import Batch
    from collectors.interfaces import IDataSource
    from collectors.models import CollectedData, Reading

_log = logging.getLogger(__name__)

_LET_GO_S = 1.0
_STOP_TIMEOUT_S = 0.4


class Agent:
    """A running agent.

    Args:
        config: What to run.
        spine: Events, errors, tasks, time.
    """

    def __init__(self, config: AgentConfig, spine: Spine) -> None:
        self._config = config
        self._spine = spine
        self._buffer_backoff = Backoff(LOCAL, spine.rng)
        self._started_at = spine.clock.now()
        self._version = version()
        self._boot = 0
        self._senders: dict[str, Sender[Batch]] = {}
        self._sources: dict[str, IDataSource] = {}
        self.device_id = device_id_of(config)
        self.buffer = open_buffer(config)
        self._storage = StorageLayerFactory(spine).create_storage_manager()
        self._processing = ProcessingLayerFactory(spine).create_processing_manager()
        formats = frozenset({*CODECS.own, *(source.codec.type for source in config.source)})
        collection = CollectionLayerFactory(spine, sink=self._take_in, formats=formats)
        self._collection = collection.create_collection_manager()
        self._held = Held(self.buffer, self._submit_held)
        self._holding: dict[str, frozenset[str]] = {}
        self._intake = Intake(
            parser=collection.create_metadata_parser(),
            processing=self._processing,
            storage=self._storage,
            buffer=self.buffer,
            backend_id=BACKEND_ID,
            pipeline_of={
                source.id: pipeline_id_of(config, source.id) for source in config.source
            }.__getitem__,
            held=self._held,
            holding=self._holding,
            clock=spine.clock,
        )

    async def _take_in(self, data: CollectedData) -> str | None:
        return await self._intake(data)

    async def _submit_held(self, documents: list[bytes]) -> range:
        return await self._storage.submit(BACKEND_ID, documents, source="pipelines", vouched=True)

    # Starting

    async def buffer_failed(self, error: Exception) -> float:
        """Report that the buffer does not open; how long to wait before the next attempt, in seconds."""
        await self._spine.errors.report(error, layer=STORAGE, operation="open", critical=True)
        return self._buffer_backoff.delay_s(self._spine.clock.monotonic_s())

    async def start(self) -> None:
        """Start everything. The buffer is connected before."""
        await self._begin_timekeeping()
        await self._storage.register_backend(self.buffer, {})
        await self._make_pipelines()
        sources = [create_source(self._config, source, self._spine.clock) for source in self._config.source]
        if any(isinstance(source, Acknowledging) for source in sources):
            await self._load_redeliveries()
        for source in sources:
            self._sources[source.get_source_id()] = source
            if isinstance(source, Remembering):
                source.use_memory(SourceMemory(self.buffer.state("device_state"), source.get_source_id()))
        await self._resume_sources()
        supervise(self._spine, "acknowledge", BACKEND_ID, self._intake.run, layer=STORAGE)
        if self._holding or self._held.waiting:
            supervise(self._spine, "hold", BACKEND_ID, self._held.run, layer=STORAGE)
            supervise(self._spine, "let_go", BACKEND_ID, self._let_go, layer=STORAGE)
        watch = BufferWatch(
            self.buffer, self.buffer.database.ledger, str(self._config.buffer.path), self._spine
        )
        supervise(self._spine, "watch", BACKEND_ID, watch.run, layer=STORAGE)
        supervise(self._spine, "clock", "watch", self.clock_watch.run, layer=COLLECTION)
        supervise(self._spine, "status", "socket", self._serve_status, layer=COLLECTION)
        await self._forget_removed_upstreams()
        for upstream in self._config.upstream:
            deliver = partial(self._deliver, upstream)
            supervise(self._spine, "sync", upstream.name, deliver, layer=SYNC)
        supervise(self._spine, "watch", "silence", self._collection.watch, layer=COLLECTION)
        for source_config, source in zip(self._config.source, sources, strict=True):
            await self._start_source(source, registration_of(source_config))

    async def _begin_timekeeping(self) -> None:
        """Find out which boot this is, and how good the clock."""
        boot = await self._recognise_boot()
        self._boot = boot.count
        self.chronicle = Chronicle(self.buffer.state, boot.count)
        await self._note_last_boot()
        if boot.is_new:
            await self.chronicle.began(battery=await asyncio.to_thread(clock_ran_on_battery))
        self.clock_watch = ClockWatch(self._spine.clock, self.chronicle)
        await self.clock_watch.look()

    async def _note_last_boot(self) -> None:
        """It lasted until the newest reading at least. A disk that cannot be read costs that knowledge, no start."""
        try:
            newest = await self.buffer.recent(1)
        except (StoreError, OSError) as error:
            await self._spine.errors.report(error, layer=STORAGE, operation="load_newest", critical=True)
            return
        for record in newest:
            boot, up_ns = record.document.get("boot"), record.document.get("up")
            if isinstance(boot, int) and isinstance(up_ns, int) and boot:
                self.chronicle.alive(boot, up_ns)

    async def _recognise_boot(self) -> Boot:
        """Which boot this is; unknown (0) on a disk that takes nothing."""
        try:
            return await recognise_boot(self.buffer.state("device_state"))
        except (StoreError, OSError) as error:
            await self._spine.errors.report(error, layer=STORAGE, operation="count_boot", critical=True)
            return Boot(0, is_new=False)

    async def _load_redeliveries(self) -> None:
        """A disk that cannot be read costs duplicates, no start."""
        try:
            await self._intake.load()
        except (StoreError, OSError) as error:
            await self._spine.errors.report(error, layer=STORAGE, operation="load_origins", critical=True)

    async def _resume_sources(self) -> None:
        """Let sources whose device can send readings again know what is stored.

        A disk that cannot be read costs duplicates, no start.
        """
        resuming = {
            source_id: source
            for source_id, source in self._sources.items()
            if isinstance(source, Resuming) and source.resume_readings
        }
        if not resuming:
            return
        kept: dict[str, list[Reading]] = {}
        try:
            wanted = {source_id: source.resume_readings for source_id, source in resuming.items()}
            kept = await newest_readings(self.buffer, wanted, table=READINGS, boot=self._boot)
        except (StoreError, OSError) as error:
            await self._spine.errors.report(error, layer=STORAGE, operation="resume_sources", critical=True)
        for source in self._config.source:
            if source.id in resuming:
                resuming[source.id].resume(kept.get(source.id, []), read_values(source.codec.codec()))

    async def _forget_removed_upstreams(self) -> None:
        """Keep nothing for an upstream that is configured no more: else its readings would stay for ever.

        One that comes back is sent everything that is still here; what it had is recognised by its keys.
        """
        database = self.buffer.database
        for name in set(database.consumers()) - {upstream.name for upstream in self._config.upstream}:
            _log.warning("upstream %s is not configured any more: nothing is kept for it", name)
            try:
                await asyncio.to_thread(database.forget_consumer, name)
            except StoreError as error:
                await self._spine.errors.report(error, layer=STORAGE, operation="forget_upstream")

    async def _make_pipelines(self) -> None:
        tags = {source.id: source.tags for source in self._config.source if source.tags}
        own_time = frozenset(source.id for source in self._config.source if source.time == "arrival")
        decode = Decode(
            find_codec(self._config),
            boot=self._boot,
            clock_quality=self.clock_watch.quality,
            source_tags=tags,
            own_time=own_time,
        )
        # In a thread, since it imports the steps.
        pipelines = await asyncio.to_thread(Pipelines, self._config, self._processing, decode)
        await pipelines.make()
        self._holding.update(pipelines.after_holding)
        try:
            await self._held.restore(self.buffer.state(HELD), pipelines.holders(self._intake.take_late))
        except (StoreError, OSError) as error:
            await self._spine.errors.report(error, layer=STORAGE, operation="restore_held", critical=True)

    async def _let_go(self) -> None:
        """Let steps give what need not wait any longer, for ever."""
        while True:
            await self._held.look(self._spine.clock.monotonic_s())
            await asyncio.sleep(_LET_GO_S)

    async def _start_source(self, source: IDataSource, registration: dict[str, object]) -> None:
        if isinstance(source, Acknowledging):
            self._intake.acknowledge_to(source.get_source_id(), source)
        await self._collection.register_source(source, registration)
        await self._collection.start_collection(source.get_source_id())

    async def _deliver(self, config: UpstreamConfig) -> None:
        """Deliver to one upstream, until cancelled.

        Raises:
            DiskFault: The disk does not take the name of a new upstream.
        """
        consumer = await asyncio.to_thread(self.buffer.consumer, config.name)
        dead_letters = BufferDeadLetters(self.buffer)
        timing = Correction(self.chronicle, self.clock_watch, self._spine.clock)
        sender = create_sender(
            config.name, config.options, self.device_id, consumer, dead_letters, self._spine, timing
        )
        self._senders[config.name] = sender
        await sender.run()

    async def _serve_status(self) -> None:
        await serve_status(socket_path(self._config), self.report)

    # Stopping

    async def settle(self) -> None:
        """Commit what has come in, and acknowledge it to its sources."""
        if self._holding:
            await self._held.snapshot()
        await self.buffer.flush()
        await self._intake.settled()
        await self.clock_watch.close()

    async def disconnect_sources(self) -> None:
        """Stop collecting."""
        await self._collection.close()

    async def drain(self, deadline_s: float) -> None:
        """Deliver what can be delivered in that time."""
        async with asyncio.TaskGroup() as group:
            for name, sender in self._senders.items():
                group.create_task(sender.drain(deadline_s), name=f"drain:{name}")

    async def stop(self) -> None:
        """Stop everything that runs in the background; after this nobody uses the buffer."""
        await self._spine.tasks.cancel_all(_STOP_TIMEOUT_S)

    def backlog(self) -> int:
        """Readings that some upstream has not acknowledged."""
        return max((sender.status.backlog for sender in self._senders.values()), default=0)

    # Status

    async def report(self) -> StatusReport:
        """How the agent does."""
        return StatusReport(
            version=self._version,
            device_id=self.device_id,
            pid=os.getpid(),
            started_at=self._started_at,
            clock=clock_status(self.clock_watch, self.chronicle),
            sources=[self._source_status(source) for source in self._config.source],
            buffer=await self._buffer_status(),
            upstreams=[
                self._upstream_status(upstream.name, upstream.driver) for upstream in self._config.upstream
            ],
            errors=self._spine.errors.reported,
        )

    def _source_status(self, config: SourceConfig) -> SourceStatus:
        collection = self._collection
        return source_status(
            config,
            self._sources[config.id],
            collection.link(config.id),
            collection.hearing(config.id),
            self._intake,
        )

    async def _buffer_status(self) -> BufferStatus:
        statistics = await self._storage.get_statistics(BACKEND_ID)
        return BufferStatus(
            path=str(self._config.buffer.path),
            store_id=self.buffer.store_id,
            stored=statistics.stored_count,
            usage_bytes=statistics.storage_usage_bytes,
            dead_letters=await asyncio.to_thread(self._count_dead_letters),
            lost=lost_by_reason(self.buffer.database.ledger),
            fault=self.buffer.fault,
        )

    def _count_dead_letters(self) -> int:
        return len(self.buffer.database.table(DEAD_LETTERS))

    def _upstream_status(self, name: str, driver: str) -> UpstreamStatus:
        sender = self._senders.get(name)
        if sender is None:
            return UpstreamStatus(name=name, driver=driver, state="starting")
        status = sender.status
        return UpstreamStatus(
            name=name,
            driver=driver,
            state=status.state,
            backlog=status.backlog,
            in_flight=status.in_flight,
            delivered=status.delivered,
            set_aside=status.dead_letters,
            last_delivery=status.last_delivery,
            oldest=status.oldest,
            last_error=status.last_error,
            holding_back=status.holding_back,
        )
