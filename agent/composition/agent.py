"""All parts of a running agent, wired. `agent.runtime` says when what happens; this says who does it."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import UTC
from typing import TYPE_CHECKING, Any

from agent.composition.dead_letters import DeadLetters
from agent.composition.deliveries import Deliveries
from agent.composition.meanwhile import Meanwhile
from agent.composition.parts import BACKEND_ID, device_id_of, open_buffer
from agent.composition.processing import Processing
from agent.composition.settings import Settings, fixed
from agent.composition.sources import Sources
from agent.composition.timekeeping import Timekeeping
from agent.dead_letters import TABLE as DEAD_LETTERS
from agent.dead_letters import Order
from agent.partition import require_mounted
from agent.permission import remedy
from agent.reload import NeedsRestart, Reload
from agent.spine.backoff import LOCAL, Backoff
from agent.spine.errors import STORAGE
from agent.spine.factories import CollectionLayerFactory, ProcessingLayerFactory, StorageLayerFactory
from agent.status.clock import clock_status
from agent.status.opening import report_while_opening
from agent.status.report import BufferStatus, ConfigurationStatus, StatusReport
from agent.status.text import span
from agent.supervisor import supervise
from agent.version import version

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from agent.config import AgentConfig
    from agent.dead_letters import Handled
    from agent.forward import Standing
    from agent.spine.spine import Spine
    from collectors.models import CollectedData

_log = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 0.4


class Agent:
    """A running agent.

    Args:
        config: What to run.
        spine: Events, errors, tasks, time.
        load: Reads the configuration again.
        path: Its file.
        log_level_given: Whether the log level was given on the command line, which then counts.
    """

    def __init__(
        self,
        config: AgentConfig,
        spine: Spine,
        load: Callable[[], AgentConfig],
        path: Path,
        *,
        log_level_given: bool = False,
    ) -> None:
        self._config = config
        self._spine = spine
        self.reload = Reload(self, load, spine, path, config.secret_files)
        self._buffer_backoff = Backoff(LOCAL, spine.rng)
        self._started_at = spine.clock.now()
        self._version = version()
        self._does_not_open: str | None = None
        self._opening: tuple[datetime, float] | None = None
        """Since when it is being opened: by the wall clock, and monotonic."""
        self._hanging_told = False
        self.device_id = device_id_of(config)
        self.buffer = open_buffer(config, clock_trusted=self._knows_the_time)
        self._storage = StorageLayerFactory(spine).create_storage_manager()
        self._time = Timekeeping(self.buffer, spine)
        collection = CollectionLayerFactory(spine, sink=self._take_in)
        self._processing = Processing(
            collection.create_metadata_parser(),
            ProcessingLayerFactory(spine).create_processing_manager(),
            self._storage,
            self.buffer,
            self._time,
            spine,
        )
        self._sources = Sources(
            collection.create_collection_manager(), self._processing, self.buffer, self._time, spine
        )
        self._meanwhile = Meanwhile(self._sources, spine)
        self._letters = DeadLetters(self.buffer, self._processing, spine)
        self._deliveries = Deliveries(self.device_id, self.buffer, self._time, spine, self._letters.to)
        self._settings = Settings(
            config,
            self.buffer,
            spine,
            self.report,
            self.reload,
            orders={"dead_letters": self._carry_out},
            log_level_given=log_level_given,
        )

    def _knows_the_time(self) -> bool:
        return self._time.watch.synchronised.is_set()

    async def _take_in(self, data: CollectedData) -> str | None:
        return None if self._meanwhile.keeps(data) else await self._processing.take_in(data)

    # Starting

    async def open_buffer(self) -> None:
        """Open the buffer, on the partition that it belongs on.

        Beneath a partition that is not mounted there is another file system: a buffer made there would be hidden once
        the right one is back, and what it holds would stay behind.

        Raises:
            BufferLocked: Another process has it.
            UnknownFormat: A newer release wrote it.
            ConnectionError: It cannot be opened now.
            OSError: Likewise.
        """
        path, clock = self._config.buffer.path, self._spine.clock
        self._opening = clock.now(), clock.monotonic_s()
        self._hanging_told = False
        try:
            await asyncio.to_thread(require_mounted, path)
            await self.buffer.connect()
        except (ConnectionError, OSError) as error:
            what_to_do = await asyncio.to_thread(remedy, error, path)
            self._opening = None
            if what_to_do:
                raise ConnectionError(f"{error}: {what_to_do}") from error
            raise
        self._opening = None

    @property
    def buffer_is_opening(self) -> bool:
        """Whether an attempt to open it is under way, and has not come to an end."""
        return self._opening is not None

    async def buffer_hangs(self) -> None:
        """Tell everybody that the buffer has not opened so far, and listen meanwhile to who speaks only once."""
        assert self._opening is not None, "nothing is waited for"
        since, since_s = self._opening
        path = self._config.buffer.path
        waited = span(self._spine.clock.monotonic_s() - since_s)
        self._does_not_open = (
            f"it is still being opened, since {since.astimezone(UTC):%H:%M:%S} UTC ({waited}): the disk that holds {path} "
            "does not answer (`dmesg` says more: check it, replace it), or is checked after damage, which takes "
            "minutes; it goes on by itself"
        )
        await self._listen_meanwhile()
        if not self._hanging_told:
            self._hanging_told = True
            error = TimeoutError(f"the buffer at {path}: {self._does_not_open}")
            await self._spine.errors.report(error, layer=STORAGE, operation="open", critical=True)

    async def _listen_meanwhile(self) -> None:
        await self._meanwhile.begin(self._config)
        self._settings.serve_status_while_opening()

    async def buffer_failed(self, error: Exception) -> float:
        """Tell everybody that the buffer does not open, and listen meanwhile to who speaks only once.

        Returns:
            How long to wait before the next attempt, in seconds.
        """
        self._does_not_open = f"it does not open: {error}"
        await self._listen_meanwhile()
        await self._spine.errors.report(error, layer=STORAGE, operation="open", critical=True)
        return self._buffer_backoff.delay_s(self._spine.clock.monotonic_s())

    async def start(self) -> None:
        """Start everything. The buffer is connected before."""
        await self._time.begin()
        await self._storage.register_backend(self.buffer, {})
        await self._processing.begin(self._config)
        self._processing.run()
        await self._sources.inform_early()
        self._meanwhile.hand_over(self._processing, self._time.boot)
        self._settings.begin()
        self._time.run()
        await self._letters.begin()
        await self._letters.use(self._config)
        supervise(self._spine, "remove", DEAD_LETTERS, self._letters.run, layer=STORAGE)
        self._sources.expect(self._config)
        self._deliveries.expect(self._config.upstream)
        self._settings.serve_status()
        self._does_not_open = None
        await self._settings.end_status_while_opening()
        await self._deliveries.apply(self._config.upstream)
        self._sources.run()
        await self._begin_sources()
        self._settings.take_changes()

    async def _begin_sources(self) -> None:
        """Begin with all sources that are not running; one that cannot be used keeps no other from it."""
        await self._sources.begin_new(
            self._config, await self._sources.make_new(self._config, whatever_works=True)
        )

    def standing(self) -> Standing:
        """How far what has come in has got."""
        return self._processing.intake.standing(hindered=self.buffer.fault is not None)

    async def _carry_out(self, order: Any) -> Handled:
        return await self._letters.carry_out(Order.model_validate(order))

    # Changing over

    async def apply(self, config: AgentConfig) -> None:
        """Change over to another configuration; what is the same in both goes on undisturbed.

        Raises:
            NeedsRestart: Something differs that cannot be changed while it runs; nothing was changed.
            TimeoutError: Something is in process for too long, on a disk that hangs.
        """
        now, then = fixed(self._config), fixed(config)
        if changed := [key for key, value in now.items() if then[key] != value]:
            raise NeedsRestart(changed)
        new = await self._sources.make_new(config)
        await self._sources.end_others(config)
        try:
            await self._processing.apply(config)
        except BaseException:
            await self._begin_sources()
            raise
        await self._letters.use(config)
        await self._deliveries.apply(config.upstream)
        await self._settings.apply(config)
        await self._sources.begin_new(config, new)
        self._config = config

    # Stopping

    async def settle(self) -> None:
        """Commit what has come in, and acknowledge it to its sources."""
        await self._processing.settle()
        await self._time.watch.close()

    async def commit(self) -> None:
        """Make durable what has come in."""
        await self._processing.commit()

    async def disconnect_sources(self) -> None:
        """Stop collecting."""
        await self._sources.close()
        if (lost := self._meanwhile.lost()) is not None:
            _log.warning("stopping before the buffer could take them: %s", lost)

    async def drain(self, deadline_s: float) -> None:
        """Deliver what can be delivered in that time."""
        await self._deliveries.drain(deadline_s)

    async def stop(self) -> None:
        """Stop everything that runs in the background; after this nobody uses the buffer."""
        await self._spine.tasks.cancel_all(_STOP_TIMEOUT_S)

    def backlog(self) -> int | None:
        """Readings that some upstream has not acknowledged; None while there is no upstream that knows."""
        return self._deliveries.backlog()

    # Status

    async def report(self) -> StatusReport:
        """How the agent does."""
        if self._does_not_open is not None:
            return report_while_opening(
                self._config,
                self.device_id,
                self._version,
                self._started_at,
                self._configuration_status(),
                self._does_not_open + self._meanwhile.told(),
                self._sources.status(),
            )
        return StatusReport(
            version=self._version,
            device_id=self.device_id,
            pid=os.getpid(),
            started_at=self._started_at,
            clock=clock_status(self._time.watch, self._time.chronicle),
            sources=self._sources.status(),
            buffer=await self._buffer_status(),
            upstreams=self._deliveries.status(),
            configuration=self._configuration_status(),
            errors=self._spine.errors.reported,
        )

    def _configuration_status(self) -> ConfigurationStatus:
        return ConfigurationStatus(
            loaded_at=self.reload.loaded.at,
            refused=self.reload.loaded.refused,
            needs_restart=list(self.reload.loaded.needs_restart),
        )

    async def _buffer_status(self) -> BufferStatus:
        statistics = await self._storage.get_statistics(BACKEND_ID)
        database = self.buffer.database
        capacity, wear = await asyncio.to_thread(lambda: (database.capacity(), database.wear()))
        return BufferStatus(
            path=str(self._config.buffer.path),
            store_id=self.buffer.store_id,
            stored=statistics.stored_count,
            usage_bytes=statistics.storage_usage_bytes,
            dead_letters=await asyncio.to_thread(self._count_dead_letters),
            lost=self.buffer.database.ledger.lost(),
            fault=self.buffer.fault,
            bound_bytes=capacity.bound_bytes,
            undelivered_bytes=capacity.undelivered_bytes,
            bytes_per_s=capacity.bytes_per_s,
            left_s=capacity.left_s,
            written_bytes=wear.bytes_total,
            written_bytes_per_day=wear.bytes_per_day,
            card_life_years=wear.life_years,
        )

    def _count_dead_letters(self) -> int:
        return len(self.buffer.database.table(DEAD_LETTERS))
