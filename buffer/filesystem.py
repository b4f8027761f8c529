"""All file access of the buffer, as one small seam, so that tests can inject every fault a disk has.

The buffer calls nothing but these operations; each but `make_directory` and `write_durably` is one system
call, and `write_durably` is one as well where the kernel can write and sync in one. A crash
simulation implements the protocol in memory and decides which un-synced bytes and directory entries
survive.
"""

import ctypes
import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from errno import EACCES, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EOPNOTSUPP, EPERM
from mmap import mmap
from typing import Final, Protocol

BLOCK_BYTES: Final = 4096
"""What every disk can take past the cache, and the most that it may ask for at a time."""
SPACES: Final = b" " * (64 << 10)
"""What files are written ahead with: this very object as a piece of `write_durably` is not copied."""
_SECTOR_BYTES: Final = 512
_ALIGNED_BYTES: Final = 64 * BLOCK_BYTES
_READ_TRIES: Final = 4
_NOTHING_TO_LOOK_INTO: Final = frozenset({ENOENT, ENOTDIR, EACCES, EPERM, ENAMETOOLONG, ELOOP})

# The standard library's fstat asks for a file's times as well. A kernel that told them (from 6.13 on)
# gives the file new ones with its next write, and so a commit that is followed by an fstat writes the
# file's inode, too: as much again on a disk without a journal. statx(2) tells the number of links alone.
_statx = getattr(ctypes.PyDLL(None), "statx", None)
_AT_EMPTY_PATH: Final = 0x1000
_STATX_NLINK: Final = 0x4
_STATUS_NUMBERS: Final = 64
_NLINK_AT: Final = 4
"""`struct statx` has 256 bytes, and the number of links as its fifth number of 32 bits."""


