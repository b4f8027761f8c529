"""What `verify` says of a damaged buffer is what `repair` then loses, and no more."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer import BufferLocked, NoBuffer
from buffer.inspection import Inspection
from buffer.repair import IdentityLost, repair
from buffer.verification import verify
from tests.rigs.damaged_store import (
    ACKNOWLEDGED,
    DAMAGES,
    RECORDS,
    ROOT,
    copied,
    files,
    opened,
    present,
    sealed,
    store,
)
from tests.rigs.faulty_disk import File, PowerCut


def inspected(disk, **options):
    return Inspection(ROOT, fs=disk, in_use=False, pause=lambda: None, **options)


def verified(disk):
    return verify(inspected(disk))


def mended(disk, **options):
    return repair(ROOT, fs=disk, **options)


def contents(disk):
    return {name: bytes(file.cache) for name, file in disk.files.items()}


def losses(verdict):
    return [lost for damage in verdict.damages for lost in damage.lost]


@pytest.fixture(scope="module")
def sound():
    return store()


@pytest.fixture(scope="module")
def before(sound):
    return present(sound)


@pytest.mark.parametrize("closed", [True, False])
def test_a_sound_buffer_is_said_to_be_sound(closed):
    disk = store(closed=closed)
    at_first = contents(disk)
    verdict = verified(disk)
    assert verdict.sound
    assert verdict.damages == verdict.state == []
    assert [table.table for table in verdict.tables] == ["readings", "dead_letters"]
    assert verdict.records == RECORDS + 3
    assert [bool(table.notes) for table in verdict.tables] == [not closed] * 2
    assert all("did not close it" in note for table in verdict.tables for note in table.notes)
    assert contents(disk) == at_first
    assert mended(disk).kept == []
    assert contents(disk) == at_first


harms = st.lists(
    st.tuples(st.floats(0, 0.999), st.sampled_from(sorted(DAMAGES)), st.floats(0, 0.999)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(harms)
def test_what_a_damaged_segment_costs_is_what_repair_loses(sound, before, harms):
    disk = copied(sound)
    originals = {}
    for which, how, where in harms:
        name = sealed(sound)[int(which * len(sealed(sound)))]
        DAMAGES[how](disk.files[name].cache, where)
        originals[name.rsplit("/", 1)[1]] = bytes(disk.files[name].cache)
    at_first = contents(disk)
    verdict = verified(disk)
    assert contents(disk) == at_first
    repaired = mended(disk)
    assert repaired.found == verdict
    after = present(disk)
    gone = set(before) - set(after) - {50}
    assert all(after[each] == before[each] for each in after)
    told = losses(verdict)
    # The deleted one is lost with its frame as any other; a range that is told may have it in.
    assert len(gone) <= sum(lost.count for lost in told) <= len(gone) + 1
    assert gone <= {each for lost in told for each in range(lost.first, lost.last + 1)}
    assert sum(lost.undelivered for lost in told) == repaired.entered
    assert len({each for each in gone if each > ACKNOWLEDGED}) <= repaired.entered
    for damage in verdict.damages:
        (kept,) = [name for name in repaired.kept if name.endswith(f".readings.{damage.file}")]
        assert bytes(disk.files[f"{ROOT}/.quarantine/{kept}"].cache) == originals[damage.file]
    assert verified(disk).sound
    assert mended(disk).kept == []
    assert present(disk) == after


@settings(max_examples=60, deadline=None)
@given(harms)
def test_whatever_is_damaged_repair_enters_what_verify_stated(sound, before, harms):
    disk = copied(sound)
    for which, how, where in harms:
        names = [*files(sound), *files(sound, "dead_letters"), *files(sound, ".state")]
        name = names[int(which * len(names))]
        if ".state" in name and "foreign" in how:
            continue  # whose readings these are is the next test's
        DAMAGES[how](disk.files[name].cache, where)
    verdict = verified(disk)
    repaired = mended(disk, device_id="pi", machine_id="m")
    if verdict.sound:
        assert repaired.kept == []
    else:
        readings = [lost for damage in verdict.damages for lost in damage.lost if damage.table == "readings"]
        others = [lost for damage in verdict.damages for lost in damage.lost if damage.table != "readings"]
        stated = sum(lost.undelivered for lost in readings) + sum(lost.count for lost in others)
        assert stated == repaired.entered
        again = verified(disk)
        assert again.sound, again
    after = present(disk)
    assert all(after[each] == before[each] for each in after if each in before)
    assert set(after) <= set(before) | {50}


def test_the_times_next_to_a_loss_are_told(sound):
    disk = copied(sound)
    name = sealed(disk)[2]
    content = disk.files[name].cache
    at = content.find(b'"pad"', len(content) // 2)
    content[at] ^= 1
    (damage,) = verified(disk).damages
    assert (damage.table, f"{ROOT}/readings/{damage.file}") == ("readings", name)
    assert "1 of" in damage.what
    assert "frames damaged" in damage.what
    (lost,) = damage.lost
    assert lost.count == lost.undelivered == 4
    assert (lost.after_s, lost.before_s) == (60 * (lost.first - 2), 60 * lost.last)
    whole = copied(sound)
    whole.files[name].cache.clear()
    (damage,) = verified(whole).damages
    (lost,) = damage.lost
    base, last = int(name.split(".")[1]), int(name.split(".")[5])
    assert (lost.first, lost.last, lost.count, damage.intact) == (base, last, last - base + 1, 0)
    assert (lost.after_s, lost.before_s) == (60 * (base - 2), 60 * last)
    assert damage.what == "has nothing that can be read"


def test_what_was_delivered_is_lost_to_history_only(sound):
    disk = copied(sound)
    disk.files[sealed(disk)[0]].cache.clear()
    disk.files[sealed(disk)[1]].cache.clear()
    first, second = losses(verified(disk))
    assert first.undelivered == 0
    assert second.undelivered == second.last - ACKNOWLEDGED
    assert mended(disk).entered == second.undelivered


def test_how_many_were_in_an_unreadable_file_that_was_not_sealed_nobody_knows(sound):
    disk = copied(sound)
    (name,) = (each for each in disk.files if "/readings/a." in each)
    base = int(name.split(".")[1])
    disk.files[name] = File(bytearray(len(disk.files[name].cache)))
    (damage,) = verified(disk).damages
    (lost,) = damage.lost
    assert (lost.first, lost.count, lost.at_most) == (base, lost.last - base + 1, True)
    assert mended(disk).entered == lost.count


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.9999999999999999.json", b"{}"),
        ("s.0000000000000403.0.5.deadbeef.404.json", b"{}"),
        ("s.0000000000000001.7.5.deadbeef.5.json", b"{}"),
    ],
)
def test_a_segment_that_cannot_be_one_is_damage_that_costs_nothing(sound, before, name, content):
    disk = copied(sound)
    disk.files[f"{ROOT}/readings/{name}"] = File(bytearray(content))
    (damage,) = verified(disk).damages
    assert (damage.file, damage.lost) == (name, [])
    assert mended(disk).kept == [f"1.readings.{name}"]
    assert verified(disk).sound
    assert present(disk) == before


def test_what_is_not_the_buffers_is_a_note(sound):
    disk = copied(sound)
    for name in ("notes.txt", "t.0123.json", "s.old"):
        disk.files[f"{ROOT}/readings/{name}"] = File(bytearray(b"?"))
    verdict = verified(disk)
    assert verdict.sound
    notes = "\n".join(verdict.tables[0].notes)
    assert "notes.txt is not the buffer's" in notes
    assert "s.old is not the buffer's" in notes
    assert "unfinished or superseded files that the next start removes: 1" in notes


def test_what_is_no_json_is_found_and_set_aside(before):
    disk = store()
    db = opened(disk)
    db.insert_json([b"{wrong}", b'{"t":1}'], vouched=True)
    db.flush()
    db.log("readings").roll()
    disk.kill()
    (damage,) = verified(disk).damages
    assert [(lost.count, lost.first == lost.last) for lost in damage.lost] == [(1, True)]
    repaired = mended(disk)
    assert repaired.entered == 1
    assert len(repaired.kept) == 1
    assert verified(disk).sound
    assert len(present(disk)) == len(before) + 1


# -- small tables


def test_damaged_small_tables_are_told_mended_and_kept(sound, before):
    disk = copied(sound)
    (journal,) = (name for name in files(disk, ".state") if "/j." in name)
    content = disk.files[journal].cache
    content[content.find(b'"device_state"') + 3] ^= 1
    damaged = bytes(content)
    verdict = verified(disk)
    assert not verdict.sound
    assert verdict.damages == []
    (problem,) = verdict.state
    assert "has 1 of" in problem
    assert "sent again" in problem
    repaired = mended(disk)
    (kept,) = repaired.kept
    assert bytes(disk.files[f"{ROOT}/.quarantine/{kept}"].cache) == damaged
    assert verified(disk).sound
    assert set(present(disk)) - set(before) <= {50}


def test_a_damaged_second_copy_is_told_and_mended(sound):
    disk = copied(sound)
    (twin,) = (name for name in files(disk, ".state") if "/identity." in name)
    disk.files[twin].cache[5] ^= 1
    verdict = verified(disk)
    assert "second copy" in verdict.state[0]
    assert mended(disk).kept == [f"1.state.{twin.rsplit('/', 1)[1]}"]
    assert verified(disk).sound


def test_a_lost_identity_must_be_given_back_by_somebody(sound):
    disk = copied(sound)
    for name in files(disk, ".state"):
        del disk.files[name]
    verdict = verified(disk)
    assert "the identity is lost" in verdict.state[0]
    with pytest.raises(IdentityLost):
        mended(disk)
    mended(disk, device_id="pi", machine_id="m")
    assert verified(disk).sound
    assert [epoch.device_id for epoch in inspected(disk).epochs] == ["pi"]


def test_the_identity_stays_that_of_the_device(sound):
    disk = copied(sound)
    disk.files[sealed(disk)[0]].cache[200] ^= 1
    mended(disk, device_id="another", machine_id="elsewhere")
    epochs = inspected(disk).epochs
    assert epochs == inspected(sound).epochs
    assert len(epochs) == 1


# -- repairing


def test_every_damaged_file_is_kept_however_many(sound):
    disk = copied(sound)
    db = opened(disk)
    for at in range(400):
        db.insert_json([b'{"n":%d,"pad":"%s"}' % (at, b"x" * 300)])
        db.flush()
    db.close()
    for name in sealed(disk):
        disk.files[name].cache[200] ^= 1
    damaged = len(sealed(disk))
    assert damaged > 20
    assert len(mended(disk).kept) == damaged
    assert verified(disk).sound


def test_a_power_cut_at_any_step_of_a_repair_loses_nothing_more(sound):
    damaged = copied(sound)
    for name in sealed(damaged)[1:4]:
        damaged.files[name].cache[300] ^= 1
    (journal,) = (name for name in files(damaged, ".state") if "/j." in name)
    damaged.files[journal].cache[150] ^= 1
    whole = copied(damaged)
    mended(whole)
    expected, operations = present(whole), whole.operations
    assert operations > 30
    for step in range(1, operations + 1):
        disk = copied(damaged)
        disk.cut_at = step
        with pytest.raises(PowerCut):
            mended(disk)
        disk.power_cut()
        mended(disk)
        assert verified(disk).sound
        assert present(disk) == expected, step


def test_a_disk_that_refuses_is_heard_and_the_next_repair_goes_on(sound):
    disk = copied(sound)
    disk.files[sealed(disk)[1]].cache[300] ^= 1
    disk.fail_when = lambda what: 28 if what == "create" else None
    with pytest.raises((OSError, RuntimeError)):
        mended(disk)
    disk.fail_when = lambda _: None
    disk.kill()
    assert not verified(disk).sound
    mended(disk)
    assert verified(disk).sound


def test_an_open_buffer_is_not_repaired(tmp_path):
    from buffer import BufferDB

    with BufferDB(tmp_path) as db:
        db.insert({"n": 1})
        db.flush()
        with pytest.raises(BufferLocked, match="process"):
            repair(str(tmp_path))
        assert verify(Inspection(tmp_path)).sound
    assert repair(str(tmp_path)).found.sound


def test_where_there_is_no_buffer(tmp_path):
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "nowhere", tmp_path / "file", tmp_path):
        with pytest.raises(NoBuffer, match="there is no buffer in"):
            Inspection(wrong)
        with pytest.raises(NoBuffer):
            repair(str(wrong))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("which", ["a sealed one", "the last one", "all"])
@pytest.mark.parametrize("closed", [True, False])
def test_files_that_are_gone_are_told_as_the_next_start_will(which, closed):
    disk = store(closed=closed)
    assert verified(disk).missing == []
    names = [*files(disk)[1:], *files(disk)[:1]] if not closed else files(disk)  # the active one sorts first
    gone = {"a sealed one": sealed(disk)[1:2], "the last one": names[-1:], "all": names}[which]
    for name in gone:
        disk.unlink(name)
    verdict = verified(disk)
    told = sum(lost.undelivered for lost in verdict.missing)
    before = sum(
        entry["count"] for _, entry in Inspection(ROOT, fs=disk, in_use=False).journal.items("ledger")
    )
    db = opened(disk)
    db.flush()
    entered = sum(entry["count"] for _, entry in db.ledger.items()) - before
    db.close()
    if any(lost.at_most for lost in verdict.missing):
        assert told >= entered > RECORDS  # one that was deleted may have been there, too
    else:
        assert told == entered
    assert verdict.sound is (not told)
    assert verified(disk).missing == []


def test_a_file_that_is_gone_is_told_where_only_an_empty_one_is_left():
    disk = store(closed=True)
    opened(disk).close()
    for name in sealed(disk):
        disk.unlink(name)
    verdict = verified(disk)
    db = opened(disk)
    entered = [entry["count"] for _, entry in db.ledger.items() if entry["why"] == "file missing"]
    assert entered
    assert sum(lost.undelivered for lost in verdict.missing) == sum(entered)


def test_what_is_told_of_a_file_that_was_cut_off_is_told_once():
    disk = store(closed=True)
    db = opened(disk)
    for at in range(30):
        db.insert_json([b'{"n":%d,"pad":"%s"}' % (at, b"x" * 200)])
        db.flush()
    db._wear._write(1000, db.log("readings").reached, is_open=True)  # as after each hour
    disk.kill()
    (active,) = (name for name in files(disk) if "/a." in name)
    del disk.files[active].cache[400:]
    verdict = verified(disk)
    told = [(lost.first, lost.last) for lost in [*losses(verdict), *verdict.missing]]
    assert told
    assert all(a[1] < b[0] for a, b in zip(sorted(told), sorted(told)[1:], strict=False))
