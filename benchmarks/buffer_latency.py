"""How long one commit takes, beside the least that a disk can do for it.

The least is a write of the same size, at the same place, and an fdatasync: in a file that has its final
size already, through the page cache and past it (O_DIRECT).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from typing import TYPE_CHECKING

from benchmarks.buffer_stores import Buffer, Opened, Sqlite
from benchmarks.buffer_workload import DOCUMENT_BYTES, Documents, folder, percentile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PERCENTS = (50, 90, 99, 99.9)
_FILE_BYTES = 8 << 20
_BLOCK_BYTES = 4096
_SLICES = 40
_GROUPS = (1, 100)


class Raw:
    """Writes and syncs, and does nothing else."""

    def __init__(self, path: Path, *, direct: bool) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT)
        for at in range(0, _FILE_BYTES, 1 << 20):
            os.pwrite(self._handle, b" " * (1 << 20), at)
        os.fsync(self._handle)
        self._direct = direct
        if direct:
            flags = fcntl.fcntl(self._handle, fcntl.F_GETFL)
            fcntl.fcntl(self._handle, fcntl.F_SETFL, flags | os.O_DIRECT)
        self._data = memoryview(mmap.mmap(-1, 1 << 20))
        self._at = 0

    def write(self, size: int) -> None:
        """One write of so many bytes (of whole blocks past the cache) behind the last one, made durable."""
        offset = self._at
        if self._direct:
            offset -= offset % _BLOCK_BYTES
            size += -size % _BLOCK_BYTES
        os.pwrite(self._handle, self._data[:size], offset)
        os.fdatasync(self._handle)
        self._at = (self._at + size) % (_FILE_BYTES - (1 << 20))

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)


def _timed(step: Callable[[], object], seconds: float, into: list[float]) -> None:
    until_s = time.perf_counter() + seconds
    while (begun_s := time.perf_counter()) < until_s:
        step()
        into.append((time.perf_counter() - begun_s) * 1e6)


def _commits(place: Path, opened: Opened, group: int, share_s: float) -> dict[str, list[float]]:
    """How long each commit took, in us, by who made it."""
    supply = Documents()
    size = group * (DOCUMENT_BYTES + 8) + 96
    ours, theirs = opened.open(Buffer), opened.open(Sqlite)
    cached, direct = (Raw(place / name, direct=name == "direct") for name in ("cached", "direct"))
    steps: dict[str, Callable[[], object]] = {
        "buffer": lambda: ours.put(supply.next(group)),
        "write and fdatasync": lambda: cached.write(size),
        "the same past the cache": lambda: direct.write(size),
        "sqlite3": lambda: theirs.put(supply.next(group)),
    }
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(_SLICES):
        for name, step in steps.items():
            _timed(step, share_s, taken[name])
    cached.close()
    direct.close()
    return taken


def latency(directory: Path | None, seconds: float) -> None:
    """Print percentiles of how long a commit takes."""
    share_s = seconds / (len(_GROUPS) * _SLICES * 4)
    print(f"\none commit in us, {_SLICES} interleaved turns of {share_s:.2f} s{'':>14}", end="")
    print("".join(f"{percent:>9g} %" for percent in _PERCENTS))
    for group in _GROUPS:
        with folder(directory) as place, Opened(place) as opened:
            taken = _commits(place, opened, group, share_s)
        for name, times in taken.items():
            row = "".join(f"{percentile(times, percent):>11,.0f}" for percent in _PERCENTS)
            print(f"{f'  {name}, {group} a commit':56}{row}")
