"""Every implementation of every interface, for the contract's tests to run on.

To put a further one under test, add it to the table of its interface; a test that needs more than the
interface gets it from the rig around the implementation.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agent.processors.deadband import Deadband, DeadbandOptions
from agent.processors.decode import Decode
from agent.processors.range import Range, RangeOptions
from agent.processors.scale import Scale, ScaleOptions
from agent.processors.tag import Tag, TagOptions
from agent.spine import (
    BackoffPolicy,
    CollectionLayerFactory,
    CollectionManager,
    LogErrorHandler,
    MetadataParser,
    ProcessingLayerFactory,
    ProcessingManager,
    StorageLayerFactory,
    StorageManager,
    TaskTracker,
    open_spine,
)
from buffer import TinyDBBuffer
from collectors import (
    CollectedData,
    CollectionStatus,
    EventType,
    IErrorHandler,
    IEventEmitter,
    IMetadataParser,
    IProcessor,
    IStorageBackend,
    ITaskTracker,
    Reading,
    SystemClock,
    SystemEvent,
    TaskStatus,
)
from collectors.examples import NameValueParser
from collectors.mocks import (
    MockCollectionLayerFactory,
    MockCollectionManager,
    MockErrorHandler,
    MockEventEmitter,
    MockMetadataParser,
    MockProcessingLayerFactory,
    MockProcessingManager,
    MockProcessor,
    MockStorageBackend,
    MockStorageLayerFactory,
    MockStorageManager,
    MockTaskTracker,
    Surroundings,
)
from tests.rigs.codecs import without_options

ENDED = {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED}
PATIENCE_S = 5.0


# The managers of one program, with all that is around them


@dataclass
class World:
    """Managers that work together, whose events and errors can be seen."""

    collection: CollectionManager | MockCollectionManager
    processing: ProcessingManager | MockProcessingManager
    storage: StorageManager | MockStorageManager
    events: IEventEmitter
    tasks: ITaskTracker
    add_handler: Callable[[IErrorHandler], Any]
    sink: Callable[[CollectedData], Awaitable[None]]
    seen: list[SystemEvent] = field(default_factory=list)
    """Every event that `watch` saw, in order."""

    async def take(self, data: CollectedData) -> None:
        """What the collection manager hands its samples to."""
        await self.sink(data)

    async def watch(self, *event_types: EventType) -> None:
        """Note events in `seen`."""
        for event_type in event_types or tuple(EventType):
            await self.events.subscribe(event_type, self._note)

    async def _note(self, event: SystemEvent) -> None:
        self.seen.append(event)

    async def finished(self, task_id: str) -> TaskStatus:
        """How a background task ended."""
        async with asyncio.timeout(PATIENCE_S):
            while (info := await self.tasks.get_task_info(task_id)).status not in ENDED:
                await asyncio.sleep(0)
        return info.status

    async def collect_all(self, source_id: str) -> None:
        """Collect until the source has no more. What gives up at a failure is started again."""
        while True:
            task_id = await self.collection.start_collection(source_id)
            await self.finished(task_id)
            await asyncio.sleep(0)
            if await self.collection.get_task_status(task_id) is not CollectionStatus.ERROR:
                return

    async def delivered(self, count: int) -> list[SystemEvent]:
        """The events seen, once there are so many; a moment later, so that one too many is seen as well."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.seen) < count:
                await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        return self.seen


async def _discard(_data: CollectedData) -> None:
    pass


