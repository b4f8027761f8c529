"""Summaries of sealed segments: made when there is time, kept in memory, and in a sidecar that may be lost.

    <root>/.summaries/readings.lines     a line a segment: checksum, JSON; see `buffer.summary`

A summary is made from a segment's bytes, by the first query that reads all of it, or by maintenance,
which stops as soon as somebody waits for a commit. A line names its segment's file, and so its
checksum: one of an older revision is never taken for that of a newer. The sidecar is written
without a sync, since losing it costs one reading of what it summed up: 130 bytes for 4 MiB.
"""

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from buffer.filesystem import FileSystem
from buffer.naming import directory_name, is_temporary
from buffer.segment import Segment
from buffer.streaming import StreamedRecords
from buffer.summary import UNKNOWN, Summary, from_line, to_line

DIRECTORY: Final = ".summaries"
_SEGMENTS_A_TURN: Final = 2
_STALE_LINES_MAX: Final = 64


def read_sidecar(fs: FileSystem, root: str, table: str) -> dict[str, Summary]:
    """The summaries in a table's sidecar, by the names of their segments; none when there is no sidecar."""
    try:
        handle = fs.open(f"{root}/{DIRECTORY}/{directory_name(table)}.lines")
    except OSError:
        return {}
    try:
        data = fs.read(handle, fs.size(handle), 0)
    except OSError:
        return {}
    finally:
        fs.close(handle)
    return dict(found for line in data.split(b"\n") if (found := from_line(line)) is not None)


class Summaries:
    """The summaries of one table. `load` may be called from any thread, `maintain` from one."""

    def __init__(self, fs: FileSystem, root: str, log: StreamedRecords) -> None:
        self._fs = fs
        self._root = root
        self._log = log
        self._path = f"{root}/{DIRECTORY}/{directory_name(log.table)}.lines"
        self._loading = threading.Lock()
        self._loaded = False
        self._written: set[str] = set()
        """The segments whose summaries are in the sidecar, those that are gone included."""
        self._work: Iterator[None] = iter(())

    def load(self) -> None:
        """Give the segments their summaries from the sidecar, the first time."""
        with self._loading:
            if self._loaded:
                return
            known = read_sidecar(self._fs, self._root, self._log.table)
            for segment in self._sealed():
                if segment.summary is None:
                    segment.summary = known.get(segment.name)
            self._written = set(known)
            self._loaded = True

    def maintain(self, busy: Callable[[], bool]) -> None:
        """Summarize a segment or two that have none yet, and write down what is new. Never fails.

        Args:
            busy: Somebody waits for this thread.

        Raises:
            DiskFault: The disk cannot be read.
        """
        self.load()
        for _ in range(_SEGMENTS_A_TURN):
            for _ in self._work:
                if busy():
                    return
            missing = next((each for each in reversed(self._sealed()) if each.summary is None), None)
            if missing is None:
                break
            self._work = self._log.summarize(missing)
        with suppress(OSError, ValueError):  # it may be lost; a number may be too large even for text
            self._write()

    def _sealed(self) -> list[Segment]:
        with self._log.lock:
            return [segment for segment in self._log.segments if segment.sealed is not None]

    def _write(self) -> None:
        live = {
            each.name: each.summary for each in self._sealed() if each.summary and each.summary != UNKNOWN
        }
        new = {name: summary for name, summary in live.items() if name not in self._written}
        stale = len(self._written.difference(live))
        try:
            if new and stale <= len(live) + _STALE_LINES_MAX:
                self._append(new)
                self._written |= set(new)
                return
        except FileNotFoundError:  # there is none yet, or somebody removed it
            stale = 1
        if new or stale > len(live) + _STALE_LINES_MAX:
            self._write_anew(live)
            self._written = set(live)

    def _append(self, new: dict[str, Summary]) -> None:
        handle = self._fs.open(self._path, write=True)
        try:
            # A line that a crash cut off ends where the next one begins.
            self._fs.write(handle, b"\n" + _lines(new), self._fs.size(handle))
        finally:
            self._fs.close(handle)

    def _write_anew(self, live: dict[str, Summary]) -> None:
        directory = f"{self._root}/{DIRECTORY}"
        self._fs.make_directory(directory)
        for name in self._fs.list_directory(directory):
            if is_temporary(name):
                self._fs.unlink(f"{directory}/{name}")
        temporary = f"{directory}/t.{secrets.token_hex(8)}.lines"
        handle = self._fs.create(temporary)
        try:
            self._fs.write(handle, _lines(live), 0)
        finally:
            self._fs.close(handle)
        self._fs.rename(temporary, self._path)


def _lines(summaries: dict[str, Summary]) -> bytes:
    return b"".join(to_line(name, summary) + b"\n" for name, summary in summaries.items())
