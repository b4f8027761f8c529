"""Which test shows what each known fault gets. Those that had none of their own are below.

| what a disk, a card or a person does | shown by |
| --- | --- |
| `kill -9` at any moment | test_kill.py::test_what_was_durable_survives_kill_9 |
| a power cut at any moment | test_crash.py::test_crash_points_on_ordered_directories, test_power.py::test_whatever_sectors_and_names_a_cut_leaves |
| a power cut under a real ext4, its journal and its unflushed blocks | test_power.py::test_whatever_blocks_of_an_ext4_a_cut_leaves |
| torn writes, lost sectors | test_crash.py::test_crash_points_on_ordered_directories, test_layout.py::test_a_file_cut_anywhere_keeps_every_whole_frame |
| directory operations that survive in another order | test_crash_strict.py::test_crash_points_on_unordered_directories |
| a power cut while repairing | test_verification.py::test_a_power_cut_at_any_step_of_a_repair_loses_nothing_more |
| a power cut while making room | test_limits.py::test_a_cut_at_any_step_of_making_room_loses_nothing_else |
| EIO once | test_faults.py::test_a_failed_file_is_never_synced_or_trusted_again, test_filesystem.py::test_an_error_of_the_disk_is_no_reason_to_try_again |
| EIO for ever | test_faults.py::test_a_dead_disk_does_not_keep_it_from_opening, test_faults.py::test_memory_is_bounded_while_the_disk_refuses |
| EIO when reading | test_unreadable_disk.py::test_a_disk_that_gives_nothing_back_costs_nothing, test_unreadable_disk.py::test_a_file_that_cannot_be_read_costs_itself_alone |
| an error after which a decision is on the disk all the same | test_undecided.py::test_a_removal_in_doubt_and_its_entry_stand_or_fall_together, test_undecided.py::test_what_is_given_up_on_a_full_disk_takes_its_entry_with_it |
| ENOSPC at any call | test_faults.py::test_a_full_disk_never_empties_the_directory, test_limits.py::test_a_disk_that_is_full_in_spite_of_the_reserve_is_made_room_on |
| EROFS, and any of these together | test_crash_machine.py::TestBufferOnAFailingDisk |
| a second process | test_consumers.py::test_a_second_process_is_told |
| a file of another store | test_losses.py::test_a_file_of_another_store_gives_this_one_nothing_it_never_had |
| a card moved to another machine, or cloned | test_consumers.py::test_a_moved_card_gets_a_new_identity_and_keeps_the_old_one_for_its_records |
| a bit that flips, at any place | test_crash_bytes.py::test_each_flipped_byte_costs_one_frame_at_most |
| a truncated file, a file of zeros | test_crash_bytes.py::test_each_file_may_be_cut_anywhere_or_be_zeros, test_crash_bytes.py::test_what_a_file_has_lost_in_whole_sectors_is_told |
| a file of anything | test_faults.py::test_any_file_may_be_anything, test_strange_files.py::test_a_higher_revision_that_is_junk_supersedes_nothing |
| damaged small tables | test_faults.py::test_every_byte_of_the_small_tables_may_be_damaged, test_strange_files.py::test_a_lost_identity_is_told |
| a clock that jumps either way | test_limits.py::test_a_clock_that_jumps_ahead_is_no_age, test_crash_machine.py::TestBufferOnAFailingDisk |
| its directory, or a file, removed while it runs | test_removed_directory.py::test_nothing_is_durable_in_a_file_that_was_removed |
| a file removed while it is closed | test_limits.py::test_a_file_removed_while_the_buffer_was_closed_is_noticed |
| the last files, or all of them, removed while it is closed | test_missing_files.py::test_all_of_them, test_missing_files.py::test_the_last_ones, test_missing_files.py::test_after_a_crash_the_one_that_was_written |
| a cut while that is found out | test_missing_files.py::test_a_cut_while_that_is_found_out_hides_it_from_nobody |
| the file being written cannot even be opened | test_missing_files.py::test_a_file_left_active_that_does_not_open_is_told_as_a_loss |
| a file of another kind in the place of one | test_strange_files.py::test_a_file_in_the_place_of_one_of_another_kind_is_taken_for_neither |
| its disk unmounted, or its directory moved | test_removed_directory.py::test_what_was_moved_or_unmounted_is_neither_lost_nor_begun_anew |
| a newer or an older version | test_versions.py::test_a_store_of_an_earlier_version_opens_and_drains, test_versions.py::test_what_a_newer_minor_version_adds_is_passed_over_and_kept, test_versions.py::test_a_store_of_a_newer_major_version_is_refused_and_not_touched |

| what a prototype got wrong | shown by |
| --- | --- |
| fsync tried again on a file that had failed | test_faults.py::test_a_failed_file_is_never_synced_or_trusted_again |
| an empty frame that hid the trailer before it | test_known_faults.py::test_nothing_to_commit_is_no_frame |
| an id given again after a cut between rename and create | test_faults.py::test_a_cut_between_any_two_steps_of_rolling_reuses_no_id |
| ids that began anew after ENOSPC had emptied the directory | test_faults.py::test_a_full_disk_never_empties_the_directory |
| a base in the name that is not the first id, so that files overlap | test_known_faults.py::test_a_file_begins_where_its_name_says_and_ends_before_the_next |
| a temporary name that was there already | test_known_faults.py::test_a_temporary_file_that_stays_is_in_nobodys_way |
| a buffer in memory that grew while it was written | test_known_faults.py::test_what_is_appended_during_a_commit_waits_for_the_next |
| a cached update, half applied when its callable raised | test_known_faults.py::test_an_update_that_raises_leaves_a_cached_query_as_it_was |
"""

