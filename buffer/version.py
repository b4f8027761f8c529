"""The version of what is on disk, so that no program takes it for what it is not.

    <root>/.format.<major>.<minor>      an empty file; none means 1.0

Only the name says it, since names do not rot as bytes do. When there are several (a crash while it was
raised), the highest counts.

A program reads all stores of its own major version. One of a higher major version is refused, and
nothing in it is touched. A higher minor version adds only what may be passed over: small tables, fields
of their rows, and files and directories whose names begin with a dot. So a program that was rolled back
reads what the newer one left, and leaves alone what it does not know, the mark included.

| version | what came |
| --- | --- |
| 1.0 | segments, and the journal of small tables |
| 1.1 | the mark |
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NamedTuple

from buffer.errors import UnknownFormat
from buffer.filesystem import FileSystem

_MARK: Final = re.compile(r"\.format\.(\d{1,9})\.(\d{1,9})")


class Version(NamedTuple):
    """A version of the format."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def mark(self) -> str:
        """The name of the file that states it."""
        return f".format.{self}"


FORMAT: Final = Version(1, 1)
"""What is written now."""
UNMARKED: Final = Version(1, 0)


def stated(names: Iterable[str]) -> Version:
    """Which version the names in a buffer's directory state."""
    marks = (match for name in names if (match := _MARK.fullmatch(name)))
    return max((Version(int(mark[1]), int(mark[2])) for mark in marks), default=UNMARKED)


def require_readable(fs: FileSystem, path: str) -> None:
    """Look at which version a directory has, before anything else is done with it.

    Raises:
        UnknownFormat: Of a higher major version than this program knows.
        OSError: It cannot be listed. One that is not there is fine.
    """
    try:
        found = stated(fs.list_directory(path))
    except FileNotFoundError:
        return
    if found.major > FORMAT.major:
        raise UnknownFormat(
            f"{path} was written by a newer version of this program (format {found}; this one reads up to"
            f" {FORMAT.major}.x): nothing in it was touched. Install the newer version again, or have this one"
            " begin with another directory"
        )


def raise_mark(fs: FileSystem, path: str) -> None:
    """State the present version where a lower one is stated. One that is higher by its minor version stays.

    Raises:
        OSError: The disk refused; the next opening does it.
    """
    names = fs.list_directory(path)
    if FORMAT.mark in names or stated(names) > FORMAT:
        return
    fs.close(fs.create(f"{path}/{FORMAT.mark}"))
    fs.sync_directory(path)
    for name in names:
        if _MARK.fullmatch(name):
            with suppress(OSError):  # the highest counts
                fs.unlink(f"{path}/{name}")
