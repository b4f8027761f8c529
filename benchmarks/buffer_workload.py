"""What the buffer's benchmarks store, where, and how their figures are told."""

from __future__ import annotations

import statistics
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DOCUMENT_BYTES = 227
"""What a reading of four metrics takes as compact JSON."""
_WAYS_ROUND = 1000
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def document(number: int) -> bytes:
    """A stored reading of 227 bytes; no two in a million are the same."""
    start = (
        b'{"source":"greenhouse-%02d","t":17900%05d.%03d,"values":{"temperature":%.2f,"humidity":%.1f,'
        b'"moisture":%.1f,"light":%d},"units":{"temperature":"Cel","humidity":"%%RH"},"boot":17,"up":%d,"tags":{"bed":"'
        % (
            number % 20,
            number // 1000 % 100_000,
            number % 1000,
            20 + number * 7919 % 500 / 100,
            50 + number * 104729 % 200 / 10,
            30 + number * 1299709 % 300 / 10,
            1000 + number * 15485863 % 9000,
            10**12 + number * 1_000_003,
        )
    )
    return start + b"north".ljust(DOCUMENT_BYTES - len(start) - 3, b".") + b'"}}'


def documents(count: int, first: int = 0) -> list[bytes]:
    """Stored readings, the numbers from `first` up."""
    return [document(number) for number in range(first, first + count)]


class Documents:
    """An endless supply of groups of documents, made beforehand so that making them is not measured."""

    def __init__(self) -> None:
        self._made = documents(10 * _WAYS_ROUND)
        self._at = 0

    def next(self, n: int) -> list[bytes]:
        """The next `n`; at most 1,000."""
        if self._at + n > len(self._made):
            self._at = 0
        self._at += n
        return self._made[self._at - n : self._at]


class NoDiskError(RuntimeError):
    """The folder is no place to measure a disk in; the text says why."""


def mount_of(path: Path) -> tuple[str, str, str]:
    """Device, file system and options of the disk that a path is on."""
    path = path.resolve()
    found = ("?", "?", "?")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, point, kind, options, *_ = line.split(" ")
        if path.is_relative_to(point.replace("\\040", " ")):
            found = (device, kind, options)  # a later one lies over an earlier one
    return found


def disk(directory: Path | None) -> str:
    """The disk that is measured, in one line.

    Raises:
        NoDiskError: It is no disk but memory, where nothing that is synced takes any time.
    """
    chosen = directory or Path(tempfile.gettempdir())
    device, kind, options = mount_of(chosen)
    if kind in _IN_MEMORY:
        raise NoDiskError(f"{chosen} is a {kind}: give --directory, a folder on the disk to be measured")
    return f"disk: {chosen} on {device}, {kind} ({options})"


@contextmanager
def folder(directory: Path | None) -> Iterator[Path]:
    """A folder for a benchmark, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="outstation-benchmark-", dir=directory) as made:
        yield Path(made)


def written_ahead(place: Path) -> int:
    """The spaces that a buffer has written ahead in its files and not used yet."""
    spaces = 0
    for path in place.glob("*/a.*.json"):
        data = path.read_bytes()
        spaces += len(data) - len(data.rstrip(b" "))
    return spaces


def median(numbers: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(numbers)


def percentile(numbers: Sequence[float], percent: float) -> float:
    """The number that so many per cent are not above."""
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def against(value: float, floor: float, aim: float | None = None) -> str:
    """A ratio beside what it is to reach."""
    told = f"{value:.1f} times (floor {floor:g}" + (f", aim {aim:g})" if aim else ")")
    return told if value >= floor else f"{told} BELOW"


def told_within(value: float, most: float) -> str:
    """Whether a figure is within its limit."""
    return f"(at most {most:,g})" if value <= most else f"(at most {most:,g}) ABOVE"


def told_at_least(value: float, least: float) -> str:
    """Whether a figure reaches what it is to reach."""
    return f"(at least {least:,.0f})" if value >= least else f"(at least {least:,.0f}) BELOW"
