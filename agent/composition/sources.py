"""The sources of a running agent, collected from as the configuration says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.composition.parts import create_source, read_values, registration_of
from agent.composition.source_memory import SourceMemory
from agent.composition.unusable import UnusableSource
from agent.intake import READINGS
from agent.resumption import newest_readings
from agent.spine.errors import COLLECTION, STORAGE
from agent.status.report import SourceStatus
from agent.status.sources import source_status
from agent.supervisor import supervise
from buffer import StoreError
from collectors.interfaces import Acknowledging, CatchingUp, Remembering, Resuming

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.composition.processing import Processing
    from agent.composition.timekeeping import Timekeeping
    from agent.config import AgentConfig, SourceConfig
    from agent.spine.collection import CollectionManager
    from agent.spine.spine import Spine
    from buffer import TinyDBBuffer
    from collectors.interfaces import IDataSource
    from collectors.models import Reading


@dataclass(frozen=True, slots=True)
class NewSource:
    """A source with its configuration."""

    config: SourceConfig
    source: IDataSource


class Sources:
    """Collects from all sources of the configuration.

    Args:
        manager: Collects.
        processing: Takes what is collected, and acknowledges it.
        buffer: Knows what is stored of a source.
        time: Which boot this is.
        spine: Errors, tasks, clocks.
    """

    def __init__(
        self,
        manager: CollectionManager,
        processing: Processing,
        buffer: TinyDBBuffer,
        time: Timekeeping,
        spine: Spine,
    ) -> None:
        self._manager = manager
        self._processing = processing
        self._buffer = buffer
        self._time = time
        self._spine = spine
        self._configured: tuple[SourceConfig, ...] = ()
        self._running: dict[str, NewSource] = {}
        self._redeliveries_known = False

    def run(self) -> None:
        """Watch for silence in the background."""
        supervise(self._spine, "watch", "silence", self._manager.watch, layer=COLLECTION)

    async def end_others(self, config: AgentConfig) -> None:
        """End what is collected and is not, or not so, in a configuration."""
        self._configured = config.source
        wanted = {source.id: source for source in config.source}
        for source_id, running in list(self._running.items()):
            if wanted.get(source_id) != running.config or isinstance(running.source, UnusableSource):
                await self._manager.unregister_source(source_id)
                del self._running[source_id]

    async def make_new(self, config: AgentConfig, *, whatever_works: bool = False) -> list[NewSource]:
        """Make each source of a configuration that is not collected from, or not so; changes nothing yet.

        Args:
            config: The configuration.
            whatever_works: One that cannot be made keeps none of the others from it. Else that holds only for those
                that could not be used before.

        Raises:
            Exception: One cannot be made; whatever its driver raises.
        """
        unusable = [one.config for one in self._running.values() if isinstance(one.source, UnusableSource)]
        running = {source_id: one.config for source_id, one in self._running.items()}

        def made(source: SourceConfig) -> NewSource:
            try:
                return NewSource(source, create_source(config, source, self._spine.clock))
            except Exception as error:
                if whatever_works or source in unusable:
                    return NewSource(source, UnusableSource(source.id, error))
                raise

        new = [each for each in config.source if running.get(each.id) != each or each in unusable]
        return await asyncio.to_thread(lambda: list(map(made, new)))

    def expect(self, config: AgentConfig) -> None:
        """Tell of the sources of a configuration from now on, though they are not collected from yet."""
        self._configured = config.source

    async def begin_early(self, config: AgentConfig) -> dict[str, IDataSource]:
        """Begin to collect before the buffer is open, from those sources that need nothing of it; which these are.

        What can be had again once it is (a broker keeps it for us), and who has to know before what is stored, waits.
        """
        self._configured = config.source
        made = [
            one
            for one in await self.make_new(config, whatever_works=True)
            if not _needs_the_buffer(one.source)
        ]
        for one in made:
            await self._begin(one)
        return {one.config.id: one.source for one in made if not isinstance(one.source, UnusableSource)}

    async def inform_early(self) -> None:
        """Let those that were begun early know what is stored."""
        await self._inform(list(self._running.values()))

    async def begin_new(self, config: AgentConfig, made: Sequence[NewSource]) -> None:
        """Begin to collect from the sources of a configuration that were made for it."""
        self._configured = config.source
        if not self._redeliveries_known and any(isinstance(one.source, Acknowledging) for one in made):
            self._redeliveries_known = True
            await self._processing.load_redeliveries()
        await self._inform(made)
        for one in made:
            await self._begin(one)

    async def _inform(self, made: Sequence[NewSource]) -> None:
        for one in made:
            if isinstance(one.source, Remembering):
                memory = SourceMemory(self._buffer.state("device_state"), one.config.id)
                try:
                    one.source.use_memory(memory)
                except Exception as error:  # noqa: BLE001 (whatever a driver raises: without a memory it does what it can)
                    await self._spine.errors.report(
                        error,
                        layer=COLLECTION,
                        operation="use_memory",
                        critical=True,
                        source_id=one.config.id,
                    )
        await self._resume(made)

    async def _begin(self, one: NewSource) -> None:
        """Begin to collect from a source. One that does not even let itself be registered fails from now on."""
        if self._running.pop(one.config.id, None) is not None:  # it could not be used so far
            await self._manager.unregister_source(one.config.id)
        try:
            await self._register(one)
        except ValueError as error:
            await self._register(NewSource(one.config, UnusableSource(one.config.id, error)))

    async def _register(self, one: NewSource) -> None:
        if isinstance(one.source, Acknowledging):
            self._processing.intake.acknowledgements.give_to(one.config.id, one.source)
        await self._manager.register_source(one.source, registration_of(one.config))
        self._running[one.config.id] = one
        await self._manager.start_collection(one.config.id)

    async def _resume(self, made: Iterable[NewSource]) -> None:
        """Let sources whose device can send readings again know what is stored.

        A disk that cannot be read costs duplicates, no start; neither does a driver that fails at it.
        """
        resuming = [
            (one.config, one.source)
            for one in made
            if isinstance(one.source, Resuming) and one.source.resume_readings
        ]
        if not resuming:
            return
        kept: dict[str, list[Reading]] = {}
        try:
            wanted = {config.id: source.resume_readings for config, source in resuming}
            kept = await newest_readings(self._buffer, wanted, table=READINGS, boot=self._time.boot)
        except (StoreError, OSError) as error:
            await self._spine.errors.report(error, layer=STORAGE, operation="resume_sources", critical=True)
        for config, source in resuming:
            try:
                source.resume(kept.get(config.id, []), read_values(config.codec.codec()))
            except Exception as error:  # noqa: BLE001 (whatever a driver raises: it goes on as after a first start)
                await self._spine.errors.report(
                    error, layer=COLLECTION, operation="resume_sources", critical=True, source_id=config.id
                )

    async def close(self) -> None:
        """Stop collecting."""
        await self._manager.close()

    def status(self) -> list[SourceStatus]:
        """How each that is configured does, in the order of the file."""
        return [self._status(config) for config in self._configured]

    def _status(self, config: SourceConfig) -> SourceStatus:
        running = self._running.get(config.id)
        if running is None:
            return SourceStatus(source_id=config.id, driver=config.driver, state="starting")
        link, hearing = self._manager.link(config.id), self._manager.hearing(config.id)
        return source_status(running.config, running.source, link, hearing, self._processing.intake)


def _needs_the_buffer(source: IDataSource) -> bool:
    """Whether it has to be open before the source connects."""
    if isinstance(source, Acknowledging):
        return True
    resumes = isinstance(source, Resuming) and source.resume_readings > 0
    return (resumes or isinstance(source, Remembering)) and not isinstance(source, CatchingUp)
