"""What somebody put into, or took out of, the buffer's directories."""

import json
import random
import socket

import pytest

from buffer import BufferDB, IdsExhausted, StoreError
from buffer.inspection import Inspection
from buffer.layout import ID_MAX
from buffer.verification import verify
from tests.rigs.faulty_disk import FaultyDisk, File

DOCUMENT = b'{"n":%d,"pad":"' + b"x" * 100 + b'"}'


@pytest.fixture
def disk():
    return FaultyDisk(random.Random(0))


def opened(disk, **options):
    return BufferDB("/s", fs=disk, threaded=False, **options)


def fill(db, n):
    ids = db.insert_json([DOCUMENT % at for at in range(n)])
    db.flush()
    return ids


def names(disk, directory="readings"):
    return sorted(name.rsplit("/", 1)[1] for name in disk.files if name.startswith(f"/s/{directory}/"))


def sealed(disk, n):
    db = opened(disk)
    fill(db, n)
    db.close()
    (name,) = (name for name in names(disk) if f".{n}." in name)
    return name


@pytest.mark.parametrize("content", [b"{}", b"", None])
def test_a_higher_revision_that_is_junk_supersedes_nothing(disk, content):
    good = sealed(disk, 402)
    if content is None:
        content = bytes(disk.files[f"/s/readings/{good}"].cache)
    bad = "s.0000000000000001.1.5.deadbeef.5.json"
    disk.files[f"/s/readings/{bad}"] = File(bytearray(content))
    db = opened(disk)
    assert good in names(disk)
    assert bad not in names(disk)
    assert names(disk, ".quarantine") == [f"1.readings.{bad}"]
    assert any(bad in note for note in db.notes)
    assert len(db) == 402
    db.flush()
    assert db.ledger.dropped == 0
    db.close()
    db = opened(disk)
    assert len(db) == 402
    assert db.notes == []


def test_of_damaged_revisions_the_one_with_the_most_is_used(disk):
    good = sealed(disk, 402)
    disk.files[f"/s/readings/{good}"].cache[-1] ^= 1
    disk.files["/s/readings/s.0000000000000001.1.402.deadbeef.402.json"] = File(bytearray(b"{}"))
    db = opened(disk)
    assert [document.doc_id for document in db] == list(range(1, 403))


def test_a_sound_higher_revision_still_supersedes_the_lower_one(disk):
    old = sealed(disk, 10)
    file = disk.files[f"/s/readings/{old}"]
    db = opened(disk)
    db.update({"n": 0})
    db.close()
    (new,) = (name for name in names(disk) if name.startswith("s.0000000000000001.1."))
    disk.files[f"/s/readings/{old}"] = file
    db = opened(disk)
    assert new in names(disk)
    assert old not in names(disk)
    assert {document["n"] for document in db} == {0}
    assert names(disk, ".quarantine") == []
    assert json.loads(bytes(disk.files[f"/s/readings/{new}"].cache))["readings"]


@pytest.mark.parametrize(
    "bad",
    [
        "a.9999999999999999.json",
        "a.0000000000000000.json",
        "s.9999999999999999.0.1.deadbeef.9999999999999999.json",
        "s.0000000000000403.0.1.deadbeef.9999999999999999.json",
        "s.0000000000000001.1.402.deadbeef.9999999999999999.json",
        "s.0000000000000403.0.5.deadbeef.404.json",
    ],
)
def test_names_with_impossible_ids_are_set_aside(disk, bad):
    sealed(disk, 402)
    disk.files[f"/s/readings/{bad}"] = File(bytearray(b"{}"))
    for opening in range(2):
        db = opened(disk)
        assert any(bad in note for note in db.notes) is (opening == 0)
        (record_id,) = fill(db, 1)
        assert record_id < 10**6
        assert len(db) == 403 + opening
        db.close()
    assert names(disk, ".quarantine") == [f"1.readings.{bad}"]