class FileSystem(Protocol):
    """What the buffer needs of a file system. Every method may raise OSError."""

    def make_directory(self, path: str) -> None:
        """Create a directory and its parents, durably; fine when it exists."""
        ...

    def list_directory(self, path: str) -> list[str]:
        """The names in a directory, in no order."""
        ...

    def create(self, path: str) -> int:
        """Open a new file for reading and writing; an existing one is an error."""
        ...

    def open(self, path: str, *, write: bool = False) -> int:
        """Open an existing file."""
        ...

    def close(self, handle: int) -> None:
        """Close an open file."""
        ...

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """At most `size` bytes from `offset`; fewer at the end of the file."""
        ...

    def write(self, handle: int, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset`."""
        ...

    def write_durably(self, handle: int, pieces: Sequence[bytes], offset: int, *, grows: bool) -> None:
        """Write all pieces, one behind the other, as one, and make them durable: as `write` and `sync`.

        Args:
            handle: The file.
            pieces: What is written; from the first one that is `SPACES` on, spaces only.
            offset: Where.
            grows: The file gets longer by it.
        """
        ...

    def sync(self, handle: int) -> None:
        """Make a file's data (and its size) durable: fdatasync."""
        ...

    def bypass_cache(self, handle: int) -> int:
        """From now on, write to this file past the cache where it can be done.

        Returns:
            What offsets and sizes of writes must be a multiple of from now on, a power of two up to
            `BLOCK_BYTES`; 1 where the cache cannot be bypassed.
        """
        ...

    def truncate(self, handle: int, size: int) -> None:
        """Cut a file off."""
        ...

    def size(self, handle: int) -> int:
        """The size of a file in bytes."""
        ...

    def sync_directory(self, path: str) -> None:
        """Make the entries of a directory durable."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, atomically."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a file."""
        ...

    def modified_s(self, path: str) -> float:
        """When a file was last written: seconds since 1970."""
        ...

    def in_place(self, handle: int, path: str) -> bool:
        """Whether the file of this name is the open one: it was not removed or replaced."""
        ...

    def removed(self, handle: int) -> bool:
        """Whether an open file has no name any more."""
        ...

    def free_bytes(self, path: str) -> int:
        """What a process without privileges may still write to this disk."""
        ...

    def total_bytes(self, path: str) -> int:
        """The size of the disk."""
        ...

    def lock(self, path: str) -> int:
        """Create a file where missing and lock it for this process; BlockingIOError when another has it."""
        ...


def read_file(fs: FileSystem, path: str) -> bytes:
    """A whole file, as far as it can be read.

    A disk that refuses is asked again; sectors that it refuses for good come as zeros, so that they
    cost no others.

    Raises:
        OSError: It cannot be opened, or no part of it can be read.
    """
    for left in range(_READ_TRIES - 1, -1, -1):
        try:
            handle = fs.open(path)
        except FileNotFoundError:
            raise
        except OSError:
            if not left:
                raise
            continue
        try:
            size = fs.size(handle)
            try:
                return fs.read(handle, size, 0)
            except OSError:
                if not left:
                    return _read_sectors(fs, handle, size)
        finally:
            fs.close(handle)
    raise AssertionError("the last try returns or raises")


def names_in(fs: FileSystem, path: str) -> list[str]:
    """The names in a directory; none where there is nothing to look into: no such name, a file, somebody else's folder.

    Raises:
        OSError: The disk refuses, so that nobody knows what is there.
    """
    try:
        return fs.list_directory(path)
    except OSError as error:
        if error.errno in _NOTHING_TO_LOOK_INTO:
            return []
        raise


def _read_sectors(fs: FileSystem, handle: int, size: int) -> bytes:
    data = bytearray(size)
    refusals = []
    for at in range(0, size, BLOCK_BYTES):
        try:
            piece = fs.read(handle, min(BLOCK_BYTES, size - at), at)
        except OSError as error:
            refusals.append(error)
        else:
            data[at : at + len(piece)] = piece
    if len(refusals) * BLOCK_BYTES >= size > 0:
        raise refusals[0]
    return bytes(data)


def _write_once(handle: int, parts: Sequence[memoryview], offset: int) -> int:
    return os.pwrite(handle, parts[0], offset) if len(parts) == 1 else os.pwritev(handle, parts, offset)


def _beyond(parts: Sequence[memoryview], size: int) -> list[memoryview]:
    """What is left of them after so many bytes."""
    left = []
    for part in parts:
        if size < len(part):
            left.append(part[size:])
        size = max(0, size - len(part))
    return left


class SystemFileSystem:
    """The file system of this machine."""

    def __init__(self) -> None:
        self._aligned: dict[int, memoryview] = {}
        """For each file written past the cache, memory that the disk can take data from."""
        self._at_once: dict[int, memoryview] = {}
        """Likewise, for those that the kernel writes and syncs in one call."""
        self._inodes: dict[int, tuple[int, int]] = {}
        """Which file an open one is, once that was asked for."""
        self._status: dict[int, ctypes.Array[ctypes.c_uint32]] = {}
        """Room for what the kernel answers about an open file."""
        self._block_bytes: dict[int, int] = {}
        """What each device writes at once, by its number."""
        self._spaces = memoryview(mmap(-1, len(SPACES)))
        """`SPACES`, where the disk can take them from."""
        self._spaces[:] = SPACES

    def make_directory(self, path: str) -> None:
        """Create a directory and its parents, durably; fine when it exists."""
        path = os.path.abspath(path)
        try:
            with os.scandir(path) as entries:
                if next(entries, None) is not None:
                    return
        except FileNotFoundError:
            self.make_directory(os.path.dirname(path))
            with suppress(FileExistsError):  # somebody else was faster
                os.mkdir(path, 0o750)
        # An empty one was perhaps made by a process that ended before this.
        with suppress(PermissionError):  # a parent that may be written to, but not be read
            self.sync_directory(os.path.dirname(path))

    def list_directory(self, path: str) -> list[str]:
        """The names in a directory, in no order."""
        return os.listdir(path)

    def create(self, path: str) -> int:
        """Open a new file for reading and writing; an existing one is an error."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)

    def open(self, path: str, *, write: bool = False) -> int:
        """Open an existing file."""
        return os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)

    def close(self, handle: int) -> None:
        """Close an open file."""
        self._aligned.pop(handle, None)
        self._at_once.pop(handle, None)
        self._inodes.pop(handle, None)
        self._status.pop(handle, None)
        os.close(handle)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """At most `size` bytes from `offset`; fewer at the end of the file."""
        data = os.pread(handle, size, offset)
        while len(data) < size:
            more = os.pread(handle, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def write(self, handle: int, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset`."""
        written = os.pwrite(handle, data, offset)
        while written < len(data):
            written += os.pwrite(handle, data[written:], offset + written)

    def write_durably(self, handle: int, pieces: Sequence[bytes], offset: int, *, grows: bool) -> None:
        """Write all pieces, one behind the other, as one, and make them durable.

        In one system call where that is all there is to do. A disk that can write through its own cache
        is then asked for that, instead of writing and emptying its cache.
        """
        memory = self._at_once.get(handle)
        # Kernels before 6.7 do not make the new size of an ext4 file durable in the one call.
        if memory is not None and not grows:
            filled = 0
            for piece in pieces:
                end = filled + len(piece)
                if end > _ALIGNED_BYTES:
                    break
                memory[filled:end] = piece
                filled = end
            else:
                try:
                    if os.pwritev(handle, (memory[:filled],), offset, os.RWF_DSYNC) == filled:
                        return
                except OSError as error:
                    if error.errno not in {EINVAL, EOPNOTSUPP}:
                        raise
        memory = self._aligned.get(handle)
        if memory is None:
            self.write(handle, b"".join(pieces), offset)
        else:
            self._write_pieces(handle, pieces, offset, memory)
        os.fdatasync(handle)

    def _write_pieces(self, handle: int, pieces: Sequence[bytes], offset: int, memory: memoryview) -> None:
        filled = 0
        for at, piece in enumerate(pieces):
            if piece is SPACES and not filled % _SECTOR_BYTES:
                # Nothing but spaces comes after these. All at once: the disk is waited for once.
                ahead = [self._spaces[: len(more)] for more in pieces[at:]]
                self._write_aligned(handle, [memory[:filled], *ahead], offset)
                return
            end = filled + len(piece)
            if end < _ALIGNED_BYTES:
                memory[filled:end] = piece
                filled = end
                continue
            taken = 0
            while taken < len(piece):
                part = piece[taken : taken + _ALIGNED_BYTES - filled]
                memory[filled : filled + len(part)] = part
                filled += len(part)
                taken += len(part)
                if filled == _ALIGNED_BYTES:
                    self._write_aligned(handle, [memory], offset)
                    offset, filled = offset + filled, 0
        if filled:
            self._write_aligned(handle, [memory[:filled]], offset)

    def _write_aligned(self, handle: int, parts: Sequence[memoryview], offset: int) -> None:
        size, written = sum(map(len, parts)), 0
        try:
            written = _write_once(handle, parts, offset)
            while written < size:
                written += _write_once(handle, _beyond(parts, written), offset + written)
        except OSError as error:
            if error.errno != EINVAL:
                raise
            # This disk cannot do it after all, or not in blocks of this size: nothing was written.
            flags = fcntl.fcntl(handle, fcntl.F_GETFL)
            fcntl.fcntl(handle, fcntl.F_SETFL, flags & ~os.O_DIRECT)
            self.write(handle, b"".join(_beyond(parts, written)), offset + written)

    def sync(self, handle: int) -> None:
        """Make a file's data (and its size) durable."""
        os.fdatasync(handle)

    def bypass_cache(self, handle: int) -> int:
        """Set O_DIRECT where the file system has it.

        A commit then takes two thirds of the time and half the CPU time, writes no more than the blocks
        of the disk that change, and does not push out of memory what others need there.
        """
        try:
            fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) | os.O_DIRECT)
        except OSError:  # there is no disk below it, or the file system wants to see the data
            return 1
        memory = self._aligned[handle] = memoryview(mmap(-1, _ALIGNED_BYTES))
        device = os.fstat(handle).st_dev
        # Others are not right on a disk: over a network, or in a program, which need not do as it is asked.
        if os.major(device) and hasattr(os, "RWF_DSYNC"):
            self._at_once[handle] = memory
        if device not in self._block_bytes:
            self._block_bytes[device] = _block_bytes(device)
        return self._block_bytes[device]

    def truncate(self, handle: int, size: int) -> None:
        """Cut a file off."""
        os.ftruncate(handle, size)

    def size(self, handle: int) -> int:
        """The size of a file in bytes."""
        return os.fstat(handle).st_size

    def sync_directory(self, path: str) -> None:
        """Make the entries of a directory durable."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, atomically."""
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def modified_s(self, path: str) -> float:
        """When a file was last written: seconds since 1970."""
        return os.stat(path).st_mtime

    def in_place(self, handle: int, path: str) -> bool:
        """Whether the file of this name is the open one: it was not removed or replaced."""
        try:
            named = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        opened = self._inodes.get(handle)
        if opened is None:
            status = os.fstat(handle)
            opened = self._inodes[handle] = (status.st_dev, status.st_ino)
        return (named.st_dev, named.st_ino) == opened

    def removed(self, handle: int) -> bool:
        """Whether an open file has no name any more."""
        status = self._status.get(handle)
        if status is None:
            status = self._status[handle] = (ctypes.c_uint32 * _STATUS_NUMBERS)()
        if _statx is None or _statx(handle, b"", _AT_EMPTY_PATH, _STATX_NLINK, status):
            return os.fstat(handle).st_nlink == 0
        return status[_NLINK_AT] == 0

    def free_bytes(self, path: str) -> int:
        """What a process without privileges may still write to this disk."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    def total_bytes(self, path: str) -> int:
        """The size of the disk."""
        status = os.statvfs(path)
        return status.f_blocks * status.f_frsize

    def lock(self, path: str) -> int:
        """Create a file where missing and lock it for this process."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise
        return handle


def _block_bytes(device: int) -> int:
    """What a device writes at once, as it says itself: 512 bytes for most cards, 4,096 for many drives."""
    place = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
    for queue in ("queue", "../queue"):  # a partition's is its disk's
        with suppress(OSError, ValueError), open(f"{place}/{queue}/physical_block_size", "rb") as file:
            size = int(file.read())
            return size if _SECTOR_BYTES <= size <= BLOCK_BYTES and not size & (size - 1) else BLOCK_BYTES
    return BLOCK_BYTES
