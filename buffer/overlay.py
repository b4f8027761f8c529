"""A file system that is only looked at: what is made on it stays in memory, and nothing below changes.

With it the code that opens, recovers and salvages a buffer can run on one that another process is
writing, without a lock, and say what it would do.
"""

from collections.abc import Sequence
from errno import EEXIST, EROFS
from os import strerror
from typing import Final, NoReturn

from buffer.filesystem import FileSystem

_MADE_MAX: Final = 4
"""How many new files are held; of 4 MiB each, as a rule. What goes can be made once more."""


def _refuse(path: str) -> NoReturn:
    raise OSError(EROFS, strerror(EROFS), path)


class Overlay:
    """A file system over another, which it only reads.

    New files are in memory, the latest few of them; changing, renaming or removing others raises OSError.
    """

    def __init__(self, below: FileSystem) -> None:
        self._below = below
        self._made: dict[str, bytearray] = {}
        self._kept: set[str] = set()
        self._directories: set[str] = set()
        self._open: dict[int, bytearray] = {}
        self._next_handle = -1

    def keep(self) -> None:
        """Hold what there is now for good, however much is made later."""
        self._kept = set(self._made)

    # -- what changes something

    def make_directory(self, path: str) -> None:
        """There is one now, though perhaps only here."""
        self._directories.add(path)

    def create(self, path: str) -> int:
        """Open a new file; the oldest of those that need not be kept goes when there are too many."""
        if path in self._made:
            raise OSError(EEXIST, strerror(EEXIST), path)
        passing = [name for name in self._made if name not in self._kept]
        if len(passing) >= _MADE_MAX:
            del self._made[passing[0]]
        self._made[path] = bytearray()
        return self._handle(path)

    def write(self, handle: int, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset`."""
        if handle not in self._open:
            _refuse("a file below")
        self._open[handle][offset : offset + len(data)] = data

    def write_durably(self, handle: int, pieces: Sequence[bytes], offset: int, *, grows: bool) -> None:  # noqa: ARG002 (the protocol's)
        """Write all pieces, one behind the other."""
        self.write(handle, b"".join(pieces), offset)

    def truncate(self, handle: int, size: int) -> None:
        """Cut a file off."""
        if handle not in self._open:
            _refuse("a file below")
        del self._open[handle][size:]

    def rename(self, source: str, target: str) -> None:
        """Give a file that was made here another name."""
        if source not in self._made:
            _refuse(source)
        self._made[target] = self._made.pop(source)

    def unlink(self, path: str) -> None:
        """Remove a file that was made here."""
        if self._made.pop(path, None) is None:
            _refuse(path)

    def sync(self, handle: int) -> None:
        """Nothing is durable here."""

    def sync_directory(self, path: str) -> None:
        """Nothing is durable here."""

    def bypass_cache(self, handle: int) -> int:  # noqa: ARG002 (the protocol's)
        """There is no disk to write to."""
        return 1

    def lock(self, path: str) -> int:
        """Nobody needs a lock to look."""
        _refuse(path)

    # -- what only looks

    def list_directory(self, path: str) -> list[str]:
        """The names in a directory, those made here included."""
        prefix = f"{path}/"
        made = [name.removeprefix(prefix) for name in self._made if name.startswith(prefix)]
        try:
            return sorted({*self._below.list_directory(path), *made})
        except FileNotFoundError:
            if path not in self._directories:
                raise
            return made

    def open(self, path: str, *, write: bool = False) -> int:
        """Open an existing file; for writing only one that was made here."""
        if path in self._made:
            return self._handle(path)
        if write:
            _refuse(path)
        return self._below.open(path)

    def _handle(self, path: str) -> int:
        self._next_handle -= 1
        self._open[self._next_handle] = self._made[path]
        return self._next_handle

    def close(self, handle: int) -> None:
        """Close an open file."""
        if self._open.pop(handle, None) is None:
            self._below.close(handle)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """At most `size` bytes from `offset`; fewer at the end of the file."""
        made = self._open.get(handle)
        return self._below.read(handle, size, offset) if made is None else bytes(made[offset : offset + size])

    def size(self, handle: int) -> int:
        """The size of a file in bytes."""
        made = self._open.get(handle)
        return self._below.size(handle) if made is None else len(made)

    def modified_s(self, path: str) -> float:
        """When a file was last written: seconds since 1970."""
        return self._below.modified_s(path)

    def in_place(self, handle: int, path: str) -> bool:
        """Whether the file of this name is the open one."""
        return self._below.in_place(handle, path)

    def removed(self, handle: int) -> bool:
        """Whether an open file has no name any more."""
        return self._below.removed(handle)

    def free_bytes(self, path: str) -> int:
        """What a process without privileges may still write to this disk."""
        return self._below.free_bytes(path)

    def total_bytes(self, path: str) -> int:
        """The size of the disk."""
        return self._below.total_bytes(path)
