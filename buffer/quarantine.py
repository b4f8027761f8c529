"""Where damaged files go: kept for people to look at, bounded, never read again by the buffer."""

from buffer.filesystem import FileSystem

_FILES_MAX = 16
"""Of 4 MiB each by default; a card that damages more has been understood by then."""


class Quarantine:
    """A directory of set-aside files.

    Attributes:
        taken: How many files went there since the buffer was opened.
    """

    def __init__(self, fs: FileSystem, directory: str) -> None:
        self._fs = fs
        self._directory = directory
        self.taken = 0

    def take(self, path: str, name: str) -> None:
        """Move a file here; the oldest goes when there are too many.

        Raises:
            OSError: It cannot be moved; it is where it was.
        """
        self._fs.make_directory(self._directory)
        here = sorted(self._fs.list_directory(self._directory), key=lambda each: int(each.partition(".")[0]))
        number = int(here[-1].partition(".")[0]) + 1 if here else 1
        self._fs.rename(path, f"{self._directory}/{number}.{name}")
        self._fs.sync_directory(self._directory)
        self.taken += 1
        for old in here[: max(0, len(here) + 1 - _FILES_MAX)]:
            self._fs.unlink(f"{self._directory}/{old}")
