"""What a power cut may leave of a buffer whose system calls, or whose disk's writes, were recorded.

At the level of files: the log of `recording_disk` is played into a `FaultyDisk`, which knows what a
cut may leave of unsynced sectors and names; such a state is written to a real directory.

At the level of blocks: the process worked on a real ext4. A cut leaves all that was flushed, and of
what was written since then each sector or not. Such an image is mounted: ext4 recovers first.

Either way the buffer is then opened as on any machine, and held to what had been promised.
"""

from __future__ import annotations

import json
import pickle
import random
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from buffer import BufferDB
from tests.rigs.faulty_disk import SECTOR_BYTES, FaultyDisk, Kept
from tests.rigs.promises import Promises
from tests.rigs.recorded_workload import options_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.rigs.recording_disk import Entry

ROOT = Path(__file__).resolve().parents[2]
DISK_BYTES = 16 << 20
MOUNT_OPTIONS = "noatime,lazytime,commit=30"
_SUPERBLOCK_MIDDLE = 1536
"""ext4 takes it that its superblock, of two sectors, is written as a whole: it does not mount half of one."""
_PATIENCE_S = 20.0
_UNMOUNTING_S = 2.0


def _run(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr.strip()}"
    return done.stdout.strip()


@contextmanager
def _mounted(target: Path, *arguments: str | Path) -> Iterator[Path]:
    """What `mount ARGUMENTS TARGET` mounts."""
    target.mkdir(exist_ok=True)
    _run("mount", *arguments, target)
    try:
        yield target
    finally:
        _run("umount", target)


@contextmanager
def _recording(kind: str, place: Path, *image: Path) -> Iterator[Path]:
    """Mount a recording disk; its log is complete when this ends."""
    mount, log, said = place / kind, place / f"{kind}.log", place / f"{kind}.txt"
    mount.mkdir()
    command = [sys.executable, "-m", "tests.rigs.recording_disk", kind, mount, log, *image]
    with said.open("w") as errors, subprocess.Popen(command, cwd=ROOT, stderr=errors) as server:
        deadline = time.monotonic() + _PATIENCE_S
        while not mount.is_mount():
            assert server.poll() is None, said.read_text()
            assert time.monotonic() < deadline, f"nothing was mounted: {said.read_text()}"
            time.sleep(0.01)
        try:
            yield mount
        finally:
            _run("umount", mount)
            _wait_for(server)
    assert log.exists(), said.read_text()


def _wait_for(server: subprocess.Popen[bytes]) -> None:
    """Let a disk end that was unmounted.

    It does not by itself while a namespace that somebody made meanwhile still has it mounted.
    """
    try:
        server.wait(_UNMOUNTING_S)
    except subprocess.TimeoutExpired:
        server.terminate()
        server.wait(_PATIENCE_S)


def _workload(store: Path, events: Path, seed: int, steps: int, *how: str) -> None:
    _run(sys.executable, "-m", "tests.rigs.recorded_workload", store, events, str(seed), str(steps), *how)


def _log(place: Path, kind: str) -> list[Entry]:
    """The log up to the last event: what comes then is the unmounting."""
    log: list[Entry] = pickle.loads((place / f"{kind}.log").read_bytes())
    last = max(at for at, entry in enumerate(log) if entry[0] == "event")
    return log[: last + 1]


def record_files(place: Path, seed: int, steps: int, *how: str) -> list[Entry]:
    """Put a buffer through random steps; gives its system calls."""
    with _recording("files", place) as mount:
        _workload(mount / "store", mount / "events", seed, steps, *how)
    return _log(place, "files")


def record_blocks(place: Path, seed: int, steps: int, *how: str) -> tuple[bytes, list[Entry]]:
    """Likewise on ext4; gives the disk as it was before, and what was written to it."""
    image = place / "empty.img"
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", image)
    with _recording("blocks", place, image) as mount:
        loop = _run("losetup", "--find", "--show", mount / "disk")
        try:
            with _mounted(place / "ext4", "-t", "ext4", "-o", MOUNT_OPTIONS, loop) as disk:
                _workload(disk / "store", mount / "events", seed, steps, *how)
        finally:
            _run("losetup", "--detach", loop)
    return image.read_bytes(), _log(place, "blocks")


def _hold(promises: Promises, store: Path, seed: int) -> None:
    """Open what a cut left, and hold it to the promises.

    Raises:
        AssertionError: One is broken.
    """
    db = BufferDB(store, threaded=False, **options_of(seed))
    try:
        promises.check(db)
    finally:
        db.close()


class BrokenPromise(AssertionError):
    """What a state showed, and after which entry of the log."""


