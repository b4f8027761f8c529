"""Writing: the active file of a table, and whole new segments.

A commit is one write of the disk's blocks that change, past the page cache where the file system can do
that, and one fdatasync, in one system call where that can be. The block in which the last frame ends is written again with it, from memory,
its committed bytes as they were: with the page cache in between the kernel would do the same.

The spaces that a small commit needs are durable before it is written over some of them, and the last 512 bytes of
the file stay spaces. A large one, which would be written twice then, is written from the old end of the file on first, and
then from the last frame to there. So a crash leaves the tail of the frame before, or spaces at the end; a file that ends
within a record, in zeros or in garbage has lost what was durable. Only a large commit behind another large one is written at
once, since it would have to wait for the disk twice: then a crash leaves zeros behind the old end, or that end within a record.
"""

import secrets
from collections.abc import Sequence
from contextlib import suppress
from errno import ENOENT, ENOSPC
from zlib import crc32

from buffer.filesystem import BLOCK_BYTES, SPACES, FileSystem
from buffer.lanes import alarm_starts
from buffer.layout import RECORDS_MAX, TAIL, TRAILER_BYTES, Run, close_frame, header, lines, run_lines
from buffer.naming import SealedName, active_name

PREFILL_BYTES = 256 << 10
"""When a small commit makes the file grow, so much is written, most of it spaces, so that those that
follow change no metadata: a quarter of the device bytes, and three times as fast. Larger commits get more
of it, so that no more than one in some four hundred is slow, but no more than four times as much."""
_PREFILL_COMMITS = 400
_SMALL_COMMIT_BYTES = 32 << 10
_MARGIN_BYTES = 512
"""How many spaces there are at least at the end of the file: a sector, the most that is torn or lost at once."""
_TEXT = bytes({*b"\t\n\r", *range(ord(" "), 0xC0), *range(0xC2, 0xF5)})
"""What UTF-8 has, control characters apart that JSON escapes."""
_FLIPPED_BYTES_MAX = 32
"""So many other bytes may be damage of the last frame alone."""
_FRAME_BYTES = 64 << 10
"""The size of frames when a segment is written as a whole."""


