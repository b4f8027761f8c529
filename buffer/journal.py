"""The small durable tables: identity, consumers, device state, loss ledger and their like.

All of them share one journal in the format of a segment, whose records are changes:

    "17":{"table":"consumers","key":"cloud","value":{"mark":4711}}     null: the key went

A change is one frame and one fsync; changes that arrive meanwhile share the next. When the journal
has grown to several times what is alive, a new generation is written that starts with all of it:
complete under a temporary name, synced, renamed, and only then is the old one removed. After any
error the file is not trusted again: the next change begins a new generation from memory. Spaces are
written ahead of the frames, as in a segment.

What says whose readings these are (`identity`) is also kept in a second file, since its loss would
make every delivered reading a new one to the receiver.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from errno import ENOSPC
from typing import Any, Final
from zlib import crc32

from pydantic_core import from_json, to_json

from buffer.errors import BufferClosed, DiskFault
from buffer.filesystem import FileSystem, read_file
from buffer.layout import TAIL, close_frame, header, lines
from buffer.salvage import salvage
from buffer.segment import parse_json
from buffer.writer import create_durably

_NAME = re.compile(r"j\.(\d{10})\.json")
_TWIN = re.compile(r"identity\.(\d{10})\.([0-9a-f]{8})\.json")
_TABLE = "state"
_GROWTH_BYTES_MIN: Final = 64 << 10
_GROWTH_FACTOR: Final = 4
_AHEAD_BYTES: Final = 16 << 10
_AHEAD_BYTES_MIN: Final = 4 << 10
_DOUBLED = "identity"


def _name(generation: int) -> str:
    return f"j.{generation:010d}.json"


def is_journal(name: str) -> bool:
    """Whether it is the name of a generation of the journal."""
    return _NAME.fullmatch(name) is not None


def twin_checksum(name: str) -> int | None:
    """The checksum in the name of a second copy of the identity; None when it is none."""
    match = _TWIN.fullmatch(name)
    return int(match.group(2), 16) if match else None


@dataclass(slots=True)
class _Change:
    """What one caller wants written, and what became of it."""

    rows: list[tuple[str, str, bytes]]
    done: bool = False
    error: OSError | None = None


class Journal:
    """The rows of all small tables, in memory as JSON, and the file that keeps them. Thread-safe."""

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        *,
        set_aside: Callable[[str, str], object] = lambda _path, _name: None,
    ) -> None:
        """Read what is there. Never fails for what is in the files.

        Args:
            fs: The file system.
            directory: Where its files are.
            set_aside: Takes a damaged file, by its path, and the name to keep it under.

        Raises:
            OSError: The directory cannot be made or listed.
        """
        self._fs = fs
        self._directory = directory
        self._set_aside = set_aside
        self._unsound: set[str] = set()
        """Files that were found damaged."""
        self._rows: dict[str, dict[str, bytes]] = {}
        self._queue: list[_Change] = []
        self._queue_lock = threading.Lock()
        self._file_lock = threading.Lock()
        self._handle: int | None = None
        self._end = self._file_end = self._crc = self._count = self._checkpoint_bytes = 0
        self._generation = 0
        self._closed = False
        self._in_doubt = False
        """The last change failed; it may be on the disk all the same until another one is."""
        self.damaged = False
        """A part of the journal could not be read at opening."""
        self.bytes_written = 0
        fs.make_directory(directory)
        self._load()

    # -- reading

    def get(self, table: str, key: str) -> Any:
        """A row, None when there is none. A new object each time."""
        raw = self._rows.get(table, {}).get(key)
        return None if raw is None else parse_json(raw)

    def items(self, table: str) -> Iterator[tuple[str, Any]]:
        """All rows of a table, in the order of their first writing."""
        for key, raw in list(self._rows.get(table, {}).items()):
            yield key, parse_json(raw)

    def size(self, table: str) -> int:
        """How many rows a table has."""
        return len(self._rows.get(table, {}))

    # -- writing

    def put(self, changes: list[tuple[str, str, Any]]) -> None:
        """Change rows, all in one frame; durable when it returns, in memory only then.

        Args:
            changes: Table, key and value; None as the value removes the row.

        Raises:
            DiskFault: The disk refused; nothing changed.
            BufferClosed: The journal is closed.
            ValueError: A value cannot be written as JSON.
        """
        mine = _Change(
            [(table, key, to_json(value, inf_nan_mode="strings")) for table, key, value in changes]
        )
        with self._queue_lock:
            if self._closed:
                raise BufferClosed("the buffer is closed")
            self._queue.append(mine)
        with self._file_lock:
            if not mine.done:
                self._write_queue()
        if mine.error is not None:
            raise DiskFault(f"the disk refused a change of state: {mine.error}") from mine.error

    def assume(self, changes: list[tuple[str, str, Any]]) -> None:
        """Take rows to be so, before anything was written: the first change of another one writes them, too."""
        assert self._handle is None
        self._apply([(table, key, to_json(value, inf_nan_mode="strings")) for table, key, value in changes])

    def _write_queue(self) -> None:
        """Write all that is queued, for everybody who waits for the file."""
        with self._queue_lock:
            batch, self._queue = self._queue, []
        # Until more is known: whoever shares a write that an exception of another kind ends is not told that it is durable.
        error: OSError | None = OSError("interrupted")
        try:
            self._commit([row for change in batch for row in change.rows])
            error = None
        except OSError as refused:
            error = refused
        finally:
            if error is not None:
                self._in_doubt = True
                self._abandon()
            for change in batch:
                change.done, change.error = True, error

    def close(self) -> None:
        """Close the file; changes are refused from now on. Harmless when done twice."""
        with self._file_lock:
            self._closed = True
            self._abandon()

    def _abandon(self) -> None:
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._fs.close(handle)

    def _commit(self, batch: list[tuple[str, str, bytes]]) -> None:
        changes = [self._record(*change) for change in batch]
        anew = False
        if self._handle is None or self._end > max(
            _GROWTH_BYTES_MIN, _GROWTH_FACTOR * self._checkpoint_bytes
        ):
            self._checkpoint(batch)
        else:
            self._append(changes)
            if self._fs.removed(self._handle):
                self._checkpoint(batch)  # somebody removed the file, and with it all there was
                anew = True
        self._apply(batch)
        if anew or any(table == _DOUBLED for table, _, _ in batch):
            self._write_twin()

    def _apply(self, batch: list[tuple[str, str, bytes]]) -> None:
        for table, key, raw in batch:
            rows = self._rows.setdefault(table, {})
            if raw == b"null":
                rows.pop(key, None)
            else:
                rows[key] = raw

    @staticmethod
    def _record(table: str, key: str, raw: bytes) -> bytes:
        return b'{"table":%b,"key":%b,"value":%b}' % (to_json(table), to_json(key), raw)

    def _frame(self, changes: list[bytes]) -> tuple[bytes, int]:
        numbered = [(self._count + 1 + at, change) for at, change in enumerate(changes)]
        content = lines(numbered, first=self._count == 0)
        trailer, crc = close_frame(content, self._crc, records=self._count + len(changes), cursor=0)
        return content + trailer, crc

    def _append(self, changes: list[bytes]) -> None:
        assert self._handle is not None
        frame, crc = self._frame(changes)
        self._write(self._handle, frame + TAIL)
        self._fs.sync(self._handle)
        self._end, self._crc = self._end + len(frame), crc
        self._count += len(changes)

    def _write(self, handle: int, data: bytes) -> None:
        """Write a frame, and spaces ahead of the next ones when there are few left.

        So a small change grows no file, and what is to be dropped from a full disk can be entered before.
        """
        file_end = self._end + len(data) + _AHEAD_BYTES
        if self._end + len(data) + _AHEAD_BYTES_MIN > self._file_end:
            try:
                self._fs.write(handle, data.ljust(file_end - self._end), self._end)
            except OSError as error:
                if error.errno != ENOSPC or self._end + len(data) > self._file_end:
                    raise
                # The frame fits in what was written ahead. Whatever was written now is its beginning, or spaces.
            else:
                self._file_end = file_end
                self.bytes_written += file_end - self._end
                return
        self._fs.write(handle, data, self._end)
        self.bytes_written += len(data)

    def _checkpoint(self, batch: list[tuple[str, str, bytes]]) -> None:
        """Begin a new generation with all rows as they will be with `batch`."""
        self._abandon()
        self._fs.make_directory(self._directory)
        rows = {(table, key): raw for table, found in self._rows.items() for key, raw in found.items()}
        rows |= {(table, key): raw for table, key, raw in batch}
        opening = header(_TABLE)
        trailer, self._crc = close_frame(opening, 0, records=0, cursor=0)
        data = opening + trailer
        self._count = 0
        for (table, key), raw in rows.items():
            if raw != b"null":  # a frame each, so that damage costs one row
                frame, self._crc = self._frame([self._record(table, key, raw)])
                data += frame
                self._count += 1
        following = self._generation + 1
        whole = (data + TAIL).ljust(len(data) + _AHEAD_BYTES)
        self._handle = create_durably(self._fs, self._directory, _name(following), whole)
        old, self._generation = self._generation, following
        self._in_doubt = False
        self._end = self._checkpoint_bytes = len(data)
        self._file_end = len(whole)
        self.bytes_written += len(whole)
        self._sweep(old)

    def renew(self) -> None:
        """Write everything to a new generation; damaged files are set aside.

        Raises:
            DiskFault: The disk refused.
        """
        with self._file_lock:
            try:
                self._checkpoint([])
                self._write_twin()
            except OSError as error:
                self._abandon()
                raise DiskFault(f"{self._directory}: {error}") from error

    def settle(self) -> None:
        """Make sure that no change which failed is on the disk.

        Raises:
            DiskFault: The disk refused.
        """
        if self._in_doubt:
            self.renew()

    def make_durable(self) -> None:
        """Make sure that all rows are on the disk: what was read at opening may be in memory of the kernel only.

        Raises:
            DiskFault: The disk refused.
        """
        if self._handle is None:
            self.renew()

    def check_place(self) -> None:
        """Write everything anew when somebody removed the file.

        Raises:
            DiskFault: The disk refused.
        """
        with self._file_lock:
            try:
                if self._rows and not self._closed and not self._is_there():
                    self._checkpoint([])
                    self._write_twin()
            except OSError as error:
                self._abandon()
                raise DiskFault(f"{self._directory} was removed by somebody else: {error}") from error

    def _is_there(self) -> bool:
        try:
            return _name(self._generation) in self._fs.list_directory(self._directory)
        except FileNotFoundError:
            return False

    def _sweep(self, up_to: int) -> None:
        with suppress(OSError):  # what stays is swept the next time
            for name in self._fs.list_directory(self._directory):
                match = _NAME.fullmatch(name)
                if name.startswith("t.") or (match and int(match.group(1)) <= up_to):
                    self._discard(name)

    def _discard(self, name: str) -> None:
        path = f"{self._directory}/{name}"
        if name in self._unsound:
            self._set_aside(path, f"state.{name}")
            self._unsound.remove(name)
        else:
            self._fs.unlink(path)

    # -- the second copy of what must not be lost

    def _write_twin(self) -> None:
        rows = {key: from_json(raw) for key, raw in self._rows.get(_DOUBLED, {}).items()}
        data = to_json(rows)
        name = f"identity.{self._generation:010d}.{crc32(data):08x}.json"
        with suppress(OSError):  # the journal has it; the next change writes the twin again
            self._fs.close(create_durably(self._fs, self._directory, name, data))
            for other in self._fs.list_directory(self._directory):
                stated = twin_checksum(other)
                if stated is None or other == name:
                    continue
                if crc32(self._read(other)) != stated:
                    self._unsound.add(other)
                self._discard(other)

    def _load_twin(self, names: list[str]) -> None:
        for name in sorted(names, reverse=True):
            match = _TWIN.fullmatch(name)
            if match is None:
                continue
            data = self._read(name)
            if crc32(data) == int(match.group(2), 16):
                rows = {key: to_json(value) for key, value in from_json(data).items()}
                self._rows[_DOUBLED] = rows | self._rows.get(_DOUBLED, {})
                return

    # -- opening

    def _read(self, name: str) -> bytes:
        try:
            return read_file(self._fs, f"{self._directory}/{name}")
        except OSError:
            self.damaged = True
            return b""

    def _load(self) -> None:
        """Replay the newest generation.

        The file itself is left alone: the first change begins a new one, which also leaves behind a
        torn end or a damaged frame.
        """
        names = self._fs.list_directory(self._directory)
        generations = sorted(int(match.group(1)) for name in names if (match := _NAME.fullmatch(name)))
        if generations:
            self._generation = generations[-1]
        for generation in generations:
            # Usually one. Two after a crash before the older was removed: then the newer has it all,
            # and replaying both gives the same, unless the newer one is damaged.
            data = self._read(_name(generation))
            good = salvage(data, 1)
            if (
                not good.frames
                or any(not f.intact for f in good.frames)
                or data[good.frames[-1].end :].rstrip(b" ") != TAIL
            ):
                self.damaged = True
                self._unsound.add(_name(generation))
            if generation == generations[-1] and good.frames and all(frame.intact for frame in good.frames):
                self._rows.clear()
            for _, raw in good.records:
                try:
                    change = from_json(raw)
                    table, key, value = change["table"], change["key"], to_json(change["value"])
                except (KeyError, TypeError, ValueError):
                    # Another file's, which a disk has put in the place of this one.
                    self.damaged = True
                    self._unsound.add(_name(generation))
                else:
                    self._apply([(table, key, value)])
        if self.damaged or not self._rows.get(_DOUBLED):
            self._load_twin(names)


class SmallTable:
    """One small durable table: keys to JSON objects."""

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal = journal
        self.name = name

    def __len__(self) -> int:
        return self._journal.size(self.name)

    def get(self, key: str) -> Any:
        """The row of a key, None when there is none."""
        return self._journal.get(self.name, key)

    def items(self) -> list[tuple[str, Any]]:
        """All rows."""
        return list(self._journal.items(self.name))

    def put(self, key: str, value: Any) -> None:
        """Set a row; durable when it returns.

        Raises:
            DiskFault: The disk refused; the row is as it was.
        """
        self._journal.put([(self.name, key, value)])

    def put_all(self, rows: dict[str, Any]) -> None:
        """Set several rows (None removes one), all or none; durable when it returns.

        Raises:
            DiskFault: The disk refused; the rows are as they were.
        """
        self._journal.put([(self.name, key, value) for key, value in rows.items()])

    def remove(self, key: str) -> None:
        """Remove a row; durable when it returns. Fine when there is none.

        Raises:
            DiskFault: The disk refused; the row is still there.
        """
        self._journal.put([(self.name, key, None)])