# -- files


def _play(entry: Entry, disk: FaultyDisk, handles: dict[int, int]) -> None:
    match entry:
        case ("mkdir", path):
            disk.add_directory(path)
        case ("create", path, number):
            handles[number] = disk.create(path)
        case ("write", number, offset, data):
            disk.write(handles[number], data, offset)
        case ("truncate", number, size):
            disk.truncate(handles[number], size)
        case ("sync", number):
            disk.sync(handles[number])
        case ("sync_directory", path):
            disk.sync_directory(path.rstrip("/"))
        case ("rename", old, new):
            disk.rename(old, new)
        case ("unlink", path):
            disk.unlink(path)
        case _:
            raise AssertionError(entry)


def _write_out(disk: FaultyDisk, place: Path) -> None:
    for path in sorted(disk.directories):
        (place / path[1:]).mkdir(parents=True)
    for path, file in disk.files.items():
        (place / path[1:]).write_bytes(file.cache)


def try_files(log: Iterable[Entry], place: Path, seed: int, *, states: int = 1, ordered: bool = True) -> int:
    """Try what a cut before each system call may leave: the least, the most, and some states in between.

    Args:
        log: The system calls.
        place: A directory for the states.
        seed: Of the workload, and of what is drawn here.
        states: How many in between.
        ordered: How directories behave (see `FaultyDisk`).

    Returns:
        How many states were tried.

    Raises:
        BrokenPromise: One was broken.
    """
    rng = random.Random(seed)
    disk = FaultyDisk(rng, ordered=ordered)
    handles: dict[int, int] = {}
    promises = Promises()
    tried = 0
    for at, entry in enumerate(log):
        if entry[0] == "event":
            promises.tell(json.loads(entry[1]))
            continue
        _play(entry, disk, handles)
        kinds: list[Kept] = ["least"]
        if disk.unsettled:
            kinds += ["most", *["some"] * states]
        for kept in kinds:
            left = place / "left"
            _write_out(disk.survivor(rng, kept), left)
            tried += 1
            try:
                _hold(promises, left / "store", seed)
            except Exception as error:
                raise BrokenPromise(f"seed {seed}, after entry {at} ({kept}): {error!r}") from error
            shutil.rmtree(left)
    return tried


# -- blocks


class _Disk:
    """What is on the medium for sure, and what may be."""

    def __init__(self, image: bytes) -> None:
        self.sure = bytearray(image)
        self.unflushed: list[tuple[int, bytes]] = []

    def play(self, entry: Entry) -> None:
        if entry[0] == "write":
            self.unflushed.append((entry[1], entry[2]))
            return
        for offset, data in self.unflushed:
            self.sure[offset : offset + len(data)] = data
        self.unflushed.clear()

    def left(self, rng: random.Random) -> bytearray:
        """The medium after a cut."""
        found = bytearray(self.sure)
        kept = rng.choice([0.0, 0.2, 0.5, 0.8, 1.0])
        for offset, data in self.unflushed:
            stays = False
            for start in range(0, len(data), SECTOR_BYTES):
                if offset + start != _SUPERBLOCK_MIDDLE or not start:
                    stays = rng.random() < kept
                if stays:
                    sector = data[start : start + SECTOR_BYTES]
                    found[offset + start : offset + start + len(sector)] = sector
        return found


def try_blocks(image: bytes, log: list[Entry], place: Path, seed: int, *, states: int) -> None:
    """Try what cuts at random moments may leave on the medium.

    Args:
        image: The disk before.
        log: What was written to it.
        place: A directory for the states.
        seed: Of the workload, and of what is drawn here.
        states: How many.

    Raises:
        BrokenPromise: One was broken, or ext4 could not be mounted.
    """
    rng = random.Random(seed)
    begun = next(at for at, entry in enumerate(log) if entry[0] == "event")
    moments = sorted(rng.choices(range(begun, len(log)), k=states))
    disk, promises, at = _Disk(image), Promises(), 0
    for number, moment in enumerate(moments):
        for entry in log[at : moment + 1]:
            if entry[0] == "event":
                promises.tell(json.loads(entry[1]))
            else:
                disk.play(entry)
        at = moment + 1
        left = place / f"left.{number}.img"  # another one each time: the last may still be mounted elsewhere
        left.write_bytes(disk.left(rng))
        try:
            with _mounted(place / "left", "-t", "ext4", "-o", f"loop,{MOUNT_OPTIONS}", left) as found:
                _hold(promises, found / "store", seed)
        except Exception as error:
            raise BrokenPromise(f"seed {seed}, after entry {moment}: {error!r}") from error
        left.unlink()
