"""What a damaged segment costs is told exactly: as much as its name counts more than is left."""

import errno
import random
from contextlib import suppress
from unittest.mock import patch
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer import BufferDB, DiskFault
from tests.buffer.test_ledger import Receiver
from tests.rigs.faulty_disk import FaultyDisk, File, PowerCut


def stored(disk, frames):
    """A sealed segment of frames of three records each."""
    db = BufferDB("/s", fs=disk, threaded=False)
    for at in range(frames):
        db.insert_json([b'{"n":%d,"pad":"%s"}' % (at * 3 + n, b"x" * 20) for n in range(3)])
        db.flush()
    db.close()
    (name,) = (name for name in disk.files if f".{frames * 3}." in name)
    return disk.files[name]


def lost_and_told(disk, records):
    db = BufferDB("/s", fs=disk, threaded=False)
    left = [document.doc_id for document in db]
    assert [db.get(doc_id=each)["n"] for each in left] == [each - 1 for each in left]
    db.flush()
    entries = [entry for _, entry in db.ledger.items()]
    db.close()
    return sorted(set(range(1, records + 1)) - set(left)), entries


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 400), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_any_damage_is_told_exactly(frames, damages):
    disk = FaultyDisk(random.Random(0))
    file = stored(disk, frames)
    for place, size, value in damages:
        at = int(place * len(file.cache))
        stop = min(len(file.cache), at + size)
        file.cache[at:stop] = bytes([value]) * (stop - at)
    lost, entries = lost_and_told(disk, frames * 3)
    assert sum(entry["count"] for entry in entries) == len(lost)
    told = {each for entry in entries for each in range(entry["first"], entry["last"] + 1)}
    assert told == set(lost)


def damaged(disk, data):
    """Damage some sealed segment with records."""
    names = sorted(name for name in disk.files if "/readings/s." in name and name.split(".")[3] != "0")
    if names:
        file = disk.files[data.draw(st.sampled_from(names))]
        at = data.draw(st.integers(0, len(file.cache) - 1))
        stop = min(len(file.cache), at + data.draw(st.integers(1, 200)))
        file.cache[at:stop] = bytes([data.draw(st.integers(0, 255))]) * (stop - at)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_after_damage_and_removal_is_told_exactly(data):
    """What befalls a file that was mended before is no repetition; and a receiver comes to know all of it."""
    disk = FaultyDisk(random.Random(0))
    stored(disk, 6)
    receiver = Receiver()
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            damaged(disk, data)
        db = BufferDB("/s", fs=disk, threaded=False)
        db.consumer("cloud")
        db.ledger.feed("cloud")
        left = [document.doc_id for document in db]
        if left and data.draw(st.booleans()):
            removed = set(data.draw(st.lists(st.sampled_from(left), min_size=1, max_size=9)))
            with patch("buffer.changing._REMOVALS_TOLD_APART", 1):
                db.remove(doc_ids=removed)
        if data.draw(st.booleans()):
            db.flush()
        for entry in db.ledger.untold("cloud"):
            receiver.take(entry)
        left = [document.doc_id for document in db]
        db.close()
    db = BufferDB("/s", fs=disk, threaded=False)
    for entry in db.ledger.untold("cloud"):
        receiver.take(entry)
    left = [document.doc_id for document in db]
    db.flush()
    db.close()
    lost = set(range(1, 19)) - set(left)
    assert sum(entry["count"] for _, entry in db.ledger.items()) == len(lost)
    assert sum(count for _, count in receiver.rows.values()) == len(lost)


@pytest.mark.parametrize("kept", [0, 1, 95, 100, 300, 500])
def test_a_cut_file_is_told_exactly(kept):
    disk = FaultyDisk(random.Random(0))
    file = stored(disk, 5)
    del file.cache[kept:]
    lost, entries = lost_and_told(disk, 15)
    assert sum(entry["count"] for entry in entries) == len(lost)
    assert [(entry["first"], entry["last"]) for entry in entries] == ([(lost[0], lost[-1])] if lost else [])


def test_where_ids_are_missing_anyway_the_count_is_right_all_the_same():
    disk = FaultyDisk(random.Random(0))
    db = BufferDB("/s", fs=disk, threaded=False)
    db.insert_json([b'{"n":0}'] * 9)
    db.remove(doc_ids=[2, 5, 8])
    db.close()
    (name,) = (name for name in disk.files if ".6." in name)
    disk.files[name].cache[150:] = bytes(len(disk.files[name].cache) - 150)
    db = BufferDB("/s", fs=disk, threaded=False)
    assert db.all() == []
    db.flush()
    ((_, entry),) = db.ledger.items()
    assert (entry["first"], entry["last"], entry["count"]) == (1, 9, 6)


