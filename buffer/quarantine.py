"""Where damaged files go: kept for people to look at, bounded, never read again by the buffer."""

import re
from typing import Final

from buffer.filesystem import FileSystem

FILES_MAX: Final = 16
"""Of 4 MiB each by default; a card that damages more has been understood by then."""
_NAME: Final = re.compile(r"(\d{1,9})\..+")


class Quarantine:
    """A directory of set-aside files.

    Attributes:
        taken: How many files went there since the buffer was opened.
    """

    def __init__(self, fs: FileSystem, directory: str, files_max: int | None = FILES_MAX) -> None:
        """Say where.

        Args:
            fs: The file system.
            directory: Its directory; made when it is needed.
            files_max: With so many there, the oldest goes for each that comes; None keeps them all.
        """
        self._fs = fs
        self._directory = directory
        self._files_max = files_max
        self.taken = 0

    def names(self) -> list[str]:
        """The files here, oldest first; what somebody else put here is left alone.

        Raises:
            OSError: The directory cannot be listed.
        """
        try:
            found = self._fs.list_directory(self._directory)
        except FileNotFoundError:
            return []
        numbered = [(int(match.group(1)), name) for name in found if (match := _NAME.fullmatch(name))]
        return [name for _, name in sorted(numbered)]

    def take(self, path: str, name: str) -> str:
        """Move a file here, under a running number; returns the name it has here.

        Raises:
            OSError: It cannot be moved; it is where it was.
        """
        self._fs.make_directory(self._directory)
        here = self.names()
        number = int(here[-1].partition(".")[0]) + 1 if here else 1
        target = f"{number}.{name}"
        self._fs.rename(path, f"{self._directory}/{target}")
        self._fs.sync_directory(self._directory)
        self.taken += 1
        if self._files_max is not None and len(here) >= self._files_max:
            self._fs.unlink(f"{self._directory}/{here[0]}")
        return target
