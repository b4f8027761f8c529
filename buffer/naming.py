"""The names of a segment's files, which are the manifest: nothing else says what there is. Pure.

    a.<base:016d>.json                               being written, or left by a crash
    s.<base:016d>.<rev>.<count>.<crc8>.<last>.json   sealed: never changes again
    t.<random>.json                                  being made; worth nothing before it is renamed

`base` is the lowest id that the file may hold, `last` the highest given out by then, `rev` counts how
often the segment was written anew (an update, a removal, a repair), `crc8` is the checksum of the
whole file in hexadecimal.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from buffer.layout import ID_MAX

READINGS: Final = "readings"
"""The table of what was measured, which consumers take out."""
DEAD_LETTERS: Final = "dead_letters"
"""The table of what an upstream will never take."""

_SEALED = re.compile(r"s\.(\d{16})\.(\d+)\.(\d+)\.([0-9a-f]{8})\.(\d+)\.json")
_ACTIVE = re.compile(r"a\.(\d{16})\.json")
_DIRECTORY_BYTES_MAX = 255  # what Linux file systems allow a name


@dataclass(frozen=True, slots=True)
class SealedName:
    """What the name of a sealed segment says."""

    base: int
    rev: int
    count: int
    crc: int
    last: int

    @property
    def possible(self) -> bool:
        """Whether a store can have written it: its ids are within bounds, and as many as it counts."""
        return 1 <= self.base <= self.base + self.count <= self.last + 1 <= ID_MAX + 1

    def __str__(self) -> str:
        return f"s.{self.base:016d}.{self.rev}.{self.count}.{self.crc:08x}.{self.last}.json"


def parse_sealed(name: str) -> SealedName | None:
    """What a name says, None when it is not one of a sealed segment."""
    match = _SEALED.fullmatch(name)
    if match is None:
        return None
    base, rev, count, crc, last = match.groups()
    return SealedName(int(base), int(rev), int(count), int(crc, 16), int(last))


def active_name(base: int) -> str:
    """The name of the file that takes the ids from `base` up."""
    return f"a.{base:016d}.json"


def parse_active(name: str) -> int | None:
    """The base in the name of an active file, None when it is not one."""
    match = _ACTIVE.fullmatch(name)
    return int(match.group(1)) if match else None


def is_segment(name: str) -> bool:
    """Whether it is the name of a segment's file, sealed or not."""
    return parse_sealed(name) is not None or parse_active(name) is not None


def is_temporary(name: str) -> bool:
    """Whether a file was being made when its process died."""
    return name.startswith("t.")


def directory_name(table: str) -> str:
    """The directory of a table; none begins with a dot, since those are the buffer's own.

    Raises:
        ValueError: The table's name is empty or too long for a directory.
    """
    name = quote(table, safe=" ")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if not name or len(name) > _DIRECTORY_BYTES_MAX:
        raise ValueError(f"a table's name must have 1 to {_DIRECTORY_BYTES_MAX} characters, not {table!r}")
    return name


def table_of(directory: str) -> str:
    """The table whose directory this is."""
    return unquote(directory)
