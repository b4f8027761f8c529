"""Examples of the contract in use: run them with `python -m collectors.examples`.

Each is a complete small program; the tests run every one.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from collectors.enums import ErrorType, EventType
from collectors.interfaces import IDataSource, IProcessor
from collectors.mocks import (
    MockCollectionManager,
    MockErrorHandler,
    MockEventEmitter,
    MockPipeline,
    MockStorageBackend,
    MockStorageManager,
    Surroundings,
)
from collectors.models import CollectedData, ErrorInfo, ProcessingResult, QueryCriteria, SystemEvent


class Thermometer(IDataSource):
    """A source of one's own: a thermometer that gives `name:value`.

    Args:
        source_id: Its identifier.
        temperatures: What it will measure, one after the other.
    """

    def __init__(self, source_id: str, temperatures: list[float]) -> None:
        self._source_id = source_id
        self._temperatures = list(temperatures)
        self._connected = False

    async def connect(self) -> None:
        """Connect."""
        self._connected = True

    async def disconnect(self) -> None:
        """Disconnect."""
        self._connected = False

    async def collect(self) -> CollectedData:
        """The next measurement.

        Raises:
            ConnectionError: It is not connected.
            ValueError: There is nothing left to measure.
        """
        if not self._connected:
            raise ConnectionError(f"{self._source_id} is not connected")
        if not self._temperatures:
            raise ValueError("there is nothing left to measure")
        return CollectedData(
            source_id=self._source_id,
            timestamp=datetime.now(UTC),
            data_format="text",
            collection_method="example",
            raw_data=f"temperature:{self._temperatures.pop(0)}".encode(),
        )

    async def collect_stream(self) -> AsyncIterator[CollectedData]:
        """All measurements that are left.

        Raises:
            ConnectionError: It is not connected.
        """
        while self._temperatures:
            yield await self.collect()

    def get_source_id(self) -> str:
        """Its identifier."""
        return self._source_id


class NameValueParser(IProcessor):
    """A processor of one's own: from `name:value` to a dict."""

    async def process(self, data: Any) -> ProcessingResult:
        """Parse one sample. What is wrong with it is in the result's `error`."""
        name, _, value = bytes(data.raw_data).decode(errors="replace").partition(":")
        try:
            parsed = {"source": data.source_id, name: float(value)}
        except ValueError:
            return ProcessingResult(success=False, error=f"{value!r} is not a number")
        return ProcessingResult(success=True, processed_data=parsed)

    def get_processor_name(self) -> str:
        """Its name."""
        return "name-value"

    def validate_input(self, data: Any) -> bool:
        """Whether it is a `CollectedData`."""
        return isinstance(data, CollectedData)


async def collect_process_store() -> list[Any]:
    """All three layers, step by step: from a source through a pipeline into a backend."""
    source = Thermometer("greenhouse", [21.5, 22.0])
    backend = MockStorageBackend("memory")
    pipeline = MockPipeline()
    await pipeline.add_step(NameValueParser(), order=1)

    await source.connect()
    await backend.connect()
    try:
        async for data in source.collect_stream():
            result = await pipeline.execute(data)
            if result.success:
                await backend.store(result.final_data)
        return await backend.query(QueryCriteria(sort_by="temperature"))
    finally:
        await source.disconnect()
        await backend.disconnect()


async def managers_together() -> tuple[int, int]:
    """The managers do the same in the background, with statistics: how many were collected, how many stored."""
    surroundings = Surroundings()
    storage = MockStorageManager(surroundings)
    backend = MockStorageBackend("memory")
    await backend.connect()
    await storage.register_backend(backend, {})
    pipeline = MockPipeline("thermometers", surroundings)
    await pipeline.add_step(NameValueParser(), order=1)

    async def keep(data: CollectedData) -> None:
        result = await pipeline.execute(data)
        if result.success:
            await storage.store_data("memory", result.final_data)

    collection = MockCollectionManager(surroundings, sink=keep)
    await collection.register_source(Thermometer("greenhouse", [21.5, 22.0, 22.5]), {})
    task_id = await collection.start_collection("greenhouse")
    await collection.finished(task_id)

    collected = await collection.get_statistics("greenhouse")
    stored = await storage.get_statistics("memory")
    return collected.success_count, stored.stored_count


async def watch_events() -> list[str]:
    """Subscribe to events: which ones one sample causes, in order."""
    emitter = MockEventEmitter()
    seen: list[str] = []

    async def note(event: SystemEvent) -> None:
        seen.append(event.event_type)

    for event_type in EventType:
        await emitter.subscribe(event_type, note)
    collection = MockCollectionManager(Surroundings(events=emitter))
    await collection.register_source(Thermometer("greenhouse", [21.5]), {})
    await collection.finished(await collection.start_collection("greenhouse"))
    return seen


async def handle_errors() -> list[ErrorInfo]:
    """Register an error handler: what it is told when a sample cannot be parsed."""
    handler = MockErrorHandler([ErrorType.PROCESSING, ErrorType.VALIDATION])
    pipeline = MockPipeline("thermometers", Surroundings(handlers=[handler]))
    await pipeline.add_step(NameValueParser(), order=1)
    source = Thermometer("greenhouse", [])
    broken = CollectedData(
        source_id=source.get_source_id(),
        timestamp=datetime.now(UTC),
        data_format="text",
        collection_method="example",
        raw_data=b"temperature:warm",
    )
    await pipeline.execute(broken)
    return handler.errors


async def main() -> None:
    """Run every example."""
    for example in (collect_process_store, managers_together, watch_events, handle_errors):
        sys.stdout.write(f"{example.__name__}: {await example()}\n")


if __name__ == "__main__":
    asyncio.run(main())
