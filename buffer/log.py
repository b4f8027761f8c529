"""One log table: records wait in memory, are committed as frames, and sealed as segments."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from buffer.appended_files import AppendedFiles
from buffer.errors import DiskFault
from buffer.layout import ID_MAX
from buffer.segment import Segment, parse_json


class Log(AppendedFiles):
    """The records of one table. Thread-safe."""

    # -- appending

    def append(self, documents: Sequence[bytes], size: int) -> range:
        """Take records; they wait in memory until a commit. Returns their ids.

        Args:
            documents: Compact JSON objects, already checked.
            size: Their bytes together.

        Raises:
            BufferFull: They would pass the bound of what may wait.
            BufferClosed: The log is closed.
            IdsExhausted: There are not so many ids left.
        """
        with self.lock:
            first = self._pending.next_id
            self._pending.take(first, documents, size, self.fault)
        return range(first, first + len(documents))

    def append_at(self, records: Sequence[tuple[int | None, bytes]]) -> list[int]:
        """Take records under ids of the caller's choice, each beyond all that were given out; all or none.

        Args:
            records: Ids, None for the next one, and compact JSON objects, already checked.

        Raises:
            ValueError: An id was given out already, or is none.
            BufferFull, BufferClosed: As `append`.
        """
        with self.lock:
            ids, following = [], self.next_id
            for own, _ in records:
                record_id = following if own is None else own
                if not following <= record_id <= ID_MAX:
                    raise ValueError(f"Document with ID {record_id} is below {following}, the next free one")
                ids.append(record_id)
                following = record_id + 1
            self._pending.require_room(
                len(records), sum(len(document) for _, document in records), self.fault
            )
            for record_id, (_, document) in zip(ids, records, strict=True):
                self._pending.take(record_id, [document], len(document), None)
        return ids

    def has_room(self) -> bool:
        """Whether `append` would be accepted, whatever its size (up to half the bound of records)."""
        return self._pending.has_room()

    def close(self) -> None:
        """Commit what waits and seal the active file; what is closed so needs no recovery.

        Raises:
            DiskFault: The disk refused; what was not committed is lost with the process.
        """
        with self.io:
            with self.lock:
                if self._pending.closed:
                    return
                self._pending.closed = True
            try:
                self.commit()
                if self._active is not None:
                    self.before_closing()
            except DiskFault:
                # Not sealed: that it was not is what tells the next opening to skip ids.
                if self._active is not None:
                    self._let_go(self._active)
                raise
            else:
                if self._active is not None:
                    self._seal_last(self._active)
            finally:
                self._active = None

    # -- reading

    def waiting(self) -> list[tuple[int, bytes]]:
        """The records in memory only, ascending."""
        with self.lock:
            return self._pending.all()

    @property
    def ever_used(self) -> bool:
        """Whether there is or was a record."""
        return self.next_id > 1

    def total(self) -> int:
        """How many records there are, the waiting ones too."""
        with self.lock:
            return self._durable_total() + self._pending.records

    def find(self, record_id: int) -> dict[str, Any] | None:
        """One record, None when there is none of this id.

        Raises:
            DiskFault: The disk cannot be read.
        """
        if record_id in self.deleted or record_id < 1:
            return None
        for waiting_id, raw in self.waiting() if record_id > self.durable_id else ():
            if waiting_id == record_id:
                document: dict[str, Any] = parse_json(raw)
                return document
        found = self.read(record_id, record_id, 1)
        return found.records[0][1] if found.records else None

    def stream(
        self, low: int = 1, *, skip: Callable[[Segment], bool] | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """All records from an id up, the waiting ones too, without holding them in memory.

        Ends with the last id that was given out when it began, whatever is appended meanwhile.

        Args:
            low: The first id.
            skip: As in `stream_stored`.

        Raises:
            DiskFault: The disk cannot be read.
        """
        end = self.next_id - 1
        while low <= end:
            high = min(self.durable_id, end)
            yield from self.stream_stored(low, high, skip=skip)
            low = max(low, high + 1)
            with self.lock:
                if self.durable_id == high:  # nothing went from memory to disk meanwhile
                    waiting = self._pending.all()
                    break
        else:
            return
        for record_id, raw in waiting:
            if low <= record_id <= end and record_id not in self.deleted:
                yield record_id, parse_json(raw)

    def snapshot(self) -> tuple[list[tuple[Segment, int]], list[tuple[int, bytes]]]:
        """At one moment: the segments, each with its highest durable id, and what waits in memory."""
        with self.lock:
            durable = self.durable_id
            segments = [(segment, min(segment.last, durable)) for segment in self.segments if segment.count]
            return segments, self._pending.all()
