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


def harmed(whole, harm, at):
    """A file that is whole no more from some place on."""
    kind, _, how_far = harm.partition(" ")
    if kind == "cut":
        return whole[:at]
    stop = {"to the end": len(whole), "to the spaces": len(whole.rstrip(b" ")), "a block": at + 4096}[how_far]
    size = max(0, min(stop, len(whole)) - at)
    fill = {"zeros": bytes(size), "ones": b"\xff" * size, "garbage": random.Random(at).randbytes(size)}[kind]
    return whole[:at] + fill + whole[at + size :]


@pytest.mark.parametrize("text", [b"a b " * 30, b"ST,GS,+     12.50  kg      T        5.1"])
@pytest.mark.parametrize(
    "harm",
    ["cut"]
    + [
        f"{kind} {how_far}"
        for kind in ("zeros", "ones", "garbage")
        for how_far in ("to the end", "to the spaces", "a block")
    ],
)
def test_what_a_file_has_lost_in_whole_sectors_is_told(harm, text):
    """As by `truncate -s 8192`, or by a file system that mends itself; a small commit says nothing of those behind it."""
    disk = FaultyDisk(random.Random(0))
    db = opened_large(disk)
    for at in range(100):
        db.insert_json([b'{"n":%d,"text":"%s"}' % (at, text)])
        db.flush()
    (name,) = (each for each in disk.files if "/readings/a." in each)
    whole = bytes(disk.files[name].cache)
    for at in range(512, len(whole.rstrip(b" ")) + 1024, 512):
        after = FaultyDisk(random.Random(1))
        after.put(name, harmed(whole, harm, at))
        db = opened_large(after)
        missing = set(range(1, 101)) - stored(db, READINGS).keys()
        db.flush()
        lost = {
            each
            for entry in entries(db, READINGS)
            if entry["count"]
            for each in range(entry["first"], min(entry["last"], 100) + 1)
        }
        assert missing <= lost, f"silent at {at}: {len(missing - lost)}"
        if not missing and harm == "cut":
            assert not lost, at