class ActiveFile:
    """The one file that a table appends to. After any error from it, it must be abandoned.

    Attributes:
        base: The lowest id it may hold.
        end: Where its last committed frame ends.
        count: How many records are committed in it.
        alarms: Where the lines of alarms in its last frame begin.
    """

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        table: str,
        base: int,
        cursor: int,
        *,
        prefill_bytes: int = PREFILL_BYTES,
        full_bytes: int,
        replaces: bool = False,
    ) -> None:
        """Make the file: durable, with its name, before this returns.

        Args:
            fs: The file system.
            directory: The table's directory.
            table: The table's name.
            base: The lowest id it may hold.
            cursor: Up to which id all consumers have acknowledged.
            prefill_bytes: How much is written when a small commit makes the file grow, from the first one on.
            full_bytes: Beyond this size the file is not to grow by spaces: it will be sealed.
            replaces: There is one of this name, which failed before it had anything.
        """
        self._fs = fs
        self._directory = directory
        self._path = f"{directory}/{active_name(base)}"
        self.base = base
        self.count = 0
        self.last = base - 1
        self.alarms: list[int] = []
        opening = header(table)
        trailer, self._crc = close_frame(opening, 0, records=0, cursor=cursor)
        self.end = len(opening) + len(trailer)
        self._prefill_bytes = prefill_bytes
        self._full_bytes = full_bytes
        data = opening + trailer + TAIL
        data = data.ljust(_rounded_up(len(data), BLOCK_BYTES))
        self._file_end = len(data)
        self._tight = False
        """The last frame was large, and made it longer: there is little more than a tail behind it."""
        # A directory that lost both would say that no id was given out.
        self._handle = create_durably(fs, directory, active_name(base), data, undo=not replaces)
        self._block_bytes = fs.bypass_cache(self._handle)
        self._last_block = data[self.end - self.end % self._block_bytes : self.end]
        """The committed bytes of the block that the next frame begins in, which is written whole."""

    @property
    def size(self) -> int:
        """How many bytes the file has."""
        return self._file_end

    def write(self, runs: Sequence[Run], records: int, cursor: int) -> int:
        """Commit one frame of so many records; it is durable when this returns. Gives how many bytes were written."""
        assert runs[0][0] > self.last
        block_start = self.end - len(self._last_block)
        pieces, end, crc, alarms = self._frame(runs, self.count + records, cursor)
        tail_end = end + len(TAIL)
        size = end - TRAILER_BYTES - self.end
        large = size > _SMALL_COMMIT_BYTES
        kept = end % self._block_bytes
        filled = write_end = tail_end + -tail_end % self._block_bytes
        ahead, grows = 0, tail_end + _MARGIN_BYTES > self._file_end
        if grows and large:
            write_end = self._new_size(block_start, size, tail_end)
        elif grows:
            ahead, grows = self._write_ahead(self._new_size(block_start, size, tail_end)), False
        if write_end - block_start <= _SMALL_COMMIT_BYTES:
            pieces.append(TAIL.ljust(write_end - end))
            data = b"".join(pieces)
            last_block = data[end - kept - block_start : end - block_start]
            pieces = [data]
        else:
            last_block = _ending(pieces, kept)
            pieces += (TAIL.ljust(filled - end), *_spaces(write_end - filled))
        if grows:
            self._grow(pieces, block_start, at_once=self._tight)
        else:
            self._fs.write_durably(self._handle, pieces, block_start, grows=False)
        if self._fs.removed(self._handle):  # it keeps nothing then
            raise self._removed()
        if grows:
            self._file_end = write_end
        self._last_block, self._tight = last_block, grows
        self.end, self._crc, self.alarms = end, crc, alarms
        self.count += records
        first, documents = runs[-1]
        self.last = first + len(documents) - 1
        return ahead + write_end - block_start

    def _frame(self, runs: Sequence[Run], count: int, cursor: int) -> tuple[list[bytes], int, int, list[int]]:
        """The next frame behind the block in which the last one ends; its end, its checksum, and where its alarms are."""
        pieces = [self._last_block]
        crc, end = self._crc, self.end
        alarms: list[int] = []
        for text in run_lines(runs, first=self.count == 0):
            crc = crc32(text, crc)
            if starts := alarm_starts(text):
                alarms += [end + at for at in starts]
            end += len(text)
            pieces.append(text)
        trailer, crc = close_frame(b"", crc, records=count, cursor=cursor)
        pieces.append(trailer)
        return pieces, end + TRAILER_BYTES, crc, alarms

    def _write_ahead(self, new_size: int) -> int:
        """Make the file so long by spaces; gives how many."""
        ahead = new_size - self._file_end
        self._fs.write_durably(self._handle, _spaces(ahead), self._file_end, grows=True)
        self._file_end = new_size
        return ahead

    def _grow(self, pieces: list[bytes], block_start: int, *, at_once: bool) -> None:
        """Write a large frame, by which the file becomes longer."""
        within, beyond = ([], pieces) if at_once else _split(pieces, self._file_end - block_start)
        try:
            self._fs.write_durably(
                self._handle, beyond, block_start if at_once else self._file_end, grows=True
            )
        except OSError as error:
            if error.errno == ENOSPC:  # what there was room for is given back: the file would look cut off
                with suppress(OSError):
                    self._fs.truncate(self._handle, self._file_end)
            raise
        if within:
            self._fs.write_durably(self._handle, within, block_start, grows=False)

    def _new_size(self, block_start: int, commit_bytes: int, tail_end: int) -> int:
        """How long the file becomes when a commit makes it grow."""
        needed = tail_end + _MARGIN_BYTES
        if commit_bytes <= _SMALL_COMMIT_BYTES:
            most = self._prefill_bytes * 4
            ahead = min(max(self._prefill_bytes, commit_bytes * _PREFILL_COMMITS), most) - BLOCK_BYTES
            needed = max(needed, min(block_start + ahead, self._full_bytes + BLOCK_BYTES))
        return _rounded_up(needed, BLOCK_BYTES)

    def seal(self, high_water: int = 0) -> SealedName:
        """Give the file its final size, durably, and its name; durable once the directory is synced.

        Args:
            high_water: Ids up to here were given out, though perhaps to nothing in this file.
        """
        self._fs.truncate(self._handle, self.end + len(TAIL))
        self._fs.sync(self._handle)
        name = SealedName(self.base, 0, self.count, crc32(TAIL, self._crc), max(self.last, high_water))
        self._fs.rename(self._path, f"{self._directory}/{name}")
        self._fs.close(self._handle)
        return name

    def require_in_place(self) -> None:
        """Raises FileNotFoundError when somebody removed the file, or moved it."""
        if not self._fs.in_place(self._handle, self._path):
            raise self._removed()

    def _removed(self) -> FileNotFoundError:
        return FileNotFoundError(ENOENT, "the file was removed by somebody else", self._path)

    def abandon(self) -> None:
        """Let go of a file that failed; it is never written or synced again."""
        self._fs.close(self._handle)

    def room_for(self, records: int) -> bool:
        """Whether the trailer can count so many more."""
        return self.count + records <= RECORDS_MAX


