"""Each byte of a small store flipped, each file cut at any length: it opens, and tells what is lost."""

import random

import pytest

from buffer import BufferDB
from buffer.layout import scan
from tests.rigs.faulty_disk import FaultyDisk
from tests.rigs.promises import READINGS, entries, stored

ROOT = "/store"
FRAME = 3


def opened(disk):
    return BufferDB(ROOT, fs=disk, threaded=False, segment_bytes=4096, device_id="d", machine_id="m")


def opened_large(disk):
    return BufferDB(ROOT, fs=disk, threaded=False, device_id="d", machine_id="m")


@pytest.fixture(scope="module")
def content():
    """A sealed segment, an active one and a journal, as a killed process leaves them."""
    disk = FaultyDisk(random.Random(0))
    db = opened(disk)
    for start in range(0, 12, FRAME):
        if start == 6:
            db.close()
            db = opened(disk)
        db.insert_json([b'{"n":%d}' % (start + at) for at in range(FRAME)])
        db.flush()
    return {name: bytes(file.cache).rstrip(b" ") for name, file in disk.files.items()}


def looked_at(content, name, damaged):
    """Open with one file damaged; gives what is there, and which ids the ledger tells as lost."""
    disk = FaultyDisk(random.Random(1))
    for each, data in content.items():
        disk.put(each, damaged if each == name else data)
    db = opened(disk)
    present = stored(db, READINGS)
    db.flush()
    lost = set()
    for entry in entries(db, READINGS):
        if entry["count"]:  # not "never issued"
            lost.update(range(entry["first"], min(entry["last"], 20) + 1))
    assert db.log(READINGS).next_id > 12
    return present, lost


def held(content, name, damaged, most):
    """What is missing is told as lost."""
    present, lost = looked_at(content, name, damaged)
    for record_id, raw in present.items():
        assert raw == b'{"n":%d}' % (record_id - 1)
    missing = set(range(1, 13)) - present.keys()
    assert len(missing) <= most, (name, sorted(missing))
    assert missing <= lost, f"silent: {sorted(missing - lost)}"


def test_each_flipped_byte_costs_one_frame_at_most(content):
    rng = random.Random(2)
    for name, data in content.items():
        for at in range(len(data)):
            damaged = bytearray(data)
            damaged[at] ^= 1 << rng.randrange(8)
            held(content, name, bytes(damaged), FRAME)


def test_each_file_may_be_cut_anywhere_or_be_zeros(content):
    for name, data in content.items():
        ends = {frame.end for frame in scan(data)} or {0}
        for size in {*range(0, len(data), 3), *ends}:
            held(content, name, data[:size], 6)
        held(content, name, bytes(len(data)), 6)


def test_a_file_cut_to_whole_blocks_is_told():
    """As by `truncate -s 8192`, or by a file system that mends itself; a small commit says nothing of those behind it."""
    disk = FaultyDisk(random.Random(0))
    db = opened_large(disk)
    for at in range(300):
        db.insert_json([b'{"n":%d,"text":"%s"}' % (at, b"a b " * 30)])
        db.flush()
    (name,) = (each for each in disk.files if "/readings/a." in each)
    whole = bytes(disk.files[name].cache)
    for size in range(512, len(whole), 512):
        after = FaultyDisk(random.Random(1))
        after.put(name, whole[:size])
        db = opened_large(after)
        missing = set(range(1, 301)) - stored(db, READINGS).keys()
        db.flush()
        lost = {
            each
            for entry in entries(db, READINGS)
            if entry["count"]
            for each in range(entry["first"], min(entry["last"], 300) + 1)
        }
        assert missing <= lost, f"silent at {size}: {len(missing - lost)}"
        if not missing:
            assert not lost, size
