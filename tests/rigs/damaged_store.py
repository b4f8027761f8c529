"""A buffer of all kinds of files on a disk in memory, and ways to damage it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from buffer import BufferDB
from tests.rigs.faulty_disk import FaultyDisk

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = "/store"
OPTIONS = {
    "threaded": False,
    "segment_bytes": 4096,
    "device_id": "pi",
    "machine_id": "m",
    "keep_delivered_s": 1e12,
}
RECORDS = 200
ACKNOWLEDGED = 40


def opened(disk: FaultyDisk, **options: object) -> BufferDB:
    """The buffer, as its device opens it."""
    return BufferDB(ROOT, fs=disk, **OPTIONS, **options)


def store(*, closed: bool = False) -> FaultyDisk:
    """A disk with a buffer: 200 readings a minute apart in several segments, the last one not sealed unless closed.

    Its consumer has 40 of them, one is deleted (50), and there are dead letters and small tables.
    """
    disk = FaultyDisk(random.Random(0))
    db = opened(disk)
    consumer = db.consumer("cloud")
    for at in range(RECORDS // 4):
        db.insert_json(
            [b'{"source":"s%d","t":%d,"pad":"%s"}' % (n, 60 * (4 * at + n), b"x" * 40) for n in range(4)]
        )
        db.flush()
    db.insert_json([b'{"why":"test"}'] * 3, table="dead_letters")
    db.flush()
    batch = consumer.take(ACKNOWLEDGED)
    assert batch is not None
    consumer.ack(batch)
    db.delete(50)
    db.small_table("device_state").put("boot", {"count": 7})
    db.maintain()
    if closed:
        db.close()
    disk.kill()
    return disk


def files(disk: FaultyDisk, folder: str = "readings") -> list[str]:
    """The paths of a folder's files, in order."""
    return sorted(name for name in disk.files if name.startswith(f"{ROOT}/{folder}/"))


def sealed(disk: FaultyDisk) -> list[str]:
    """The paths of the sealed segments that have readings, in order."""
    return [name for name in files(disk) if "/s." in name and name.split(".")[3] != "0"]


def present(disk: FaultyDisk) -> dict[int, dict[str, object]]:
    """The readings that a fresh opening gives; the disk stays as it is."""
    copy = copied(disk)
    db = opened(copy)
    return {document.doc_id: dict(document) for document in db}


def copied(disk: FaultyDisk) -> FaultyDisk:
    """A disk with the same files."""
    copy = FaultyDisk(random.Random(1))
    for name, file in disk.files.items():
        copy.put(name, bytes(file.cache))
    return copy


def flip(content: bytearray, at: float) -> None:
    """One bit is another."""
    if content:
        content[int(at * len(content))] ^= 4


def zero(content: bytearray, at: float) -> None:
    """Some sectors read as zeros."""
    start = int(at * len(content))
    content[start : start + 600] = bytes(len(content[start : start + 600]))


def cut(content: bytearray, at: float) -> None:
    """The file is shorter than it was."""
    del content[int(at * len(content)) :]


def empty(content: bytearray, at: float) -> None:
    """There is nothing left."""
    content.clear()


def foreign(content: bytearray, at: float) -> None:
    """Something else has its name."""
    content[:] = b'{"holiday.jpg": "no reading"}\n' * int(1 + at * 40)


def lines(content: bytearray, at: float) -> None:
    """A part of it is what another part should be."""
    start = int(at * len(content))
    content[start : start + 300] = content[:300][: len(content) - start]


DAMAGES: dict[str, Callable[[bytearray, float], None]] = {
    each.__name__: each for each in (flip, zero, cut, empty, foreign, lines)
}