import ast
import errno
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
from tinydb import where
from tinydb.table import Document

from buffer import BufferDB, DiskFault
from buffer.layout import lines, record_ids
from buffer.naming import parse_active, parse_sealed
from tests.rigs.faulty_disk import FaultyDisk

RECORD = b'{"n":%d,"pad":"' + b"x" * 100 + b'"}'
HERE = Path(__file__).parent


@pytest.fixture
def disk():
    return FaultyDisk(random.Random(0))


def opened(disk, **options):
    return BufferDB("/s", fs=disk, threaded=False, segment_bytes=4096, device_id="d", **options)


def fill(db, n):
    ids = list(db.insert_json([RECORD % at for at in range(n)]))
    db.flush()
    return ids


def defined(file):
    """The tests of a file, and its test cases: `Name = Machine.TestCase`."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if name.lower().startswith("test")}


def test_each_fault_has_its_tests():
    rows = [line.split(" | ") for line in __doc__.splitlines() if line.startswith("| ") and "---" not in line]
    faults = [row for row in rows if row[1] != "shown by |"]
    assert len(faults) > 30
    for fault, shown_by in faults:
        named = re.findall(r"(test_\w+\.py)::(\w+)", shown_by)
        assert len(named) == shown_by.count("::") > 0, fault
        for file, test in named:
            assert test in defined(HERE / file), f"{fault}: there is no {file}::{test}"


def test_nothing_to_commit_is_no_frame(disk):
    db = opened(disk)
    fill(db, 3)
    consumer = db.consumer("cloud")
    consumer.ack(consumer.take(3))
    (name,) = (name for name in disk.files if "/readings/a." in name)
    before = bytes(disk.files[name].cache)
    for _ in range(3):
        db.flush()
        db.commit()
    assert disk.files[name].cache == before
    with pytest.raises(AssertionError):
        lines([], first=False)


def hold_bounds(disk):
    """Each file of readings has ids that its name states, below those of the next; gives how many there are."""
    found = []
    for path, file in disk.files.items():
        name = path.rpartition("/")[2]
        sealed, base = parse_sealed(name), parse_active(name)
        if "/readings/" in path and (sealed or base is not None):
            ids = record_ids(bytes(file.cache))
            found.append((sealed.base if sealed else base, ids, sealed.last if sealed else None))
    for base, ids, last in found:
        assert all(base <= each <= (last or each) for each in ids)
    for (_, ids, last), (base, _, _) in pairwise(sorted(found)):
        assert max([last or 0, *ids]) < base
    return len(found)


def test_a_file_begins_where_its_name_says_and_ends_before_the_next(disk):
    """Whatever makes the next id another one than the last one and one."""
    options = {"quota_bytes": 16_384, "full": "drop_newest"}
    db = opened(disk, **options)
    fill(db, 5)
    db.insert(Document({"n": 1}, doc_id=1_000))  # chosen by the caller
    fill(db, 40)
    disk.fail_when = lambda call: errno.EIO if call == "sync" else None
    with pytest.raises(DiskFault):
        fill(db, 5)  # a file that failed; its records go to the next one
    disk.fail_when = lambda _: None
    db.commit()
    while not db.ledger.dropped:
        fill(db, 10)  # dropped before they were in any file
    assert hold_bounds(disk) > 3
    db.clear()
    fill(db, 5)
    hold_bounds(disk)
    disk.kill()
    disk.fail_when = lambda call: errno.EIO if call == "rename" else None
    db = opened(disk, **options)  # jumps far away, since nothing can say what was given out
    disk.fail_when = lambda _: None
    fill(db, 50)
    assert hold_bounds(disk) > 1


def test_a_temporary_file_that_stays_is_in_nobodys_way(disk):
    made = []
    create = disk.create

    def watched(path):
        made.append(path)
        return create(path)

    disk.create = watched
    for n in range(1, 4):
        disk.fail_when = lambda call: errno.EIO if call in {"rename", "unlink"} else None
        db = opened(disk)
        disk.fail_when = lambda call: errno.EIO if call == "unlink" else None
        fill(db, 10)
        assert len(db) == 10 * n
        disk.kill()
    assert len([name for name in disk.files if "/t." in name]) >= 3
    assert len(set(made)) == len(made)


def test_what_is_appended_during_a_commit_waits_for_the_next(disk):
    db = opened(disk)
    later = []

    def append():
        if not later:
            for _ in range(20):
                later.extend(db.insert_json([RECORD % 2] * 50))

    ids = list(db.insert_json([RECORD % 1] * 10))
    disk.before_change = append
    db.log("readings").commit_once()
    disk.before_change = lambda: None
    assert (db.durable_id(), len(later)) == (ids[-1], 1_000)
    db.flush()
    assert [document.doc_id for document in db] == [*ids, *later]
    assert [document["n"] for document in db] == [1] * 10 + [2] * 1_000


def test_an_update_that_raises_leaves_a_cached_query_as_it_was(disk):
    table = opened(disk).table("readings", cache_size=10)
    table.insert_multiple({"n": n, "done": 0} for n in range(20))
    some = where("n") < 10
    before = table.search(some)

    def fail_late(document):
        document["done"] = 1
        if document["n"] == 7:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        table.update(fail_late, some)
    assert table.search(some) == before == [{"n": n, "done": 0} for n in range(10)]
    assert not any(document["done"] for document in table)
