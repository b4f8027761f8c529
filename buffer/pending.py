"""What waits in memory for a commit: records that have their ids, and a bound. Not thread-safe."""

from collections.abc import Iterable, Sequence
from typing import Final

from buffer.errors import BufferClosed, BufferFull, IdsExhausted
from buffer.layout import ID_MAX, Run
from buffer.recovery import PENDING_RECORDS_MAX

COMMIT_BYTES_MAX: Final = 1 << 20
"""The most that one frame may hold, and so the most that one damaged frame may cost."""
_GATHERED_BYTES_MAX: Final = 64 << 10
"""So much that came one by one is kept together."""


class Waiting:
    """Documents under consecutive ids, one after the other."""

    __slots__ = ("bytes", "documents", "first")

    def __init__(self, first: int, documents: Sequence[bytes], size: int) -> None:
        self.first = first
        self.documents = list(documents)
        self.bytes = size


class Pending:
    """Records on their way to the disk. `Log` guards it with its lock.

    Attributes:
        next_id: The id that the next record gets.
        records: How many wait.
        bytes: How many bytes they have.
        flight: What the next commit writes; the same again after one that failed.
        flight_records: How many records that is.
        flight_bytes: How many bytes of documents.
        dropped_id: The highest id that a policy may have dropped.
        closed: Nothing is taken any more.
    """

    def __init__(self, next_id: int, bytes_max: int) -> None:
        self.next_id = next_id
        self.records = self.bytes = 0
        self.flight: list[Run] = []
        self.flight_records = self.flight_bytes = 0
        self.dropped_id = 0
        self.closed = False
        self._bytes_max = bytes_max
        self._waiting: list[Waiting] = []

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
        n = len(documents)
        if self.closed or self.records + n > PENDING_RECORDS_MAX or self.bytes + size > self._bytes_max:
            self.require_room(n, size, fault)
        assert self.next_id <= first
        if first + n - 1 > ID_MAX:
            raise IdsExhausted(
                f"the ids of this buffer are used up (the next one would be {first}, the last is {ID_MAX}):"
                " only a new directory can take more"
            )
        if not n:
            return
        last = self._waiting[-1] if self._waiting else None
        if last and first == self.next_id and last.bytes + size <= _GATHERED_BYTES_MAX:
            last.documents += documents
            last.bytes += size
        else:
            self._waiting.append(Waiting(first, documents, size))
        self.next_id = first + n
        self.records += n
        self.bytes += size

    def fill_flight(self) -> list[Run]:
        """What the next commit writes, up to the bound of a frame."""
        if self.flight:
            return self.flight  # it failed, and goes again unchanged
        size = 0
        if len(self._waiting) == 1 and self._waiting[0].bytes <= COMMIT_BYTES_MAX:  # nearly always
            (chunk,) = self._waiting
            self._waiting = []
            self.flight = [(chunk.first, chunk.documents)]
            self.flight_records, self.flight_bytes = len(chunk.documents), chunk.bytes
            return self.flight
        while self._waiting and size < COMMIT_BYTES_MAX:
            chunk = self._waiting[0]
            if size + chunk.bytes > COMMIT_BYTES_MAX and len(chunk.documents) > 1:
                if size:
                    break
                self._halve()
                continue
            del self._waiting[0]
            self.flight.append((chunk.first, chunk.documents))
            self.flight_records += len(chunk.documents)
            size += chunk.bytes
        self.flight_bytes = size
        return self.flight

    def _halve(self) -> None:
        chunk = self._waiting[0]
        half = len(chunk.documents) // 2
        head = Waiting(chunk.first, chunk.documents[:half], sum(map(len, chunk.documents[:half])))
        rest = Waiting(chunk.first + half, chunk.documents[half:], chunk.bytes - head.bytes)
        self._waiting[0:1] = [head, rest]

    def landed(self) -> None:
        """The flight is on disk."""
        self.records -= self.flight_records
        self.bytes -= self.flight_bytes
        self.flight = []
        self.flight_records = self.flight_bytes = 0

    def keep_of_flight(self, kept: list[tuple[int, bytes]]) -> None:
        """The rest of it is dropped."""
        if not self.flight:
            return
        first, documents = self.flight[-1]
        self.dropped_id = first + len(documents) - 1
        size = sum(len(document) for _, document in kept)
        self.records -= self.flight_records - len(kept)
        self.bytes -= self.flight_bytes - size
        self.flight = [(record_id, [document]) for record_id, document in kept]
        self.flight_records, self.flight_bytes = len(kept), size

    def first_id(self) -> int:
        """The lowest id that is not on disk."""
        if self.flight:
            return self.flight[0][0]
        return self._waiting[0].first if self._waiting else self.next_id

    def all(self) -> list[tuple[int, bytes]]:
        """All that wait, ascending."""
        return records_of([*self.flight, *((chunk.first, chunk.documents) for chunk in self._waiting)])


def records_of(runs: Iterable[Run]) -> list[tuple[int, bytes]]:
    """Ids and documents, one by one."""
    return [record for first, documents in runs for record in enumerate(documents, first)]
