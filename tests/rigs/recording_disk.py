"""Disks in user space (FUSE) that write down all that is done to them, in one order.

    python -m tests.rigs.recording_disk files MOUNT LOG             a file system in memory
    python -m tests.rigs.recording_disk blocks MOUNT LOG IMAGE      one file, `disk`, for a loop device

Both have a file `events`: each line written to it is what somebody was told at that moment, so that
the log has acknowledgements and writes in their true order. The log is written when the mount goes.

What a process does arrives as its own system calls, or as what a real ext4 makes of them. Needs root,
/dev/fuse and Debian's libfuse3-3.
"""

from __future__ import annotations

import errno
import pickle
import stat
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mfusepy

if TYPE_CHECKING:
    from collections.abc import Iterable

Entry = tuple[Any, ...]
_Listed = tuple[str, dict[str, int], int]
EVENTS = "/events"
DISK = "/disk"
_FREE_BLOCKS = 1 << 20
_EVENTS_HANDLE = 1


class Recorder(mfusepy.Operations):
    """What both have: the log, and the file of events."""

    use_ns = True

    def __init__(self, log: Path) -> None:
        self._path = log
        self._log: list[Entry] = []
        self._line = b""

    def event(self, data: bytes) -> int:
        *lines, self._line = (self._line + data).split(b"\n")
        self._log += [("event", line) for line in lines]
        return len(data)

    def destroy(self, path: str) -> None:
        self._path.write_bytes(pickle.dumps(self._log))

    def flush(self, path: str, fh: int) -> int:
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        free = dict.fromkeys(("f_blocks", "f_bfree", "f_bavail"), _FREE_BLOCKS)
        return {"f_bsize": 4096, "f_frsize": 4096, "f_namemax": 255, **free}


def _directory() -> dict[str, Any]:
    return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2, "st_ino": 1}


def _file(inode: int, size: int, modified_ns: int) -> dict[str, Any]:
    return {
        "st_mode": stat.S_IFREG | 0o640,
        "st_nlink": 1,
        "st_ino": inode,
        "st_size": size,
        "st_mtime": modified_ns,
    }


def _listed(names: Iterable[str]) -> list[_Listed]:
    return [(name, {"st_ino": 1}, 0) for name in (".", "..", *names)]  # one without a number is not shown


def _missing() -> mfusepy.FuseOSError:
    return mfusepy.FuseOSError(errno.ENOENT)


@dataclass
class _File:
    inode: int
    data: bytearray = field(default_factory=bytearray)
    modified_ns: int = 0


class RecordingFiles(Recorder):
    """Files and directories. Handles stand for files, whatever their names are by then."""

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self._files: dict[str, _File] = {}
        self._directories = {"/"}
        self._open: dict[int, _File] = {}
        self._last = 100

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _file(self, path: str, fh: int | None = None) -> _File:
        found = self._open.get(fh or 0) or self._files.get(path)
        if found is None:
            raise _missing()
        return found

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        if path == EVENTS:
            return _file(2, 0, 0)
        if path in self._directories:
            return _directory()
        file = self._file(path)
        return _file(file.inode, len(file.data), file.modified_ns)

    def readdir(self, path: str, fh: int) -> list[_Listed]:
        every = [*self._files, *(self._directories - {"/"})]
        return _listed(
            name for parent, _, name in (each.rpartition("/") for each in every) if parent == path.rstrip("/")
        )

    def mkdir(self, path: str, mode: int) -> int:
        self._directories.add(path)
        self._log.append(("mkdir", path))
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        file = self._files[path] = _File(self._next(), modified_ns=time.time_ns())
        self._log.append(("create", path, file.inode))
        return self._opened(file)

    def open(self, path: str, flags: int) -> int:
        return _EVENTS_HANDLE if path == EVENTS else self._opened(self._file(path))

    def _opened(self, file: _File) -> int:
        handle = self._next()
        self._open[handle] = file
        return handle

    def release(self, path: str, fh: int) -> int:
        self._open.pop(fh, None)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._file(path, fh).data[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        if fh == _EVENTS_HANDLE:
            return self.event(data)
        file = self._file(path, fh)
        if len(file.data) < offset:
            file.data.extend(bytes(offset - len(file.data)))
        file.data[offset : offset + len(data)] = data
        file.modified_ns = time.time_ns()
        self._log.append(("write", file.inode, offset, bytes(data)))
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        if path == EVENTS:
            return 0
        file = self._file(path, fh)
        file.data = bytearray(file.data[:length].ljust(length, b"\0"))
        self._log.append(("truncate", file.inode, length))
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._log.append(("sync", self._file(path, fh).inode))
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._log.append(("sync_directory", path))
        return 0

    def rename(self, old: str, new: str, flags: int = 0) -> int:
        if old not in self._files:
            raise _missing()
        self._files[new] = self._files.pop(old)
        self._log.append(("rename", old, new))
        return 0

    def unlink(self, path: str) -> int:
        if self._files.pop(path, None) is None:
            raise _missing()
        self._log.append(("unlink", path))
        return 0


class RecordingBlocks(Recorder):
    """One file, which a loop device makes a disk of."""

    def __init__(self, log: Path, image: Path) -> None:
        super().__init__(log)
        self._data = bytearray(image.read_bytes())

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        if path == "/":
            return _directory()
        if path == EVENTS:
            return _file(2, 0, 0)
        if path == DISK:
            return _file(3, len(self._data), 0)
        raise _missing()

    def readdir(self, path: str, fh: int) -> list[_Listed]:
        return _listed([DISK[1:], EVENTS[1:]])

    def open(self, path: str, flags: int) -> int:
        return _EVENTS_HANDLE if path == EVENTS else 2

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._data[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        if fh == _EVENTS_HANDLE:
            return self.event(data)
        self._data[offset : offset + len(data)] = data
        self._log.append(("write", offset, bytes(data)))
        return len(data)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._log.append(("flush",))
        return 0

    def fallocate(self, path: str, mode: int, offset: int, size: int, fh: int) -> int:
        raise mfusepy.FuseOSError(errno.EOPNOTSUPP)  # what is discarded stays as it is


def serve(kind: str, mount: str, log: str, *image: str) -> None:
    """Serve until it is unmounted."""
    made = RecordingFiles(Path(log)) if kind == "files" else RecordingBlocks(Path(log), Path(*image))
    mfusepy.FUSE(
        made,
        mount,
        foreground=True,
        nothreads=True,
        use_ino=True,
        hard_remove=True,
        attr_timeout=0 if kind == "files" else 60,
        entry_timeout=0 if kind == "files" else 60,
        negative_timeout=0,
    )


if __name__ == "__main__":
    serve(*sys.argv[1:])
