"""Whether a place is on the partition that it should be on.

/etc/fstab says what is mounted where. While the partition of a place is not there (dead, still being checked, a stick that is not
plugged in), the same path leads into the folder below it, on another file system: what is written there is hidden once the
partition is back.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FSTAB_WORDS = 3
"""What is mounted, where, of which kind; more may follow."""


class NotMountedError(ConnectionError):
    """The partition is not mounted."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of mountinfo (proc(5))."""

    number: str
    parent: str
    device: str
    root: str
    place: str


def require_mounted(path: Path, root: Path = Path("/")) -> None:
    """Look that all is mounted that /etc/fstab has on the way to a path. Asks the system: blocks.

    Args:
        path: Of a file or folder; need not exist.
        root: Where etc and proc are, for tests.

    Raises:
        NotMountedError: Something is not; says what.
    """
    real = os.path.realpath(path)
    mounted = list(_mounted(root / "proc/self/mountinfo"))
    if not mounted:
        return  # nothing can be known
    for what, place in _expected(root / "etc/fstab"):
        if _holds(place, real) and not _is_mounted(place, mounted):
            raise NotMountedError(f"{what}, which /etc/fstab has at {place}, is not mounted")


def _holds(place: str, real: str) -> bool:
    return place != "/" and (real == place or real.startswith(f"{place}/"))


def _expected(fstab: Path) -> Iterator[tuple[str, str]]:
    """What is to be mounted, and where."""
    for line in _lines(fstab):
        words = line.split()
        if len(words) >= _FSTAB_WORDS and words[1].startswith("/") and not words[0].startswith("#"):
            yield _unescaped(words[0]), os.path.realpath(_unescaped(words[1]))


def _mounted(mountinfo: Path) -> Iterator[_Entry]:
    for line in _lines(mountinfo):
        number, parent, device, root, place = line.split()[:5]
        yield _Entry(number, parent, device, _unescaped(root), _unescaped(place))


def _is_mounted(place: str, mounted: list[_Entry]) -> bool:
    """Whether another file system, or another folder, is at a place than the one that is there anyway.

    A service that may write to a few folders only has those mounted onto themselves: such a mount shows nothing else than
    what is below.
    """
    at_place = [entry for entry in mounted if entry.place == place]
    below = {entry.parent for entry in at_place}
    covering = _covering(place, mounted)
    return any(
        covering is None
        or entry.device != covering.device
        or entry.root != _joined(covering.root, os.path.relpath(place, covering.place))
        for entry in at_place
        if entry.number not in below  # else another one is on top of it
    )


def _covering(place: str, mounted: list[_Entry]) -> _Entry | None:
    """The mount that a place is on, were nothing mounted there."""
    above = [entry for entry in mounted if entry.place == "/" or place.startswith(f"{entry.place}/")]
    return max(above, key=lambda entry: len(entry.place), default=None)


def _joined(root: str, path: str) -> str:
    return f"{root.rstrip('/')}/{path}"


def _unescaped(text: str) -> str:
    r"""Spaces and the like are written as `\040`."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
