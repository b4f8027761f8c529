"""A segment: one file of a table, and reading from it.

Only bytes up to `end` are ever read: that is what is committed, and committed bytes never change,
so readers need no lock against the writer.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from pydantic_core import from_json

from buffer.filesystem import FileSystem, names_in
from buffer.layout import TAIL, TRAILER_BYTES, header, line_count, record_ids
from buffer.naming import DEAD_LETTERS, READINGS, SealedName, active_name, is_segment, table_of
from buffer.summary import Summary

if TYPE_CHECKING:
    from buffer.lanes import AlarmPages

BLOCK_BYTES: Final = 64 << 10
"""How much is read at a time: some 250 readings. Blocks of memory above 128 KiB cost more than reading them."""
_PROBE_BYTES: Final = 4 << 10
_HEADER: Final = re.compile(rb'\{"(?:[^"\\]|\\.)*":\{[\t\r]{%d}' % TRAILER_BYTES)


class DamagedSegment(Exception):
    """A segment's bytes are not what was written; `salvage` saves what is intact."""

    def __init__(self, segment: "Segment") -> None:
        super().__init__(f"{segment.name} is damaged")
        self.segment = segment


@dataclass(slots=True, eq=False)
class Segment:
    """What is known of one file without reading it."""

    base: int
    last: int
    """The highest id in it; `base - 1` when it has none."""
    count: int
    end: int
    """Where its last frame ends; -1 while that is not known (a sealed file not opened yet)."""
    rev: int = 0
    sealed: SealedName | None = None
    verified: bool = False
    size: int = -1
    """Of its file once sealed; -1 while that is not known."""
    suspect: bool = False
    """A write or fsync to it failed: only the bytes up to `end` count, and it is to be replaced."""
    summary: Summary | None = None
    """Of its records, once it is sealed and was summed up."""
    alarms: "AlarmPages | None" = None
    """Where its alarms are; None while that is not known."""

    @property
    def name(self) -> str:
        """Its file's name."""
        return str(self.sealed) if self.sealed else active_name(self.base)


@dataclass(slots=True)
class Position:
    """Where a sequential reader stands: at the newline before the first record not read yet."""

    base: int
    rev: int
    offset: int
    next_id: int


class SegmentReader:
    """Reads the segments of one directory."""

    def __init__(self, fs: FileSystem, directory: str, table: str) -> None:
        self._fs = fs
        self._directory = directory
        self._opening = header(table)
        self._first_record = len(self._opening) + TRAILER_BYTES

    @contextmanager
    def open(self, segment: Segment) -> Iterator[int]:
        """A handle for reading; a sealed segment's checksum is checked the first time.

        Raises:
            FileNotFoundError: The segment went meanwhile.
            DamagedSegment: It is not what was written.
        """
        handle = self._fs.open(f"{self._directory}/{segment.name}")
        try:
            if segment.sealed and not segment.verified:
                self._verify(segment, handle)
            yield handle
        finally:
            self._fs.close(handle)

    def _verify(self, segment: Segment, handle: int) -> None:
        assert segment.sealed is not None
        size = self._fs.size(handle)
        crc, tail = 0, b""
        for offset in range(0, size, BLOCK_BYTES):
            data = self._fs.read(handle, min(BLOCK_BYTES, size - offset), offset)
            crc, tail = crc32(data, crc), (tail + data)[-len(TAIL) :]
            if not (offset or data.startswith(self._opening)):
                raise DamagedSegment(segment)  # another table's, though it may be what its name says
        if crc != segment.sealed.crc or tail != TAIL:
            raise DamagedSegment(segment)
        segment.end = size - len(TAIL)
        segment.verified = True

    def block(self, segment: Segment, handle: int, offset: int, size: int = BLOCK_BYTES) -> bytes:
        """Whole lines from `offset` on; empty at the segment's end."""
        while True:
            data = self._fs.read(handle, min(size, segment.end - offset), offset)
            if offset + len(data) >= segment.end:
                return data
            cut = data.rfind(b"\n")
            if cut > 0:
                return data[:cut]
            if len(data) < size:
                raise DamagedSegment(segment)  # shorter than it was when it was committed
            size *= 2  # one record longer than a block

    def lines_within(self, segment: Segment, handle: int, start: int, stop: int) -> tuple[int, bytes]:
        """The whole lines that begin from `start` and before `stop`; the first of them begins at the offset given."""
        end = segment.end
        stop = min(stop, end)
        size = stop - start + _PROBE_BYTES
        while start < stop:
            data = self._fs.read(handle, min(size, end - start), start)
            if len(data) < min(size, end - start):
                raise DamagedSegment(segment)
            first = data.find(b"\n", 0, stop - start)
            if first == -1:
                break
            cut = data.find(b"\n", stop - start)
            if cut != -1 or start + len(data) >= end:
                return start + first, data[first : cut if cut != -1 else None]
            size *= 4
        return stop, b""

    def seek(self, segment: Segment, handle: int, record_id: int) -> int:
        """The offset of the newline before the first record whose id is at least `record_id`."""
        low, high = self._first_record, segment.end
        while high - low > BLOCK_BYTES:
            middle = (low + high) // 2
            found = self._probe(segment, handle, middle, high)
            if found is None:
                high = middle
            elif found[1] < record_id:
                low = found[0]
            else:
                high = middle if found[0] >= high else found[0]
        while low < segment.end:
            data = self.block(segment, handle, low)
            if not data:
                break
            ids = record_ids(data)
            if ids and ids[-1] >= record_id:
                at = 0
                for found_id in ids:
                    if found_id >= record_id:
                        return low + at
                    at = data.index(b"\n", at + 1)
            low += len(data)
        return segment.end

    def _probe(self, segment: Segment, handle: int, start: int, stop: int) -> tuple[int, int] | None:
        """Offset and id of the first record that begins from `start` and before `stop`."""
        size = _PROBE_BYTES
        while start < stop:
            data = self._fs.read(handle, min(size, segment.end - start), start)
            at = data.find(b"\n")
            while at != -1:
                ids = record_ids(data[at : at + 32])
                if ids:
                    return (start + at, ids[0]) if start + at < stop else None
                at = data.find(b"\n", at + 1)
            if start + len(data) >= segment.end:
                return None
            size *= 4
        return None

    def first_offset(self) -> int:
        """Where the first record of every segment is."""
        return self._first_record

    def ids(self, segment: Segment) -> list[int]:
        """All ids of a segment, ascending."""
        if not segment.count:
            return []
        with self.open(segment) as handle:
            return record_ids(self._all(segment, handle))

    def raw(self, segment: Segment) -> bytes:
        """All records of a segment as lines, from the newline before the first on."""
        with self.open(segment) as handle:
            return self._all(segment, handle)

    def _all(self, segment: Segment, handle: int) -> bytes:
        return self._fs.read(handle, segment.end - self._first_record, self._first_record)

    def newest(self, segment: Segment, n: int) -> bytes:
        """The last lines of a segment: at least `n` records, or all it has."""
        with self.open(segment) as handle:
            size = BLOCK_BYTES
            while True:
                offset = max(self._first_record, segment.end - size)
                data = self._fs.read(handle, segment.end - offset, offset)
                if offset == self._first_record:
                    return data
                data = data[data.find(b"\n") :]
                if data.count(b"\n") >= n:
                    return data
                size *= 2