def test_ids_that_are_used_up_are_an_error_of_the_store(disk):
    db = opened(disk)
    db.insert_json([b"{}"])
    db.log("readings").append_at([(ID_MAX, b"{}")])
    with pytest.raises(IdsExhausted, match="used up"):
        db.insert_json([b"{}"])
    db.flush()
    for end in ("close", "kill", "close"):
        db.close() if end == "close" else disk.kill()
        db = opened(disk)
        assert [document.doc_id for document in db] == [1, ID_MAX]
        with pytest.raises(StoreError, match="used up"):
            db.insert_json([b"{}"])
        db.flush()
        consumer = db.consumer("cloud")
        while (batch := consumer.take(10)) is not None:
            consumer.ack(batch)
        assert consumer.backlog == 0
        db.log("readings").tidy()


def test_a_name_near_the_last_id_leaves_an_error_of_the_store(disk):
    sealed(disk, 5)
    disk.files[f"/s/readings/a.{ID_MAX:016d}.json"] = File(bytearray(b"{}"))
    db = opened(disk)
    with pytest.raises(StoreError):
        db.insert_json([b"{}"])
    assert len(db) == 5


@pytest.mark.parametrize("kill", [True, False])
def test_a_lost_identity_is_told(disk, caplog, kill):
    db = opened(disk)
    assert db.notes == []
    fill(db, 5)
    store_id = db.store_id
    disk.kill() if kill else db.close()
    for name in [name for name in disk.files if name.startswith("/s/.state/")]:
        del disk.files[name]
    db = opened(disk)
    assert db.store_id != store_id
    (note,) = db.notes
    assert db.store_id in note
    assert note in caplog.text
    db.close()
    caplog.clear()
    assert opened(disk).notes == []
    assert caplog.text == ""


def test_damaged_small_tables_are_told(disk, caplog):
    sealed(disk, 5)
    (journal,) = (name for name in disk.files if "/.state/j." in name)
    disk.files[journal].cache[150] ^= 0x41
    db = opened(disk)
    assert ".state" in db.notes[0]
    assert db.notes[0] in caplog.text


def test_what_others_put_beside_the_tables_is_no_table(tmp_path):
    with BufferDB(tmp_path, threaded=False) as db:
        db.insert({"n": 1})
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "agent.sock"))
            (tmp_path / "lost+found").mkdir(mode=0o000)
            (tmp_path / "notes").mkdir()
            (tmp_path / "notes" / "to do.txt").write_text("")
            assert db.tables() == {"readings"}
            assert db.table("notes").all() == []
            assert [path.name for path in (tmp_path / "notes").iterdir()] == ["to do.txt"]
        db.drop_tables()
        assert db.tables() == set()


def two_tables(disk, *, closed):
    """A store whose every file is of another table, or of the small tables."""
    db = opened(disk, device_id="d")
    consumer = db.consumer("cloud")
    fill(db, 5)
    db.insert_json([b'{"letter":1}'] * 7, table="dead_letters")
    db.flush()
    if closed:
        db.close()
    else:
        disk.kill()
    return consumer.name


def path_of(disk, directory, start):
    (path,) = (f"/s/{directory}/{name}" for name in names(disk, directory) if name.startswith(start))
    return path


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize(
    ("place", "whose"),
    [
        ("readings", "dead_letters"),
        ("readings", ".state"),
        (".state", "dead_letters"),
        (".state", "readings"),
    ],
)
def test_a_file_in_the_place_of_one_of_another_kind_is_taken_for_neither(disk, closed, place, whose):
    two_tables(disk, closed=closed)
    starts = {"readings": "s.0000000000000001" if closed else "a.", ".state": "j."}
    starts["dead_letters"] = starts["readings"]
    content = bytes(disk.files[path_of(disk, whose, starts[whose])].cache)
    disk.put(path_of(disk, place, starts[place]), content)
    db = opened(disk, device_id="d")
    consumer = db.consumer("cloud")
    found = []
    while (batch := consumer.take(10)) is not None:
        found += [record.document for record in batch.records]
        consumer.ack(batch)
    assert found == ([] if place == "readings" else [json.loads(DOCUMENT % at) for at in range(5)])
    (new,) = db.insert_json([b'{"new":1}'])
    assert new > 5
    db.flush()
    assert consumer.take(10).records[0].document == {"new": 1}
    assert len(db.table("dead_letters")) == 7
    db.close()
    db = opened(disk, device_id="d")
    assert list(db)[-1] == {"new": 1}
    assert not db.journal.damaged


