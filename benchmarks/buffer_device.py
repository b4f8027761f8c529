"""How many bytes reach the device for a reading of 227 bytes, by how many come a second.

Each store and each rate has an ext4 of its own on a loop device of its own, mounted as a device in the
field should be (noatime, lazytime, commit=30), so that they can run at the same time. Counted is what
the kernel wrote to the loop device from the moment the store was open until it was closed and everything
synced: data, the file system's own journal, and what SQLite does at closing with its log. What the buffer
wrote ahead before that moment and used up since is added, and what it wrote ahead and did not use is not.

All three take what came once a second, in one commit: the buffer's own default.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.buffer_workload import folder, told_within, written_ahead
from benchmarks.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


STORES = ("buffer", "sqlite3, WAL, FULL", "stock TinyDB")
LIMITS = {1: 5500, 10: 1000, 1000: 285}
_IMAGE_BYTES = 1 << 30
_SECTOR_BYTES = 512
_SECTORS_WRITTEN = 6
_OPTIONS = "loop,noatime,lazytime,commit=30"


class CannotMountError(RuntimeError):
    """File systems cannot be mounted here."""


class Device:
    """A fresh ext4 on a loop device."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._number = place.stat().st_dev

    def written(self) -> int:
        """Bytes written to the device so far, all that was to be written included."""
        subprocess.run(["sync", "--file-system", self.place], check=True)
        device = Path(f"/sys/dev/block/{os.major(self._number)}:{os.minor(self._number)}/stat")
        return int(device.read_text().split()[_SECTORS_WRITTEN]) * _SECTOR_BYTES


@contextmanager
def mounted(folder: Path, name: str) -> Iterator[Device]:
    """A loop device with an ext4, as long as it is needed."""
    image, place = folder / f"{name}.img", folder / name
    with image.open("wb") as file:
        file.truncate(_IMAGE_BYTES)
    make: list[str | Path] = [
        "mkfs.ext4",
        "-q",
        "-F",
        "-b",
        "4096",
        "-E",
        "lazy_itable_init=0,lazy_journal_init=0",
        image,
    ]
    subprocess.run(make, check=True)
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-o", _OPTIONS, image, place], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        raise CannotMountError(f"even root cannot mount here: {mount.stderr.strip()}")
    try:
        yield Device(place)
    finally:
        subprocess.run(["umount", place], check=True)
        image.unlink()


class Run:
    """One store at one rate."""

    def __init__(self, stack: ExitStack, place: Path, store: str, hz: int, seconds: int) -> None:
        self.store, self.hz = store, hz
        self.found: dict[str, Any] = {}
        self._device = stack.enter_context(mounted(place, f"{STORES.index(store)}-{hz}"))
        self._files = self._device.place / "store"
        self._files.mkdir()
        command = [sys.executable, "-m", "benchmarks.buffer_child", "produce"]
        self._process = subprocess.Popen(
            [*command, self._files, store, str(hz), str(seconds)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(self._end)

    def begin(self) -> None:
        """Let it go once the store is open."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "open\n":
            raise RuntimeError(f"{self.store} at {self.hz}/s did not open")
        self._before = self._device.written() - written_ahead(self._files)
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def finish(self) -> None:
        """Wait for its end, and note in `found` what was stored and how many bytes a reading that took."""
        assert self._process.stdout is not None
        self.found = json.loads(self._process.stdout.read())
        written = self._device.written() - self.found["ahead"] - self._before
        self.found["bytes"] = written / self.found["count"]

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def measure(directory: Path | None, seconds: int, rates: tuple[int, ...] = tuple(LIMITS)) -> list[Run]:
    """Run every store at every rate, all at the same time; what each found is in its `found`.

    Raises:
        CannotMountError: Loop devices cannot be mounted.
    """
    if os.geteuid():
        raise CannotMountError("the part `device` mounts file systems of its own: run it as root")
    with folder(directory) as place, ExitStack() as stack:
        runs = [Run(stack, place, store, hz, seconds) for hz in rates for store in STORES]
        for run in runs:
            run.begin()
        for run in runs:
            run.finish()
    return runs


def device(directory: Path | None, seconds: float) -> None:
    """Print the device bytes a reading of each store at each rate."""
    runs = measure(directory, round(seconds))
    print(
        f"\ndevice bytes a reading of 227 bytes, on ext4 (4 KiB blocks; {_OPTIONS.partition(',')[2]}), {seconds:.0f} s"
    )
    print(f"{'readings/s':12}" + "".join(f"{store:>20}" for store in STORES))
    for hz, most in LIMITS.items():
        row = {run.store: run.found for run in runs if run.hz == hz}
        cells = "".join(f"{row[store]['bytes']:>20,.0f}" for store in STORES)
        print(f"{hz:<12}{cells}   {told_within(row['buffer']['bytes'], most)}")
        for store, found in row.items():
            if found["count"] < found["due"]:
                print(
                    f"{'':12}{store} did not keep up: {found['count']:,} of {found['due']:,} stored in time"
                )