def test_a_file_of_another_store_gives_this_one_nothing_it_never_had():
    theirs = FaultyDisk(random.Random(1))
    foreign = stored(theirs, 9)
    disk = FaultyDisk(random.Random(0))
    db = BufferDB("/s", fs=disk, threaded=False)
    db.insert_json([b'{"n":%d}' % n for n in range(10)])
    db.flush()
    db.log("readings").roll()
    db.insert_json([b'{"n":%d}' % n for n in range(10, 15)])
    db.close()
    (name,) = (name for name in disk.files if ".5." in name)
    disk.files[name] = foreign
    db = BufferDB("/s", fs=disk, threaded=False)
    left = [document.doc_id for document in db]
    assert left == sorted(set(left))
    assert set(left) <= set(range(1, 16))


@pytest.mark.parametrize(("acknowledged", "expected"), [(0, [(1, 15, 15)]), (7, [(8, 15, 8)]), (15, [])])
def test_what_everybody_has_is_no_loss(acknowledged, expected):
    disk = FaultyDisk(random.Random(0))
    file = stored(disk, 5)
    db = BufferDB("/s", fs=disk, threaded=False)
    consumer = db.consumer("cloud")
    if acknowledged:
        consumer.ack(consumer.take(acknowledged))
    db.close()
    file.cache[100:] = bytes(len(file.cache) - 100)
    db = BufferDB("/s", fs=disk, threaded=False)
    assert db.all() == []
    db.flush()
    assert [(entry["first"], entry["last"], entry["count"]) for _, entry in db.ledger.items()] == expected


def test_a_file_with_a_damaged_checksum_is_not_sealed_as_it_is():
    disk = FaultyDisk(random.Random(0))
    db = BufferDB("/s", fs=disk, threaded=False)
    db.insert_json([b'{"n":1}'])
    db.flush()
    db.insert_json([b'{"n":2}'])
    db.flush()
    name = "/s/readings/a.0000000000000001.json"
    content = bytes(disk.files[name].cache)
    first_end = content.index(b"\n,")
    for at in (first_end - 1, first_end - 32, content.index(b"\n") - 1):
        disk.kill()
        disk.files[name] = File(bytearray(content))
        disk.files[name].cache[at] ^= ord("\t") ^ ord("\r")
        db = BufferDB("/s", fs=disk, threaded=False)
        assert db.all() == [{"n": 1}, {"n": 2}]
        assert db.ledger.dropped == 0
        assert [each for each in disk.files if each.endswith(f".readings.{name.rsplit('/', 1)[1]}")]
        (sealed,) = (each for each in db.log("readings").segments if each.sealed)
        assert crc32(disk.files[f"/s/readings/{sealed.name}"].cache) == sealed.sealed.crc
        db.close()
        for each in [each for each in disk.files if "/readings/" in each or "quarantine" in each]:
            del disk.files[each]


def written_twice(disk, later):
    """A frame of ids 4 to 6, whose write failed though all of it arrived, and the file that it was repeated in.

    There, it is damaged; `later` frames of three records are behind it.
    """
    db = BufferDB("/s", fs=disk, threaded=False, segment_bytes=4096)
    db.insert_json([b'{"n":%d}' % n for n in range(3)])
    db.flush()
    write = disk.write

    def failing(handle, data, offset):
        write(handle, data, offset)
        raise OSError(errno.EIO, "injected")

    disk.write = failing
    db.insert_json([b'{"n":%d}' % n for n in range(3, 6)])
    with pytest.raises(DiskFault):
        db.flush()
    disk.write = write
    db.flush()
    for at in range(2, 2 + later):
        db.insert_json([b'{"n":%d}' % n for n in range(at * 3, at * 3 + 3)])
        db.flush()
    disk.kill()
    content = disk.files["/s/readings/a.0000000000000004.json"].cache
    content[content.index(b'{"n":4}') + 5] ^= 1
    disk.files["/s/readings/a.0000000000000004.json"].durable = bytes(content)


@pytest.mark.parametrize("later", [0, 1])
def test_what_is_damaged_in_one_file_and_whole_in_another_is_not_lost(later):
    disk = FaultyDisk(random.Random(0))
    written_twice(disk, later)
    lost, entries = lost_and_told(disk, 6 + later * 3)
    assert lost == []
    assert [entry["why"] for entry in entries] == ["never issued"]


@pytest.mark.parametrize("kept", ["least", "most"])
def test_it_is_kept_or_told_wherever_the_opening_that_finds_it_is_cut(kept):
    """What is whole is perhaps so in memory only: until it is on the disk, the damaged copy tells of it."""
    for cut in range(1, 40):
        disk = FaultyDisk(random.Random(0))
        written_twice(disk, 0)
        disk.cut_at = disk.operations + cut
        with suppress(PowerCut):
            BufferDB("/s", fs=disk, threaded=False).close()
        lost, entries = lost_and_told(disk.survivor(random.Random(0), kept), 6)
        told = [
            (entry["first"], entry["last"], entry["count"])
            for entry in entries
            if entry["why"] != "never issued"
        ]
        assert (lost, told) in [([], []), ([4, 5, 6], [(4, 6, 3)])], cut
