"""A disk in memory behind the buffer's file system seam, which fails as real ones do.

What is modelled:

- A write lands in the page cache; only `sync` makes it durable. At a power cut each 512-byte sector
  not synced yet is kept, lost or torn, independently of all others, and so is a change of size.
- Creations, renames and removals become durable in order; a power cut keeps any prefix of those
  since a directory was last synced, as ext4 does. `ordered=False` is stricter, as POSIX allows: any
  subset of those survives whose own directory was not synced. A rename is one step either way.
- A failed sync marks its pages clean: the data is still read back, a later sync succeeds, and yet
  it never reaches the disk ("fsyncgate"). `forget_pages` is memory running short: then they are read
  as the disk has them.
- A full disk writes a part of what it was given, then refuses.
- Any call may fail, once or for ever, the reading ones too.

`survivor` is what a power cut at this moment may leave, as another disk: the first one goes on, so
that one run is tried at all its moments.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

SECTOR_BYTES = 512

Kept = Literal["some", "least", "most"]


class PowerCut(BaseException):
    """The process ends here. A BaseException, so that nothing handles it."""


@dataclass(eq=False)
class File:
    """One file: what a process reads, and what is on the platter."""

    cache: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    dirty: set[int] = field(default_factory=set)
    """Sectors that the next sync writes."""
    size_dirty: bool = False
    failed: set[int] = field(default_factory=set)
    """Sectors whose sync failed: no sync writes them any more, unless they are written to again."""
    modified_s: float = 0.0

    def settled(self, rng: random.Random, kept: Kept = "some") -> bytes:
        """What is on the platter after a power cut."""
        if not self.dirty and not self.size_dirty:
            return bytes(self.durable)
        if kept == "least":
            return bytes(self.durable)
        size = self._settled_size(rng, kept)
        result = bytearray(self.durable[:size].ljust(size, b"\0"))
        mood = 2.0 if kept == "most" else rng.random()  # mostly kept, mostly lost, or evenly mixed
        for sector in sorted(self.dirty):
            start = sector * SECTOR_BYTES
            stop = min(start + SECTOR_BYTES, size, len(self.cache))
            if start >= stop:
                continue
            chance = rng.random() + (kept == "most")
            if chance < 0.1:
                stop = rng.randint(start, stop)
            elif chance > 0.1 + 0.9 * mood:
                continue
            result[start:stop] = self.cache[start:stop]
        return bytes(result)

    def _settled_size(self, rng: random.Random, kept: Kept) -> int:
        before, after = len(self.durable), len(self.cache)
        if not self.size_dirty:
            return before
        if kept == "most":
            return after
        chance = rng.random()
        if chance < 0.4:
            return before
        # A file grows with the pages that were written back, so any size between may be found.
        return after if chance < 0.8 else rng.randint(min(before, after), max(before, after))

    def write(self, data: bytes, offset: int) -> None:
        """Into the page cache."""
        if not data:
            return
        end = offset + len(data)
        if end > len(self.cache):
            self.cache.extend(bytes(end - len(self.cache)))
            self.size_dirty = True
        self.cache[offset:end] = data
        touched = range(offset // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1)
        self.dirty.update(touched)
        if self.failed:
            self.failed.difference_update(touched)

    def truncate(self, size: int) -> None:
        """In the page cache."""
        if size != len(self.cache):
            self.cache = bytearray(self.cache[:size].ljust(size, b"\0"))
            self.size_dirty = True

    def sync(self) -> None:
        """Write what is dirty."""
        if self.failed:
            platter = bytearray(self.durable[: len(self.cache)].ljust(len(self.cache), b"\0"))
            for sector in self.dirty:
                start = sector * SECTOR_BYTES
                platter[start : start + SECTOR_BYTES] = self.cache[start : start + SECTOR_BYTES]
            self.durable = bytes(platter)
        elif self.dirty or self.size_dirty:
            self.durable = bytes(self.cache)
        self.dirty.clear()
        self.size_dirty = False

    def fail_sync(self, rng: random.Random) -> None:
        """The cache keeps the data, the disk has some of it, and nobody will write the rest."""
        self.durable = self.settled(rng)
        self.failed |= self.dirty
        self.dirty.clear()
        self.size_dirty = len(self.cache) != len(self.durable)

    def forget_pages(self) -> None:
        """Clean pages are dropped from memory, and so read from the disk again."""
        for sector in self.failed:
            start = sector * SECTOR_BYTES
            old = self.durable[start : start + SECTOR_BYTES]
            stop = min(start + SECTOR_BYTES, len(self.cache))
            if start < stop:
                self.cache[start:stop] = old[: stop - start].ljust(stop - start, b"\0")
        self.failed.clear()


@dataclass(frozen=True, slots=True)
class NameChange:
    """One step of directories that is not known to be durable."""

    source: str | None
    target: str | None
    file: File | None
    """None: a directory."""

    def apply(self, files: dict[str, File], directories: set[str]) -> None:
        """Let it have happened."""
        if self.file is None:
            assert self.target is not None
            directories.add(self.target)
            return
        if self.source is not None:
            files.pop(self.source, None)
        if self.target is not None:
            files[self.target] = self.file

    def in_directory(self, path: str) -> bool:
        """Whether it is a step of this directory."""
        return path in {name.rpartition("/")[0] for name in (self.source, self.target) if name is not None}


class FaultyDisk:
    """Implements `buffer.filesystem.FileSystem`.

    Attributes:
        operations: How many changing operations were begun.
        looks: How many reading ones.
        cut_at: The power goes during this changing operation.
        fail_at: These changing operations fail, with this error number.
        fail_look_at: These reading ones.
        fail_when: Asked with a changing operation's name before each; gives an error number or None.
        fail_look_when: Likewise of reading ones.
        before_change: Called before each changing operation, when it is sure to begin.
    """

    def __init__(self, rng: random.Random, *, ordered: bool = True) -> None:
        self._rng = rng
        self.ordered = ordered
        self.files: dict[str, File] = {}
        self.directories: set[str] = set()
        self._durable_files: dict[str, File] = {}
        self._durable_directories: set[str] = set()
        self._pending: list[NameChange] = []
        self._handles: dict[int, File] = {}
        self._paths: dict[int, str] = {}
        self._locks: dict[str, File] = {}
        self._next_handle = 3
        self.operations = self.looks = 0
        self.off = False
        self.cut_at: int | None = None
        self.fail_at: dict[int, int] = {}
        self.fail_look_at: dict[int, int] = {}
        self.fail_when: Callable[[str], int | None] = lambda _: None
        self.fail_look_when: Callable[[str], int | None] = lambda _: None
        self.before_change: Callable[[], None] = lambda: None
        self.free = 1 << 40
        self.total = 1 << 41
        self.now_s = 1_700_000_000.0

    # -- faults

    def _begin(self, what: str, path: str, partly: Callable[[], None] = lambda: None) -> None:
        """One more changing operation: it may be the one that fails."""
        if self.off:
            raise PowerCut  # what a dying process still tries does not happen
        self.before_change()
        self.operations += 1
        if self.operations == self.cut_at:
            self.off = True
            if self._rng.random() < 0.7:
                partly()
            raise PowerCut
        error = self.fail_at.get(self.operations) or self.fail_when(what)
        if error:
            partly()
            raise OSError(error, f"injected at operation {self.operations}, {what}", path)

    def _look(self, what: str, path: str) -> None:
        if self.off:
            raise PowerCut
        self.looks += 1
        error = self.fail_look_at.get(self.looks) or self.fail_look_when(what)
        if error:
            raise OSError(error, f"injected at look {self.looks}, {what}", path)

    @property
    def unsettled(self) -> bool:
        """Whether a power cut now could leave more than one state."""
        return bool(self._pending) or any(f.dirty or f.size_dirty for f in self._durable_files.values())

    def survivor(self, rng: random.Random, kept: Kept = "some") -> FaultyDisk:
        """What a power cut now may leave, as a disk of its own; the present one goes on."""
        after = FaultyDisk(rng, ordered=self.ordered)
        files, directories = dict(self._durable_files), set(self._durable_directories)
        for change in self._surviving_changes(rng, kept):
            change.apply(files, directories)
        for path, file in files.items():
            if path.rpartition("/")[0] in directories:
                content = file.settled(rng, kept)
                after.files[path] = File(bytearray(content), content, modified_s=file.modified_s)
        after.directories = {each for each in directories if self._parents(each) <= directories}
        after._durable_files = dict(after.files)
        after._durable_directories = set(after.directories)
        after.now_s, after.free = self.now_s, self.free
        return after

    def _surviving_changes(self, rng: random.Random, kept: Kept) -> list[NameChange]:
        changes = self._pending
        if kept == "least":
            return []
        if kept == "most":
            return changes
        if self.ordered:
            return changes[: rng.randint(0, len(changes))]
        mood = rng.random()
        return [change for change in changes if rng.random() < mood]

    @staticmethod
    def _parents(path: str) -> set[str]:
        parts = path.split("/")[1:-1]
        return {"/" + "/".join(parts[: at + 1]) for at in range(len(parts))}

    def power_cut(self, kept: Kept = "some") -> None:
        """The power goes, and comes back."""
        after = self.survivor(self._rng, kept)
        self.kill()
        self.files, self.directories = after.files, after.directories
        self._durable_files, self._durable_directories = dict(after.files), set(after.directories)
        self._pending.clear()

    def kill(self) -> None:
        """The process ends, the machine goes on: all that was written is still in the cache."""
        self._handles.clear()
        self.off = False
        self.cut_at = None
        self.fail_at.clear()
        self.fail_look_at.clear()

    def forget_pages(self) -> None:
        """Memory runs short: pages whose sync failed are read as the disk has them."""
        for file in set(self.files.values()):
            file.forget_pages()

    def put(self, path: str, content: bytes) -> None:
        """Somebody else puts a file there, durably."""
        self.files[path] = self._durable_files[path] = File(
            bytearray(content), bytes(content), modified_s=self.now_s
        )
        self.directories |= self._parents(path)
        self._durable_directories |= self._parents(path)

    # -- the protocol

    def make_directory(self, path: str) -> None:
        for each in (*sorted(self._parents(path), key=len), path):
            if each not in self.directories:
                self._begin("make_directory", each)
                self.add_directory(each)
            elif any(name.startswith(f"{each}/") for name in (*self.files, *self.directories)):
                continue
            self.sync_directory(each.rpartition("/")[0])

    def add_directory(self, path: str) -> None:
        """One directory, not durably."""
        self._change(NameChange(None, path, None))

    def list_directory(self, path: str) -> list[str]:
        self._look("list_directory", path)
        prefix = path + "/"
        if path not in self.directories and not any(name.startswith(prefix) for name in self.files):
            raise FileNotFoundError(errno.ENOENT, path)
        names = {name[len(prefix) :].split("/")[0] for name in self.files if name.startswith(prefix)}
        names |= {name[len(prefix) :].split("/")[0] for name in self.directories if name.startswith(prefix)}
        return sorted(sorted(names), key=lambda _: self._rng.random())

    def create(self, path: str) -> int:
        self._begin("create", path)
        if path in self.files:
            raise FileExistsError(errno.EEXIST, path)
        if path.rpartition("/")[0] not in self.directories:
            raise FileNotFoundError(errno.ENOENT, path)
        file = File(modified_s=self.now_s)
        self._change(NameChange(None, path, file))
        return self._handle(file, path)

    def open(self, path: str, *, write: bool = False) -> int:
        self._look("open", path)
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, path)
        return self._handle(self.files[path], path)

    def _handle(self, file: File, path: str) -> int:
        self._next_handle += 1
        self._handles[self._next_handle] = file
        self._paths[self._next_handle] = path
        return self._next_handle

    def close(self, handle: int) -> None:
        self._handles.pop(handle, None)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        file, path = self._handles[handle], self._paths[handle]
        self._look("read", path)
        return bytes(file.cache[offset : offset + size])

    def write(self, handle: int, data: bytes, offset: int) -> None:
        file, path = self._handles[handle], self._paths[handle]
        self._begin("write", path, lambda: file.write(data[: self._rng.randint(0, len(data))], offset))
        file.write(data, offset)
        file.modified_s = self.now_s

    def write_durably(self, handle: int, pieces: Sequence[bytes], offset: int, *, grows: bool) -> None:
        data = b"".join(pieces)
        assert offset % SECTOR_BYTES == len(data) % SECTOR_BYTES == 0
        assert grows is (offset + len(data) > len(self._handles[handle].cache))
        self.write(handle, data, offset)
        self.sync(handle)

    def bypass_cache(self, handle: int) -> int:
        return SECTOR_BYTES  # every write is torn and lost here as one past the cache may be

    def sync(self, handle: int) -> None:
        file, path = self._handles[handle], self._paths[handle]

        def fail() -> None:
            if not self.off:
                file.fail_sync(self._rng)

        self._begin("sync", path, fail)
        file.sync()

    def truncate(self, handle: int, size: int) -> None:
        file, path = self._handles[handle], self._paths[handle]
        self._begin("truncate", path)
        file.truncate(size)

    def size(self, handle: int) -> int:
        return len(self._handles[handle].cache)

    def sync_directory(self, path: str) -> None:
        self._begin("sync_directory", path)
        rest = []
        for change in self._pending:
            if self.ordered or change.in_directory(path):
                change.apply(self._durable_files, self._durable_directories)
            else:
                rest.append(change)
        self._pending = rest

    def rename(self, source: str, target: str) -> None:
        self._begin("rename", source)
        if source not in self.files:
            raise FileNotFoundError(errno.ENOENT, source)
        self._change(NameChange(source, target, self.files[source]))

    def unlink(self, path: str) -> None:
        self._begin("unlink", path)
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, path)
        self._change(NameChange(path, None, self.files[path]))

    def _change(self, change: NameChange) -> None:
        change.apply(self.files, self.directories)
        self._pending.append(change)

    def modified_s(self, path: str) -> float:
        self._look("modified_s", path)
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, path)
        return self.files[path].modified_s

    def in_place(self, handle: int, path: str) -> bool:
        return self.files.get(path, self._locks.get(path)) is self._handles[handle]

    def removed(self, handle: int) -> bool:
        file = self._handles[handle]
        return not any(each is file for each in (*self.files.values(), *self._locks.values()))

    def free_bytes(self, path: str) -> int:
        return self.free

    def total_bytes(self, path: str) -> int:
        return self.total

    def lock(self, path: str) -> int:
        self._locks[path] = File()
        return self._handle(self._locks[path], path)
