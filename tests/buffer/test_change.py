"""Limits and windows are set anew while a buffer is open."""

import time

import pytest

from buffer import BufferDB, DiskFault
from buffer.options import CHANGEABLE

SEGMENT = 4096
DOCUMENT = b'{"x":"' + b"x" * 200 + b'"}'


def opened(path, **options):
    return BufferDB(path, segment_bytes=SEGMENT, **{"threaded": False, **options})


def fill(db, count):
    for _ in range(count):
        db.insert_json([DOCUMENT])
        db.flush()


def test_a_lower_quota_is_kept_from_the_next_commit_on(tmp_path):
    with opened(tmp_path / "b") as db:
        fill(db, 200)
        before = db.log("readings").disk_bytes
        db.change(quota_bytes=2 * SEGMENT)
        fill(db, 1)
        assert db.log("readings").disk_bytes <= 2 * SEGMENT < before
        assert db.ledger.lost()["full: oldest dropped"] > 100


def test_another_policy_and_a_higher_quota_let_in_what_was_blocked(tmp_path):
    with opened(tmp_path / "b", quota_bytes=2 * SEGMENT, full="block") as db:
        with pytest.raises(DiskFault, match="the quota of"):
            fill(db, 200)
        db.change(quota_bytes=8 * SEGMENT)
        db.flush()
        with pytest.raises(DiskFault, match="the quota of"):
            fill(db, 200)
        db.change(full="drop_newest")
        db.flush()
        assert db.ledger.lost()["full: newest dropped"] == 1


def test_delivered_ones_go_by_the_new_age(tmp_path):
    with opened(tmp_path / "b") as db:
        consumer = db.consumer("c")
        fill(db, 100)
        while batch := consumer.take(50):
            consumer.ack(batch)
        db.maintain()
        kept = len(db.log("readings").segments)
        db.change(keep_delivered_s=0)
        db.maintain()
        assert len(db.log("readings").segments) == 1 < kept


@pytest.mark.parametrize("change", [{"window_s": 0.02}, {"sync": "each"}])
def test_a_shorter_window_counts_for_what_waits_already(tmp_path, change):
    with opened(tmp_path / "b", threaded=True, window_s=3600) as db:
        (record,) = db.append_checked([DOCUMENT], len(DOCUMENT), table="readings")
        time.sleep(0.05)
        assert db.durable_id() < record
        db.change(**change)
        end = time.monotonic() + 5
        while db.durable_id() < record and time.monotonic() < end:
            time.sleep(0.001)
        assert db.durable_id() >= record


def test_what_is_appended_waits_for_no_window_where_each_is_committed(tmp_path):
    with opened(tmp_path / "b", threaded=True, window_s=3600, sync="each") as db:
        (record,) = db.append_checked([DOCUMENT], len(DOCUMENT), table="readings")
        end = time.monotonic() + 5
        while db.durable_id() < record and time.monotonic() < end:
            time.sleep(0.001)
        assert db.durable_id() >= record


@pytest.mark.parametrize("change", [{"segment_bytes": 8192}, {"device_id": "x"}, {"quota_bytes": 1}])
def test_what_cannot_be_changed_changes_nothing(tmp_path, change):
    with opened(tmp_path / "b") as db:
        before = db.options
        with pytest.raises(ValueError, match=next(iter(change))):
            db.change(window_s=5, **change)
        assert db.options is before
    assert not {"segment_bytes", "device_id"} & CHANGEABLE
