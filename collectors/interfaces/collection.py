"""The collection layer: where data comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence

    from collectors.enums import CollectionStatus
    from collectors.models import CollectedData, CollectionStatistics, ParsedMetadata, Reading


class IDataSource(ABC):
    """A source of data: a port, a subscription, a radio."""

    @abstractmethod
    async def connect(self) -> None:
        """Establish the connection.

        Raises:
            ConnectionError: The connection failed.
        """

    @abstractmethod
    async def disconnect(self) -> None:
        """End the connection. Harmless after a failed or missing connect.

        Raises:
            ConnectionError: The disconnection failed.
        """

    @abstractmethod
    async def collect(self) -> CollectedData:
        """Collect a single sample.

        Raises:
            ConnectionError: The source is not connected.
            ValueError: What was collected is invalid.
        """

    @abstractmethod
    def collect_stream(self) -> AsyncIterator[CollectedData]:
        """Collect samples as they come: `async for data in source.collect_stream()`.

        Implementations are async generators (`async def` with `yield`).

        Raises:
            ConnectionError: The source is not connected, or the connection was lost.
        """

    @abstractmethod
    def get_source_id(self) -> str:
        """The unique identifier of this source."""


@runtime_checkable
class Acknowledging(Protocol):
    """A source that can be told that what it delivered is safe (beside `IDataSource`).

    Each `CollectedData` of such a source carries a token (`metadata_keys.ACK_TOKEN`). When every reading
    made from it is durable, or it was dropped by a rule or set aside as a dead letter, durably,
    `acknowledge` is called with it. A token belongs to one connection and dies with it.
    """

    def acknowledge(self, token: Hashable) -> None:
        """Acknowledge one delivery. Does nothing when the token's connection has ended."""
        ...


class Memory(Protocol):
    """A few notes of one source, small and durable."""

    def recall(self) -> dict[str, Any]:
        """What was noted last; empty when nothing was."""
        ...

    async def note(self, notes: dict[str, Any]) -> None:
        """Put these in the place of all earlier notes; durable on return, as far as the disk takes anything."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A source that has to know after a restart what it did before (beside `IDataSource`)."""

    def use_memory(self, memory: Memory) -> None:
        """Take its memory; called once, before the first connect or as `CatchingUp` says. Without one it does what it can."""
        ...


@runtime_checkable
class Resuming(Protocol):
    """A source that can ask its device for readings again, and so has to know which are stored (beside `IDataSource`)."""

    @property
    def resume_readings(self) -> int:
        """How many of its newest stored readings it has to know; 0 when it is not to ask."""
        ...

    def resume(
        self,
        kept: Sequence[Reading],
        reads: Callable[[bytes], Sequence[Mapping[str, bool | int | float | str]]],
    ) -> None:
        """Take them; called once, before the first connect or as `CatchingUp` says. Without it the source asks for nothing.

        Args:
            kept: Its newest stored readings, oldest first; `up` is 0 where it is of another boot of this device.
            reads: What a frame of it says: the values of each reading in it. Raises ValueError.
        """
        ...


@runtime_checkable
class CatchingUp(Protocol):
    """A source that can be heard before it is told what is stored (beside `Remembering` or `Resuming`).

    That is so while the buffer does not open: what such a source delivers waits in memory. Once the buffer is open, the source is
    told (`use_memory`, `resume`) while it is connected. Then `catch_up` is called with each item that it has delivered since it
    was made, in order, those that come meanwhile included; and at the end, once, `caught_up`.
    """

    def catch_up(self, data: CollectedData) -> CollectedData | None:
        """What to make of an item that was delivered before; None when it is stored already."""
        ...

    def caught_up(self) -> None:
        """Everything that was delivered so far has been through `catch_up`."""
        ...


@runtime_checkable
class Reappearing(Protocol):
    """A source that can tell that what it could not reach has come back (beside `IDataSource`)."""

    async def reappeared(self) -> None:
        """Return when connecting again is worth a try before its time; may never return. Called between two attempts."""
        ...


@runtime_checkable
class Remarking(Protocol):
    """A source that may work, and yet not as it was asked to (beside `IDataSource`)."""

    @property
    def remarks(self) -> Sequence[str]:
        """What people should know about the present connection; empty when all is as it should be."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A source that counts what goes wrong (beside `IDataSource`)."""

    @property
    def troubles(self) -> Mapping[str, int]:
        """How often each kind of trouble was met since the source was made; kinds that were not met are left out."""
        ...


@runtime_checkable
class Listening(Protocol):
    """A source that knows something about silence (beside `IDataSource`)."""

    def usual_silence_s(self) -> float | None:
        """How long nothing may come, as far as the source has learned; None when it has not."""
        ...

    def explain_silence(self) -> str:
        """What may be behind it when nothing comes though the link is up: a question or two; empty when it does not know."""
        ...


class IMetadataParser(ABC):
    """Finds out what a sample says about itself."""

    @abstractmethod
    async def parse(self, collected_data: CollectedData) -> ParsedMetadata:
        """Parse the metadata of a sample.

        Raises:
            ValueError: The data format is invalid.
        """

    @abstractmethod
    async def validate(self, metadata: ParsedMetadata) -> bool:
        """Whether the metadata is complete and correct."""


class ICollectionManager(ABC):
    """Manages sources and their collection tasks."""

    @abstractmethod
    async def register_source(self, source: IDataSource, config: dict[str, Any]) -> str:
        """Register a source; returns its id.

        Raises:
            ValueError: The configuration is invalid; nothing is registered.
        """

    @abstractmethod
    async def unregister_source(self, source_id: str) -> None:
        """Stop the source's collection, if any, and forget the source.

        Raises:
            KeyError: There is no such source.
        """

    @abstractmethod
    async def start_collection(self, source_id: str) -> str:
        """Start collecting; returns a task id.

        Raises:
            KeyError: There is no such source.
            RuntimeError: It is already being collected.
        """

    @abstractmethod
    async def stop_collection(self, task_id: str) -> None:
        """Stop a collection task. Stopping a stopped one is harmless.

        Raises:
            KeyError: There is no such task.
        """

    @abstractmethod
    async def get_task_status(self, task_id: str) -> CollectionStatus:
        """What a collection task is doing.

        Raises:
            KeyError: There is no such task.
        """

    @abstractmethod
    async def get_statistics(self, source_id: str) -> CollectionStatistics:
        """What was collected from a source.

        Raises:
            KeyError: There is no such source.
        """
