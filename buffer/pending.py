"""What waits in memory for a commit: records that have their ids, and a bound. Not thread-safe."""

from collections.abc import Sequence
from typing import Final

from buffer.errors import BufferClosed, BufferFull, IdsExhausted
from buffer.layout import ID_MAX
from buffer.recovery import PENDING_RECORDS_MAX

COMMIT_BYTES_MAX: Final = 1 << 20
"""The most that one frame may hold, and so the most that one damaged frame may cost."""


class Pending:
    """Records on their way to the disk. `Log` guards it with its lock.

    Attributes:
        next_id: The id that the next record gets.
        records: How many wait.
        bytes: How many bytes they have.
        flight: What the next commit writes; the same again after one that failed.
        flight_bytes: How many bytes of documents that is.
        dropped_id: The highest id that a policy may have dropped.
        closed: Nothing is taken any more.
    """

    def __init__(self, next_id: int, bytes_max: int) -> None:
        self.next_id = next_id
        self.records = self.bytes = 0
        self.flight: list[tuple[int, bytes]] = []
        self.flight_bytes = 0
        self.dropped_id = 0
        self.closed = False
        self._bytes_max = bytes_max
        self._chunks: list[tuple[int, Sequence[bytes], int]] = []

    def has_room(self) -> bool:
        """Whether more would be taken, whatever its size (up to half the bound of records)."""
        return self.bytes <= self._bytes_max // 2 and self.records <= PENDING_RECORDS_MAX // 2

    def require_room(self, records: int, size: int, fault: str | None) -> None:
        """Make sure that so many would be taken.

        Raises:
            BufferFull: They would pass the bound; `fault` says why it is so full.
            BufferClosed: Nothing is taken any more.
        """
        if self.closed:
            raise BufferClosed("the buffer is closed")
        if self.records + records > PENDING_RECORDS_MAX or (
            self.bytes + size > self._bytes_max and not self.has_room()
        ):
            reason = f" ({fault})" if fault else ""
            raise BufferFull(f"{self.records:,} records of {self.bytes:,} bytes wait for the disk{reason}")

    def take(self, first: int, documents: Sequence[bytes], size: int, fault: str | None) -> None:
        """Take records under the ids from `first` up, all or none.

        Raises:
            BufferFull, BufferClosed: As `require_room`.
            IdsExhausted: There are not so many ids left.
        """
        self.require_room(len(documents), size, fault)
        assert self.next_id <= first
        if first + len(documents) - 1 > ID_MAX:
            raise IdsExhausted(
                f"the ids of this buffer are used up (the next one would be {first}, the last is {ID_MAX}):"
                " only a new directory can take more"
            )
        if documents:
            self._chunks.append((first, documents, size))
            self.next_id = first + len(documents)
            self.records += len(documents)
            self.bytes += size

    def fill_flight(self) -> list[tuple[int, bytes]]:
        """What the next commit writes, up to the bound of a frame."""
        if self.flight:
            return self.flight  # it failed, and goes again unchanged
        size = 0
        while self._chunks and size < COMMIT_BYTES_MAX:
            first, documents, chunk_bytes = self._chunks[0]
            if size + chunk_bytes > COMMIT_BYTES_MAX and len(documents) > 1:
                if size:
                    break
                self._halve()
                continue
            del self._chunks[0]
            self.flight += enumerate(documents, first)
            size += chunk_bytes
        self.flight_bytes = size
        return self.flight

    def _halve(self) -> None:
        first, documents, size = self._chunks[0]
        half = len(documents) // 2
        head, rest = documents[:half], documents[half:]
        head_bytes = sum(map(len, head))
        self._chunks[0:1] = [(first, head, head_bytes), (first + half, rest, size - head_bytes)]

    def landed(self) -> list[tuple[int, bytes]]:
        """The flight is over: on disk, or dropped by a policy."""
        flight, self.flight = self.flight, []
        self.records -= len(flight)
        self.bytes -= self.flight_bytes
        self.flight_bytes = 0
        return flight

    def keep_of_flight(self, kept: list[tuple[int, bytes]]) -> None:
        """The rest of it is dropped."""
        if not self.flight:
            return
        self.dropped_id = self.flight[-1][0]
        size = sum(len(document) for _, document in kept)
        self.records -= len(self.flight) - len(kept)
        self.bytes -= self.flight_bytes - size
        self.flight, self.flight_bytes = kept, size

    def first_id(self) -> int:
        """The lowest id that is not on disk."""
        if self.flight:
            return self.flight[0][0]
        return self._chunks[0][0] if self._chunks else self.next_id

    def all(self) -> list[tuple[int, bytes]]:
        """All that wait, ascending."""
        records = list(self.flight)
        for first, documents, _ in self._chunks:
            records += enumerate(documents, first)
        return records
