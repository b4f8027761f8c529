"""Files that grow, by small commits and large ones: what a cut leaves is never taken for a file that was cut off."""

import errno
import random
from contextlib import suppress

import pytest

from buffer import BufferDB, DiskFault
from buffer.layout import scan
from buffer.loss import AT_MOST
from tests.rigs.faulty_disk import FaultyDisk, File, PowerCut

SMALL, LARGE = 3, 300
"""Records of some 200 bytes; a commit is large from 32 KiB on."""


def opened(disk):
    return BufferDB("/s", fs=disk, threaded=False, segment_bytes=1 << 20, device_id="d", machine_id="m")


@pytest.fixture
def past_the_cache(monkeypatch):
    """A file's size changes at once, when all of what makes it longer is written."""

    def settled_size(file, rng, kept):
        before, after = len(file.durable), len(file.cache)
        return after if file.size_dirty and (kept == "most" or rng.random() < 0.5) else before

    monkeypatch.setattr(File, "_settled_size", settled_size)


def commit(db, rng, records):
    documents = [b'{"n":%d,"p":"%s"}' % (rng.randrange(10**9), b"x y " * 45) for _ in range(records)]
    ids = db.insert_json(documents)
    with suppress(DiskFault):
        db.flush()
        return set(ids)
    return set()


def failing_syncs(rng):
    return lambda call: errno.EIO if call == "sync" and rng.random() < 0.5 else None


def held(disk, durable):
    db = opened(disk)
    missing = durable - {document.doc_id for document in db}
    assert not missing
    db.flush()
    return [entry for _, entry in db.ledger.items() if entry["why"] == AT_MOST]


@pytest.mark.usefixtures("past_the_cache")
@pytest.mark.parametrize("seed", range(60))
def test_no_cut_makes_it_look_cut_off(seed):
    rng = random.Random(seed)
    disk = FaultyDisk(rng)
    db = opened(disk)
    durable = set()

    def look():
        if rng.random() < 0.3:
            assert not held(disk.survivor(rng, rng.choice(["least", "some", "most"])), durable)

    disk.before_change = look
    for _ in range(rng.randint(1, 5)):
        failing = rng.random() < 0.3
        disk.fail_when = failing_syncs(rng) if failing else lambda _: None
        durable |= commit(db, rng, rng.choice([SMALL, SMALL, LARGE, LARGE]))
    disk.before_change = lambda: None
    disk.fail_when = lambda _: None
    disk.power_cut()
    for _ in range(2):
        disk.cut_at = rng.randint(1, 14)
        with suppress(PowerCut):
            opened(disk)
        disk.power_cut()
    assert not held(disk, durable)


@pytest.mark.parametrize("records", [SMALL, LARGE])
@pytest.mark.parametrize("following", [SMALL, LARGE])
def test_a_kill_leaves_all_of_a_commit_or_nothing(records, following):
    rng = random.Random(0)
    disk = FaultyDisk(rng)
    db = opened(disk)
    before = commit(db, rng, records)
    states = []

    def look():
        after = FaultyDisk(rng)
        for name, file in disk.files.items():
            after.put(name, bytes(file.cache))
        states.append(after)

    disk.before_change = look
    behind = {each for _ in range(40) for each in commit(db, rng, following)}
    for state in states:
        after = opened(state)
        present = {document.doc_id for document in after}
        assert before <= present <= before | behind
        assert all(not entry["count"] for _, entry in after.ledger.items())
        assert not [name for name in state.files if "/.quarantine/" in name]


def test_what_did_not_fit_on_the_disk_is_given_back():
    rng = random.Random(1)
    disk = FaultyDisk(rng)
    db = opened(disk)
    durable = commit(db, rng, LARGE) | commit(db, rng, LARGE)
    (name,) = (name for name in disk.files if "/readings/a." in name)
    size = len(disk.files[name].cache)
    disk.fail_when = lambda call: errno.ENOSPC if call in {"write", "create"} else None
    assert not commit(db, rng, LARGE)
    assert len(disk.files[name].cache) <= size
    disk.fail_when = lambda _: None
    disk.kill()
    assert not held(disk, durable)


@pytest.mark.parametrize("part", [1, 2])
def test_a_full_disk_at_either_part_of_a_large_commit_is_no_cut_off_file(part):
    rng = random.Random(2)
    disk = FaultyDisk(rng)
    db = opened(disk)
    durable = commit(db, rng, SMALL)
    calls = []

    def full(call):
        calls.append(call)
        return errno.ENOSPC if call == "create" or (call == "sync" and calls.count("sync") >= part) else None

    disk.fail_when = full
    assert not commit(db, rng, LARGE)
    disk.fail_when = lambda _: None
    disk.kill()
    assert not held(disk, durable)


@pytest.mark.usefixtures("past_the_cache")
@pytest.mark.parametrize("small", range(1, 9))
def test_what_grows_behind_a_large_commit_that_had_room_makes_it_not_look_cut_off_either(small):
    rng = random.Random(small)
    disk = FaultyDisk(rng)
    db = opened(disk)
    durable = {each for _ in range(5 * small) for each in commit(db, rng, SMALL)}

    def look():
        for _ in range(6):
            assert not held(disk.survivor(rng), durable)

    disk.before_change = look
    for _ in range(8):
        durable |= commit(db, rng, LARGE)


def test_a_file_ends_with_a_sector_of_spaces():
    rng = random.Random(4)
    disk = FaultyDisk(rng)
    db = opened(disk)
    for at in range(300):
        commit(db, rng, LARGE if at % 50 == 49 else 1 + at % 7)
        (name,) = (name for name in disk.files if "/readings/a." in name)
        assert disk.files[name].cache.endswith(b" " * 512)


@pytest.mark.parametrize("harm", ["cut", "zeros"])
def test_what_is_lost_of_large_commits_is_told(harm):
    rng = random.Random(5)
    disk = FaultyDisk(rng)
    db = opened(disk)
    for _ in range(3):
        commit(db, rng, LARGE)
    (name,) = (name for name in disk.files if "/readings/a." in name)
    whole = bytes(disk.files[name].cache)
    frames = [frame.end for frame in scan(whole)]
    before = -(-(frames[2] + 515) // 4096) * 4096  # from here on the third one could be torn so
    places = (
        (frames[2] + 100, before - 512) if harm == "zeros" else range(before + 4096, frames[3] - 512, 4096)
    )
    for at in places:
        after = FaultyDisk(rng)
        after.put(name, whole[:at] if harm == "cut" else whole[:at] + bytes(len(whole) - at))
        (told,) = held(after, set(range(1, 2 * LARGE + 1)))
        assert told["last"] >= 3 * LARGE, at