def is_table(fs: FileSystem, root: str, directory: str) -> bool:
    """Whether a directory in a buffer's is a table's: others put things there, `lost+found`, or a copy of a table.

    Raises:
        OSError: It cannot be listed. Taken for none, it would look empty, and dropping it would do nothing.
    """
    if directory.startswith("."):
        return False
    path, table = f"{root}/{directory}", table_of(directory)
    names = list(filter(is_segment, names_in(fs, path)))
    if table in {READINGS, DEAD_LETTERS}:
        return bool(names)
    return any(not _is_others(fs, f"{path}/{name}", header(table)) for name in names)


def _is_others(fs: FileSystem, path: str, own: bytes) -> bool:
    """Whether a file says that it is another table's; a damaged one does not."""
    try:
        handle = fs.open(path)
        try:
            beginning = fs.read(handle, _PROBE_BYTES, 0)
        finally:
            fs.close(handle)
    except OSError:
        return False
    return bool(_HEADER.match(beginning)) and not beginning.startswith(own)


def parse_json(text: bytes) -> Any:
    """Parse JSON that is known to be valid.

    The standard library's parser takes what pydantic's does not: halves of surrogate pairs, which
    TinyDB can store.
    """
    try:
        # Each document has its own texts and ids: a cache of them costs 2 MB and saves nothing.
        return from_json(text, cache_strings="none")
    except ValueError:
        return json.loads(text)


def parse_documents(text: bytes) -> dict[str, dict[str, Any]]:
    """The documents of whole lines of a segment by their ids' texts, in one pass of the JSON parser.

    Raises:
        ValueError: Somebody vouched for what is no JSON object.
    """
    documents: dict[str, dict[str, Any]] = parse_json(b"{" + text.strip(b",\t\r\n ") + b"}")
    if not {*map(type, documents.values())} <= {dict}:
        raise ValueError("there is something else than an object")
    return documents


def parse_lines(text: bytes) -> list[tuple[int, dict[str, Any]]]:
    """Ids and documents of whole lines of a segment.

    Raises:
        ValueError: As `parse_documents`.
    """
    return [(int(record_id), document) for record_id, document in parse_documents(text).items()]


def is_object(raw: bytes) -> bool:
    """Whether this is a JSON object."""
    try:
        return isinstance(parse_json(raw), dict)
    except ValueError:
        return False


def split_lines(text: bytes) -> list[tuple[int, bytes]]:
    """Ids and raw documents of whole lines of a segment."""
    records = []
    for line in text.split(b"\n"):
        stripped = line.strip(b",\t\r ")
        if stripped:
            record_id, _, document = stripped.partition(b":")
            records.append((int(record_id.strip(b'"')), document))
    return records


def take_lines(text: bytes, n: int, bytes_max: int | None) -> tuple[bytes, int]:
    """The first `n` records of a block, fewer when they would pass `bytes_max`, but at least one.

    Returns:
        Their lines, and how many bytes of the block they are.
    """
    if text.startswith(b"\n") and line_count(text) <= n and (bytes_max is None or len(text) <= bytes_max):
        return text, len(text)
    pieces = text.split(b"\n", n + 1)
    chosen = pieces[1 : n + 1]
    size = sum(map(len, chosen)) + len(chosen)
    if bytes_max is not None and size > bytes_max:
        size = 0
        for at, piece in enumerate(chosen):
            if at and size + len(piece) + 1 > bytes_max:
                break
            size += len(piece) + 1
    return text[:size], size