def test_a_segment_that_was_moved_to_another_table_is_none_of_it(disk):
    two_tables(disk, closed=True)
    path = path_of(disk, "dead_letters", "s.0000000000000001")
    content = bytes(disk.files[path].cache)
    disk.unlink(path_of(disk, "readings", "s.0000000000000001"))
    disk.put(path.replace("dead_letters", "readings"), content)
    (damage,) = verify(Inspection("/s", fs=disk, in_use=False)).damages
    assert (damage.table, damage.intact) == ("readings", 0)
    db = opened(disk, device_id="d")
    assert db.consumer("cloud").take(10) is None
    assert list(db) == []
    assert names(disk, ".quarantine")
    db.flush()
    assert "damaged" in db.ledger.lost()


def sealed_and_active(disk):
    """A store that a killed process left: 200 readings are sealed, 100 are in the file named."""
    db = opened(disk)
    db.consumer("cloud")
    fill(db, 200)
    db.log("readings").roll()
    fill(db, 100)
    disk.kill()
    (active,) = (name for name in names(disk) if name.startswith("a."))
    return active


@pytest.mark.parametrize("base", [295, 298, 300])
def test_a_copy_of_a_file_under_a_later_name_is_no_file_of_that_name(disk, base):
    active = sealed_and_active(disk)
    disk.put(f"/s/readings/a.{base:016d}.json", bytes(disk.files[f"/s/readings/{active}"].cache))
    assert verify(Inspection("/s", fs=disk, in_use=False)).tables
    db = opened(disk)
    consumer, ids = db.consumer("cloud"), []
    while (batch := consumer.take(50)) is not None and len(ids) < 1000:
        ids += [record.seq for record in batch.records]
        consumer.ack(batch)
    assert set(range(1, base)) <= set(ids)
    assert len(ids) == len(set(ids))
    assert [document.doc_id for document in db] == ids
    lost = set(range(1, 301)) - set(ids)
    told = [entry for _, entry in db.ledger.items() if entry["count"]]
    assert all(any(entry["first"] <= each <= entry["last"] for entry in told) for each in lost)


def test_an_earlier_file_in_the_place_of_the_last_one_is_told_as_a_loss(disk):
    active = sealed_and_active(disk)
    (first,) = (name for name in names(disk) if name.startswith("s."))
    disk.put(f"/s/readings/{active}", bytes(disk.files[f"/s/readings/{first}"].cache))
    db = opened(disk)
    assert [document.doc_id for document in db] == [*range(1, 201)]
    told = [entry for _, entry in db.ledger.items() if entry["count"]]
    assert any(entry["first"] <= 201 and entry["last"] >= 300 for entry in told)


def test_a_block_of_an_earlier_file_costs_what_stood_in_its_place(disk):
    db = opened(disk)
    db.consumer("cloud")
    for _ in range(60):
        fill(db, 5)
    db.log("readings").roll()
    for _ in range(60):
        fill(db, 5)
    disk.kill()
    (active,) = (name for name in names(disk) if name.startswith("a."))
    (first,) = (name for name in names(disk) if name.startswith("s."))
    cache = disk.files[f"/s/readings/{active}"].cache
    cache[8192:12288] = disk.files[f"/s/readings/{first}"].cache[8192:12288]
    db = opened(disk)
    lost = set(range(1, 601)) - {document.doc_id for document in db}
    db.flush()
    assert 20 < len(lost) < 60
    assert sum(entry["count"] for _, entry in db.ledger.items()) == len(lost)


def test_a_copy_of_a_table_beside_it_is_nobodys(disk):
    db = opened(disk)
    fill(db, 100)
    db.table("notes").insert({"n": 1})
    db.close()
    copies = {}
    for name in names(disk):
        copies[f"/s/readings.bak/{name}"] = bytes(disk.files[f"/s/readings/{name}"].cache)
    for name, content in copies.items():
        disk.put(name, content)
    inspection = Inspection("/s", fs=disk, in_use=False)
    assert inspection.tables() == ["readings", "notes"]
    db = opened(disk)
    assert db.tables() == {"readings", "notes"}
    db.close()
    assert {name: bytes(disk.files[name].cache) for name in copies} == copies
