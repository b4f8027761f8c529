"""A disk in memory behind the buffer's file system seam, which fails as real ones do.

What is modelled:

- A write lands in the page cache; only `sync` makes it durable. At a power cut each 512-byte sector
  not synced yet is kept, lost or torn, independently of all others, and so is a change of size.
- Creations, renames and removals become durable in order; a power cut keeps any prefix of those
  since the directory was last synced.
- A failed sync marks its pages clean: the data is still read back, a later sync succeeds, and yet
  it never reaches the disk ("fsyncgate").
- A full disk writes a part of what it was given, then refuses.
"""

import errno
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

SECTOR_BYTES = 512


class PowerCut(BaseException):
    """The process ends here. A BaseException, so that nothing handles it."""


@dataclass
class File:
    """One file: what a process reads, and what is on the platter."""

    cache: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)
    size_dirty: bool = False


class FaultyDisk:
    """Implements `buffer.filesystem.FileSystem`.

    Attributes:
        operations: How many changing operations were begun.
        cut_at: The power goes during this operation.
        fail_at: These operations fail, with this error number.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.files: dict[str, File] = {}
        self._durable_names: dict[str, File] = {}
        self._pending_names: list[Callable[[dict[str, File]], None]] = []
        self.directories: set[str] = set()
        self._handles: dict[int, File] = {}
        self._locks: dict[str, File] = {}
        self._next_handle = 3
        self.operations = 0
        self.off = False
        self.cut_at: int | None = None
        self.fail_at: dict[int, int] = {}
        self.fail_when: Callable[[str], int | None] = lambda _: None
        self.free = 1 << 40
        self.total = 1 << 41
        self.now_s = 1_700_000_000.0

    # -- faults

    def _begin(self, what: str, partly: Callable[[], None] = lambda: None) -> None:
        """One more changing operation: it may be the one that fails."""
        if self.off:
            raise PowerCut  # what a dying process still tries does not happen
        self.operations += 1
        if self.operations == self.cut_at:
            self.off = True
            if self._rng.random() < 0.7:
                partly()
            raise PowerCut
        error = self.fail_at.get(self.operations) or self.fail_when(what)
        if error:
            partly()
            raise OSError(error, f"injected at operation {self.operations}, {what}")

    def power_cut(self) -> None:
        """What is left when the power comes back."""
        rng = self._rng
        kept = rng.randint(0, len(self._pending_names))
        for change in self._pending_names[:kept]:
            change(self._durable_names)
        for file in set(map(id, self._durable_names.values())):
            self._settle(next(each for each in self._durable_names.values() if id(each) == file))
        self.kill()
        self.files = dict(self._durable_names)
        self._pending_names.clear()
        self.cut_at = None
        self.fail_at.clear()

    def kill(self) -> None:
        """The process ends, the machine goes on: all that was written is still in the cache."""
        self._handles.clear()
        self.off = False
        self.cut_at = None
        self.fail_at.clear()

    def _settle(self, file: File) -> None:
        rng = self._rng
        size = len(file.durable)
        if file.size_dirty and rng.random() < 0.5:
            size = len(file.cache)
        result = bytearray(file.durable[:size].ljust(size, b"\0"))
        mood = rng.random()  # mostly kept, mostly lost, or evenly mixed
        for sector in sorted(file.dirty):
            start = sector * SECTOR_BYTES
            stop = min(start + SECTOR_BYTES, size, len(file.cache))
            if start >= stop:
                continue
            chance = rng.random()
            if chance < 0.1:
                stop = rng.randint(start, stop)
            elif chance > 0.1 + 0.9 * mood:
                continue
            result[start:stop] = file.cache[start:stop]
        file.cache, file.durable = bytearray(result), result
        file.dirty.clear()
        file.size_dirty = False

    # -- the protocol

    def make_directory(self, path: str) -> None:
        self.directories.add(path)

    def list_directory(self, path: str) -> list[str]:
        prefix = path + "/"
        names = {name[len(prefix) :].split("/")[0] for name in self.files if name.startswith(prefix)}
        names |= {name[len(prefix) :].split("/")[0] for name in self.directories if name.startswith(prefix)}
        return sorted(names, key=lambda _: self._rng.random())

    def create(self, path: str) -> int:
        self._begin("create")
        if path in self.files:
            raise FileExistsError(errno.EEXIST, path)
        file = File()
        self._change_names(lambda names: names.__setitem__(path, file))
        return self._handle(file)

    def open(self, path: str, *, write: bool = False) -> int:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, path)
        return self._handle(self.files[path])

    def _handle(self, file: File) -> int:
        self._next_handle += 1
        self._handles[self._next_handle] = file
        return self._next_handle

    def close(self, handle: int) -> None:
        self._handles.pop(handle, None)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return bytes(self._handles[handle].cache[offset : offset + size])

    def write(self, handle: int, data: bytes, offset: int) -> None:
        file = self._handles[handle]
        self._begin("write", lambda: self._write(file, data[: self._rng.randint(0, len(data))], offset))
        self._write(file, data, offset)

    def _write(self, file: File, data: bytes, offset: int) -> None:
        if not data:
            return
        end = offset + len(data)
        if end > len(file.cache):
            file.cache.extend(bytes(end - len(file.cache)))
            file.size_dirty = True
        file.cache[offset:end] = data
        file.dirty.update(range(offset // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1))

    def write_pieces(self, handle: int, pieces: Sequence[bytes], offset: int) -> None:
        data = b"".join(pieces)
        assert offset % SECTOR_BYTES == len(data) % SECTOR_BYTES == 0
        self.write(handle, data, offset)

    def bypass_cache(self, handle: int) -> int:
        return SECTOR_BYTES  # every write is torn and lost here as one past the cache may be

    def sync(self, handle: int) -> None:
        file = self._handles[handle]

        def fail() -> None:
            if self.operations == self.cut_at:
                return
            self._settle_failed(file)

        self._begin("sync", fail)
        size = len(file.cache)
        file.durable = file.durable[:size].ljust(size, b"\0") if file.size_dirty else file.durable
        for sector in file.dirty:
            start = sector * SECTOR_BYTES
            file.durable[start : start + SECTOR_BYTES] = file.cache[start : start + SECTOR_BYTES]
        file.dirty.clear()
        file.size_dirty = False

    def _settle_failed(self, file: File) -> None:
        """The cache keeps the data, the disk has some of it, and nobody will write the rest."""
        cache = bytes(file.cache)
        self._settle(file)
        file.cache = bytearray(cache)
        file.size_dirty = len(cache) != len(file.durable)

    def truncate(self, handle: int, size: int) -> None:
        file = self._handles[handle]
        self._begin("truncate")
        if size != len(file.cache):
            file.cache = bytearray(file.cache[:size].ljust(size, b"\0"))
            file.size_dirty = True

    def size(self, handle: int) -> int:
        return len(self._handles[handle].cache)

    def sync_directory(self, path: str) -> None:
        self._begin("sync_directory")
        for change in self._pending_names:
            change(self._durable_names)
        self._pending_names.clear()

    def rename(self, source: str, target: str) -> None:
        if source not in self.files:
            raise FileNotFoundError(errno.ENOENT, source)
        self._begin("rename")
        file = self.files[source]

        def change(names: dict[str, File]) -> None:
            names.pop(source, None)
            names[target] = file

        self._change_names(change)

    def unlink(self, path: str) -> None:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, path)
        self._begin("unlink")
        self._change_names(lambda names: names.pop(path, None))

    def _change_names(self, change: Callable[[dict[str, File]], object]) -> None:
        change(self.files)
        self._pending_names.append(change)  # type: ignore[arg-type]  # its result is of no interest

    def modified_s(self, path: str) -> float:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, path)
        return self.now_s

    def in_place(self, handle: int, path: str) -> bool:
        return self.files.get(path, self._locks.get(path)) is self._handles[handle]

    def removed(self, handle: int) -> bool:
        file = self._handles[handle]
        return not any(each is file for each in self.files.values())

    def free_bytes(self, path: str) -> int:
        return self.free

    def total_bytes(self, path: str) -> int:
        return self.total

    def lock(self, path: str) -> int:
        self._locks[path] = File()
        return self._handle(self._locks[path])
