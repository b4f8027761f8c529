"""Mocks of the collection layer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from collectors.enums import CollectionStatus, ErrorType, EventType, TaskStatus
from collectors.interfaces import ICollectionLayerFactory, ICollectionManager, IDataSource, IMetadataParser
from collectors.metadata_keys import QUALITY
from collectors.mocks.crosscutting import Surroundings
from collectors.mocks.faults import Faults
from collectors.models import CollectedData, CollectionStatistics, CollectionTask, ParsedMetadata
from collectors.registration import SourceRegistration, check_source


class MockDataSource(Faults, IDataSource):
    """A source that gives the same sample again and again; its stream ends after `stream_length`.

    Args:
        source_id: Its identifier.
        data: The bytes of every sample.
        data_format: What the samples say they are.
        stream_length: How many samples a stream gives.
        metadata: The metadata of every sample.
    """

    def __init__(
        self,
        source_id: str,
        data: bytes = b"mock data",
        *,
        data_format: str = "bytes",
        stream_length: int = 3,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.source_id = source_id
        self.data = data
        self.data_format = data_format
        self.stream_length = stream_length
        self.metadata = metadata or {}
        self.connected = False
        self.acknowledged: list[Any] = []
        """The tokens it was given back, in order."""

    async def connect(self) -> None:
        """Connect.

        Raises:
            ConnectionError: If so injected.
        """
        self._enter("connect")
        self.connected = True

    async def disconnect(self) -> None:
        """Disconnect. Harmless if not connected.

        Raises:
            ConnectionError: If so injected.
        """
        self._enter("disconnect")
        self.connected = False

    async def collect(self) -> CollectedData:
        """One sample.

        Raises:
            ConnectionError: It is not connected.
            ValueError: If so injected.
        """
        self._enter("collect")
        return self._sample("poll")

    async def collect_stream(self) -> AsyncIterator[CollectedData]:
        """As many samples as `stream_length` says.

        Raises:
            ConnectionError: It is not connected.
        """
        self._enter("collect_stream")
        for _ in range(self.stream_length):
            yield self._sample("stream")

    def get_source_id(self) -> str:
        """The identifier given at construction."""
        return self.source_id

    def acknowledge(self, token: Any) -> None:
        """Note the token."""
        self._enter("acknowledge")
        self.acknowledged.append(token)

    def _sample(self, method: str) -> CollectedData:
        if not self.connected:
            raise ConnectionError(f"source {self.source_id!r} is not connected")
        return CollectedData(
            source_id=self.source_id,
            timestamp=datetime.now(UTC),
            data_format=self.data_format,
            collection_method=method,
            raw_data=self.data,
            metadata=dict(self.metadata),
        )


class MockMetadataParser(Faults, IMetadataParser):
    """Finds format, method and size in every sample, and the metadata that came with it."""

    async def parse(self, collected_data: CollectedData) -> ParsedMetadata:
        """Parse the metadata of a sample.

        Raises:
            ValueError: It is not a `CollectedData`.
        """
        self._enter("parse")
        if not isinstance(collected_data, CollectedData):
            raise ValueError(f"not a CollectedData: {type(collected_data).__name__}")
        metadata = dict(collected_data.metadata)
        quality = metadata.pop(QUALITY, {})
        faults = [] if _is_quality(quality) else [f"{QUALITY}: must be numbers by name, not {quality!r}"]
        return ParsedMetadata(
            schema={
                "data_format": collected_data.data_format,
                "collection_method": collected_data.collection_method,
                "size_bytes": len(collected_data.raw_data),
            },
            quality_indicators={} if faults else quality,
            source_attributes={"source_id": collected_data.source_id, **metadata},
            is_valid=not faults,
            validation_errors=faults,
        )

    async def validate(self, metadata: ParsedMetadata) -> bool:
        """Whether the metadata is complete and says nothing against the sample."""
        self._enter("validate")
        return (
            metadata.is_valid
            and not metadata.validation_errors
            and "data_format" in metadata.schema
            and bool(metadata.source_attributes.get("source_id"))
        )


def _is_quality(quality: object) -> bool:
    return isinstance(quality, dict) and all(
        isinstance(name, str) and isinstance(value, float | int) and abs(value) <= _QUALITY_MAX
        for name, value in quality.items()
    )


_QUALITY_MAX = 1e300
"""No indicator is near it; what is beyond, or not a number, is refused."""


class MockCollectionManager(Faults, ICollectionManager):
    """Collects each started source once through, in a task of its own, and keeps what it gave.

    It does not try again: a source that fails ends its task with CollectionStatus.ERROR.

    Args:
        surroundings: What it reports to.
        sink: Takes every sample; what it raises counts as a failure.
    """

    def __init__(
        self,
        surroundings: Surroundings | None = None,
        *,
        sink: Callable[[CollectedData], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__()
        self.surroundings = surroundings or Surroundings()
        self.collected: list[CollectedData] = []
        """Everything that was collected, in order."""
        self.sources: dict[str, tuple[IDataSource, SourceRegistration]] = {}
        self.statistics: dict[str, CollectionStatistics] = {}
        self.tasks: dict[str, CollectionTask] = {}
        self._sink = sink
        self._running: dict[str, asyncio.Task[None]] = {}

    async def register_source(self, source: IDataSource, config: dict[str, Any]) -> str:
        """Register a source; returns its id.

        Raises:
            ValueError: The configuration is invalid, or the id is taken; nothing is registered.
        """
        self._enter("register_source")
        try:
            source_id, registration = check_source(source, config, self.sources)
        except ValueError as error:
            await self._report(error, "register_source", ErrorType.CONFIGURATION)
            raise
        self.sources[source_id] = (source, registration)
        self.statistics[source_id] = CollectionStatistics()
        return source_id

    async def unregister_source(self, source_id: str) -> None:
        """Stop the source's collection, if any, and forget the source.

        Raises:
            KeyError: There is no such source.
        """
        self._enter("unregister_source")
        self._known(source_id)
        for task_id, task in self.tasks.items():
            if task.source_id == source_id:
                await self._stop(task_id)
        del self.sources[source_id]
        del self.statistics[source_id]

    async def start_collection(self, source_id: str) -> str:
        """Start collecting in the background; returns a task id.

        Raises:
            KeyError: There is no such source.
            RuntimeError: It is already being collected.
        """
        self._enter("start_collection")
        self._known(source_id)
        if any(self.tasks[task_id].source_id == source_id for task_id in self._running):
            raise RuntimeError(f"source {source_id!r} is already being collected")
        task_id = await self.surroundings.tasks.create_task("collection")
        await self.surroundings.tasks.update_status(task_id, TaskStatus.RUNNING)
        now = datetime.now(UTC)
        self.tasks[task_id] = CollectionTask(
            task_id=task_id,
            source_id=source_id,
            status=CollectionStatus.RUNNING,
            created_at=now,
            started_at=now,
        )
        running = asyncio.create_task(self._collect(source_id, task_id), name=f"mock-collection:{source_id}")
        self._running[task_id] = running
        running.add_done_callback(lambda _: self._ended(task_id))
        return task_id

    async def stop_collection(self, task_id: str) -> None:
        """Stop a collection task. Stopping a stopped one is harmless.

        Raises:
            KeyError: There is no such task.
        """
        self._enter("stop_collection")
        if task_id not in self.tasks:
            raise KeyError(f"no collection task {task_id!r}")
        await self._stop(task_id)

    async def get_task_status(self, task_id: str) -> CollectionStatus:
        """What a collection task is doing.

        Raises:
            KeyError: There is no such task.
        """
        self._enter("get_task_status")
        if task_id not in self.tasks:
            raise KeyError(f"no collection task {task_id!r}")
        return self.tasks[task_id].status

    async def get_statistics(self, source_id: str) -> CollectionStatistics:
        """What was collected from a source.

        Raises:
            KeyError: There is no such source.
        """
        self._enter("get_statistics")
        self._known(source_id)
        return self.statistics[source_id].model_copy()

    async def finished(self, task_id: str) -> None:
        """Wait until a collection task has ended.

        Raises:
            KeyError: There is no such task.
        """
        if task_id not in self.tasks:
            raise KeyError(f"no collection task {task_id!r}")
        if (running := self._running.get(task_id)) is not None:
            await asyncio.wait({running})

    def _known(self, source_id: str) -> None:
        if source_id not in self.sources:
            raise KeyError(f"no source {source_id!r}")

    async def _stop(self, task_id: str) -> None:
        if (running := self._running.get(task_id)) is not None:
            running.cancel()
            await asyncio.wait({running})

    def _ended(self, task_id: str) -> None:
        task = self.tasks[task_id]
        if self._running.pop(task_id).cancelled():
            task.status = CollectionStatus.STOPPED
            self.surroundings.tasks.finish(task_id, error="stopped")
        task.stopped_at = datetime.now(UTC)

    async def _collect(self, source_id: str, task_id: str) -> None:
        source, _ = self.sources[source_id]
        operation = "connect"
        try:
            await source.connect()
            operation = "collect"
            async for data in source.collect_stream():
                await self._accept(source_id, task_id, data)
            await source.disconnect()
        except Exception as error:  # noqa: BLE001 (reported; it is the end of this task)
            self.statistics[source_id].failure_count += 1
            self.tasks[task_id].status = CollectionStatus.ERROR
            self.surroundings.tasks.finish(task_id, error=str(error) or type(error).__name__)
            await self._report(error, operation, ErrorType.CONNECTION, source_id=source_id)
        else:
            self.tasks[task_id].status = CollectionStatus.STOPPED
            self.surroundings.tasks.finish(task_id)

    async def _accept(self, source_id: str, task_id: str, data: CollectedData) -> None:
        context = {"source_id": source_id, "task_id": task_id}
        await self.surroundings.tell(EventType.COLLECTION_START, "collection_manager", **context)
        self.collected.append(data)
        await self.surroundings.tell(EventType.COLLECTION_COMPLETE, "collection_manager", **context)
        statistics = self.statistics[source_id]
        begun_s = asyncio.get_running_loop().time()
        try:
            if self._sink is not None:
                await self._sink(data)
        except Exception as error:  # noqa: BLE001 (reported; the next sample follows)
            statistics.failure_count += 1
            await self._report(error, "deliver", ErrorType.CONNECTION, source_id=source_id)
            return
        elapsed_s = asyncio.get_running_loop().time() - begun_s
        before = statistics.success_count
        statistics.average_processing_time = (statistics.average_processing_time * before + elapsed_s) / (
            before + 1
        )
        statistics.success_count = before + 1
        statistics.last_collection_time = data.timestamp

    async def _report(self, error: Exception, operation: str, error_type: ErrorType, **details: Any) -> None:
        layer = "configuration" if error_type is ErrorType.CONFIGURATION else "collection"
        await self.surroundings.report(
            error, layer=layer, operation=operation, error_type=error_type, **details
        )


class MockCollectionLayerFactory(ICollectionLayerFactory):
    """Makes mocks of the collection layer.

    Args:
        surroundings: What they report to.
    """

    def __init__(self, surroundings: Surroundings | None = None) -> None:
        self.surroundings = surroundings or Surroundings()

    def create_collection_manager(self) -> MockCollectionManager:
        """A mock collection manager."""
        return MockCollectionManager(self.surroundings)

    def create_metadata_parser(self) -> MockMetadataParser:
        """A mock metadata parser."""
        return MockMetadataParser()
