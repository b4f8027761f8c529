"""The directory of a buffer: one process at a time, and always the one that was opened."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from buffer.errors import BufferLocked, DiskFault
from buffer.version import raise_mark, require_readable

if TYPE_CHECKING:
    from buffer.filesystem import FileSystem


class Place:
    """A buffer's directory, locked for this process. Thread-safe."""

    def __init__(self, fs: FileSystem, path: str) -> None:
        """Make it where it is missing, and lock it.

        Args:
            fs: The file system.
            path: The directory.

        Raises:
            BufferLocked: Another process has it.
            UnknownFormat: A newer version wrote it, in a format that this one cannot read; nothing is touched.
            OSError: It cannot be made or read at all.
        """
        self.path = path
        self._fs = fs
        self._lock = threading.Lock()
        require_readable(fs, path)
        fs.make_directory(path)
        try:
            self._handle = fs.lock(f"{path}/.lock")
        except BlockingIOError as error:
            raise BufferLocked(f"{path} is open in another process") from error
        self._raise_mark()

    def _raise_mark(self) -> None:
        with suppress(OSError):  # the next opening does it
            raise_mark(self._fs, self.path)

    def close(self) -> None:
        """Let others have it."""
        self._fs.close(self._handle)

    def is_here(self) -> bool:
        """Whether the directory is the one that was opened; False when it was removed.

        Raises:
            DiskFault: It is there no longer, but it was not removed: moved, or its disk unmounted. What it
                holds is sound, and nothing new must be written in its place, where it would be hidden when
                the disk is back.
        """
        try:
            if self._fs.in_place(self._handle, f"{self.path}/.lock"):
                return True
            removed = self._fs.removed(self._handle)
        except OSError as error:
            raise DiskFault(f"{self.path}: {error}") from error
        if not removed:
            raise DiskFault(
                f"{self.path} is not there: it was moved, or its disk unmounted; put it back, or start again"
            )
        return False

    def make_again(self) -> bool:
        """Make it again when somebody removed it; whether that was so.

        Raises:
            DiskFault: The disk refused, another process was faster, or the directory is somewhere else.
        """
        with self._lock:
            if self.is_here():
                return False
            try:
                self._fs.make_directory(self.path)
                handle = self._fs.lock(f"{self.path}/.lock")
            except OSError as error:
                raise DiskFault(f"{self.path} was removed, and cannot be made again: {error}") from error
            self._fs.close(self._handle)
            self._handle = handle
        self._raise_mark()
        return True