def _split(pieces: list[bytes], size: int) -> tuple[list[bytes], list[bytes]]:
    """The first bytes of what the pieces are together, and the others."""
    for at, piece in enumerate(pieces):
        if size < len(piece):
            return [*pieces[:at], piece[:size]], [piece[size:], *pieces[at + 1 :]]
        size -= len(piece)
    return pieces, []


def is_left_by_crash(data: bytes, end: int, frame_bytes: int) -> bool:
    """Whether a crash can leave an active file so.

    Args:
        data: The whole file.
        end: Where its last good frame ends.
        frame_bytes: How long that frame is without its trailer.
    """
    rest = data[end:]
    if rest.startswith(TAIL):
        return True
    large = frame_bytes > _SMALL_COMMIT_BYTES
    # So long was the file when a large commit behind a large one was begun.
    before = _rounded_up(end + len(TAIL) + _MARGIN_BYTES, BLOCK_BYTES)
    strange = rest.translate(None, _TEXT)
    if len(strange) > _FLIPPED_BYTES_MAX:
        # What a file became longer by, and nothing was written to, reads as zeros.
        return large and not strange.strip(b"\0") and data.index(b"\0", end) >= before
    if rest.endswith(SPACES[:_MARGIN_BYTES]) or rest.rstrip(b" ").endswith(TAIL):
        return True
    return large and len(data) == before


def _rounded_up(size: int, multiple: int) -> int:
    return size + -size % multiple


def _spaces(size: int) -> list[bytes]:
    whole, rest = divmod(size, len(SPACES))
    return [SPACES] * whole + ([SPACES[:rest]] if rest else [])


def _ending(pieces: list[bytes], size: int) -> bytes:
    """The last bytes of what the pieces are together."""
    found = b""
    for piece in reversed(pieces):
        if len(found) >= size:
            break
        found = piece[max(0, len(piece) + len(found) - size) :] + found
    return found


def create_durably(fs: FileSystem, directory: str, name: str, data: bytes, *, undo: bool = True) -> int:
    """Make a file with its content under its name, all durable; returns its open handle.

    Under a temporary name first, so that no file with a final name is ever incomplete; the name is
    random, so that one left by a crash is not in the way.

    Args:
        fs: The file system.
        directory: Where.
        name: Its name.
        data: Its content.
        undo: Remove it again when only its name could not be made durable.
    """
    temporary = made = f"{directory}/t.{secrets.token_hex(8)}.json"
    handle = fs.create(temporary)
    try:
        fs.write(handle, data, 0)
        fs.sync(handle)
        fs.rename(temporary, f"{directory}/{name}")
        made = f"{directory}/{name}"
        fs.sync_directory(directory)
    except BaseException:
        fs.close(handle)
        if made == temporary or undo:
            with suppress(OSError):  # it will be swept at the next opening
                fs.unlink(made)
        raise
    return handle


def build_segment(
    table: str, base: int, rev: int, records: list[tuple[int, bytes]], *, last: int, cursor: int
) -> tuple[SealedName, bytes]:
    """A whole sealed segment: its name and its bytes."""
    content = header(table)
    trailer, crc = close_frame(content, 0, records=0, cursor=cursor)
    parts = [content, trailer]
    done = 0
    while done < len(records):
        size, stop = 0, done
        while stop < len(records) and size < _FRAME_BYTES:
            size += len(records[stop][1])
            stop += 1
        content = lines(records[done:stop], first=done == 0)
        trailer, crc = close_frame(content, crc, records=stop, cursor=cursor)
        parts += [content, trailer]
        done = stop
    parts.append(TAIL)
    return SealedName(base, rev, len(records), crc32(TAIL, crc), last), b"".join(parts)
