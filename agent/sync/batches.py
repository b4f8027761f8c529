"""What sync needs of the buffer, as protocols: batches with identity, and where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class Record(Protocol):
    """One stored document and its sequence number."""

    @property
    def seq(self) -> int:
        """Unique in its store; strictly increasing, never reused."""
        ...

    @property
    def document(self) -> dict[str, Any]:
        """What `Reading.to_document` gave."""
        ...


class Batch(Protocol):
    """Some durable records of one store, oldest first. Its bounds never change."""

    @property
    def device_id(self) -> str:
        """The device that took the readings."""
        ...

    @property
    def store_id(self) -> str:
        """The buffer that holds them; with `seq` it is a reading's key."""
        ...

    @property
    def first(self) -> int:
        """The lowest id that acknowledging this batch covers."""
        ...

    @property
    def last(self) -> int:
        """The highest id that acknowledging this batch covers."""
        ...

    @property
    def records(self) -> Sequence[Record]:
        """Ascending by `seq`, at least one. Parsed when they are first asked for."""
        ...

    @property
    def encoded(self) -> bytes | None:
        """All as one compact JSON object, `{"<seq>":<document>,...}`, as stored; None where they do not lie so."""
        ...

    def __len__(self) -> int:
        """How many records."""
        ...

    def forget_parsed(self) -> None:
        """Hold the records as bytes only: they are not to be looked at again soon."""
        ...


B = TypeVar("B", bound=Batch)


class Consumer(Protocol[B]):
    """One upstream's place in the buffer."""

    @property
    def backlog(self) -> int:
        """Durable records that this consumer has not acknowledged, those taken included."""
        ...

    @property
    def newest_id(self) -> int:
        """The highest durable sequence number; 0 when there is none."""
        ...

    async def take(
        self,
        n: int,
        max_bytes: int | None = None,
        *,
        lane: str | None = None,
        after: int = 0,
        upto: int | None = None,
        parsed: bool = True,
    ) -> B | None:
        """The oldest records not yet taken, at most `n` of them, or None. Cancelling takes none.

        `parsed` says whether to parse documents beforehand. Of a lane of the buffer (`alarm` or `normal`), beyond one sequence number and up to another, when these are given.
        """
        ...

    def ack(self, batch: B) -> None:
        """Everything in exactly this batch is delivered or set aside."""
        ...

    def release(self, batch: B) -> None:
        """Give a taken batch back: it may be taken again."""
        ...

    async def wait(
        self, timeout_s: float, *, lane: str | None = None, after: int = 0, upto: int | None = None
    ) -> bool:
        """Return when there may be something to take; False when the time is over first."""
        ...