async def _no_time(_seconds: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def _mock_world() -> AsyncIterator[World]:
    surroundings = Surroundings()
    collection = MockCollectionManager(surroundings)
    world = World(
        collection=collection,
        processing=MockProcessingManager(surroundings),
        storage=MockStorageManager(surroundings),
        events=surroundings.events,
        tasks=surroundings.tasks,
        add_handler=surroundings.handlers.append,
        sink=_discard,
    )
    collection._sink = world.take
    yield world


@asynccontextmanager
async def _agent_world() -> AsyncIterator[World]:
    async with open_spine(rng=random.Random(1), close_timeout_s=0.1) as spine:
        world: World

        async def take(data: CollectedData) -> None:
            await world.take(data)

        collection = CollectionManager(
            spine, sink=take, backoff=BackoffPolicy(first_s=0.01, base_s=0.01, cap_s=0.01), sleep=_no_time
        )
        world = World(
            collection=collection,
            processing=ProcessingManager(spine),
            storage=StorageManager(spine),
            events=spine.events,
            tasks=spine.tasks,
            add_handler=spine.errors.add_handler,
            sink=_discard,
        )
        yield world


WORLDS: dict[str, Callable[[], AbstractAsyncContextManager[World]]] = {
    "mocks": _mock_world,
    "agent": _agent_world,
}


# Storage back ends, each in a directory of its own


@asynccontextmanager
async def _mock_backend(_directory: Path) -> AsyncIterator[IStorageBackend]:
    yield MockStorageBackend("store")


@asynccontextmanager
async def _buffer(directory: Path) -> AsyncIterator[IStorageBackend]:
    yield TinyDBBuffer("store", directory / "buffer", device_id="device", machine_id="machine")


BACKENDS: dict[str, Callable[[Path], AbstractAsyncContextManager[IStorageBackend]]] = {
    "MockStorageBackend": _mock_backend,
    "TinyDBBuffer": _buffer,
}


@asynccontextmanager
async def open_backend(name: str) -> AsyncIterator[IStorageBackend]:
    """A new, empty back end, not connected yet."""
    with TemporaryDirectory() as directory:
        async with BACKENDS[name](Path(directory)) as backend:
            try:
                yield backend
            finally:
                await backend.disconnect()


# Processors, each with an input that it takes


def collected(raw_data: bytes = b'{"temperature": 21.5}', data_format: str = "json") -> CollectedData:
    """A sample."""
    return CollectedData(
        source_id="sensor",
        timestamp=datetime.now(UTC),
        data_format=data_format,
        collection_method="test",
        raw_data=raw_data,
    )


def readings() -> list[Reading]:
    """A list of one reading."""
    return [Reading(source="sensor", t=1.0, values={"temperature": 21.5})]


PROCESSORS: dict[str, tuple[Callable[[], IProcessor], Callable[[], Any]]] = {
    "MockProcessor": (lambda: MockProcessor("mock"), lambda: {"temperature": 21.5}),
    "NameValueParser": (NameValueParser, lambda: collected(b"temperature:21.5", "text")),
    "Decode": (lambda: Decode(without_options), collected),
    "Scale": (lambda: Scale(ScaleOptions(metric="temperature", factor=2.0)), readings),
    "Range": (lambda: Range(RangeOptions(metric="temperature", high=20.0)), readings),
    "Deadband": (lambda: Deadband(DeadbandOptions(metric="temperature", width=0.1)), readings),
    "Tag": (lambda: Tag(TagOptions(tags={"site": "north"})), readings),
}


# What all layers share


PARSERS: dict[str, Callable[[], IMetadataParser]] = {
    "MockMetadataParser": MockMetadataParser,
    "MetadataParser": MetadataParser,
    "MetadataParser of known formats": lambda: MetadataParser(frozenset({"json"})),
}

TRACKERS: dict[str, Callable[[], ITaskTracker]] = {
    "MockTaskTracker": MockTaskTracker,
    "TaskTracker": lambda: TaskTracker(SystemClock()),
}

HANDLERS: dict[str, Callable[[], IErrorHandler]] = {
    "MockErrorHandler": MockErrorHandler,
    "LogErrorHandler": lambda: LogErrorHandler(SystemClock()),
}


@asynccontextmanager
async def _mock_emitter() -> AsyncIterator[IEventEmitter]:
    yield MockEventEmitter()


@asynccontextmanager
async def _agent_emitter() -> AsyncIterator[IEventEmitter]:
    async with open_spine() as spine:
        yield spine.events


EMITTERS: dict[str, Callable[[], AbstractAsyncContextManager[IEventEmitter]]] = {
    "MockEventEmitter": _mock_emitter,
    "EventEmitter": _agent_emitter,
}


@asynccontextmanager
async def _mock_factories() -> AsyncIterator[tuple[Any, Any, Any]]:
    yield MockCollectionLayerFactory(), MockProcessingLayerFactory(), MockStorageLayerFactory()


@asynccontextmanager
async def _agent_factories() -> AsyncIterator[tuple[Any, Any, Any]]:
    async with open_spine() as spine:
        yield CollectionLayerFactory(spine), ProcessingLayerFactory(spine), StorageLayerFactory(spine)


FACTORIES: dict[str, Callable[[], AbstractAsyncContextManager[tuple[Any, Any, Any]]]] = {
    "mocks": _mock_factories,
    "agent": _agent_factories,
}
