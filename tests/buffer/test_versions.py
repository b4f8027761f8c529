"""Stores that earlier versions wrote open; what newer ones write is passed over, or refused untouched.

`stores` has one of each version of the format, and of turns in the first; `tests/rigs/kept_store.py`
wrote them.
"""

import json
import shutil
from pathlib import Path

import pytest

from buffer import BufferDB, UnknownFormat
from buffer.filesystem import SystemFileSystem
from buffer.inspection import Inspection
from buffer.journal import Journal
from buffer.verification import verify
from buffer.version import FORMAT, UNMARKED, Version, stated
from tests.rigs.programs import run_command

STORES = Path(__file__).parent / "stores"
NAMES = sorted(each.name for each in STORES.iterdir())
OPTIONS = {"device_id": "greenhouse-3", "machine_id": "m", "threaded": False}


def content_of(name):
    content = json.loads((STORES / name / "content.json").read_text())
    tables = content["tables"]
    content["tables"] = {
        table: {int(record_id): document for record_id, document in records.items()}
        for table, records in tables.items()
    }
    return content


def copied(name, tmp_path):
    place = tmp_path / "store"
    shutil.copytree(STORES / name / "store", place)
    return place


def drained(db, name):
    got = {}
    consumer = db.consumer(name)
    while (batch := consumer.take(7)) is not None:
        assert batch.store_id == db.store_id
        got |= {record.seq: record.document for record in batch.records}
        consumer.ack(batch)
    return got


def holds(db, content):
    """The buffer has what was stored, and owes what was not acknowledged."""
    assert db.store_id == content["store_id"]
    assert {table: {each.doc_id: dict(each) for each in db.table(table)} for table in db.tables()} == content[
        "tables"
    ]
    assert dict(db.small_table("device_state").items()) == content["device_state"]
    assert db.ledger.lost() == content["lost"]
    readings = content["tables"]["readings"]
    for name, had in content["had"].items():
        assert drained(db, name) == {
            record_id: document for record_id, document in readings.items() if record_id not in had
        }


def tree(place):
    return {
        str(each.relative_to(place)): (each.stat().st_mtime_ns, each.read_bytes() if each.is_file() else None)
        for each in [place, *place.rglob("*")]
    }


def test_there_is_a_store_of_each_version():
    kept = {Version(*map(int, name.partition("-")[0].split("."))) for name in NAMES}
    assert kept == {Version(1, minor) for minor in range(FORMAT.minor + 1)}, "see tests/rigs/kept_store.py"
    for name in NAMES:
        mark = stated(each.name for each in (STORES / name / "store").iterdir())
        assert name.partition("-")[0] == str(mark)


@pytest.mark.parametrize("name", NAMES)
def test_a_store_of_an_earlier_version_opens_and_drains(name, tmp_path):
    place, content = copied(name, tmp_path), content_of(name)
    verdict = verify(Inspection(place, in_use=False))
    assert verdict.sound, verdict
    with BufferDB(place, **OPTIONS) as db:
        assert not db.notes
        holds(db, content)
        assert db.insert({"n": 1}) > max(content["tables"]["readings"])
        db.table("readings").remove(doc_ids=[db.log("readings").next_id - 1])
    assert FORMAT.mark in {each.name for each in place.iterdir()}
    with BufferDB(place, **OPTIONS) as db:
        assert not db.notes
        assert not drained(db, "late")
        assert {each.doc_id for each in db} == content["tables"]["readings"].keys()


def made_newer(place):
    """What a newer minor version may add, everywhere it may."""
    (place / FORMAT.mark).unlink(missing_ok=True)
    (place / f".format.{FORMAT.major}.99").touch()
    (place / ".index").mkdir()
    (place / ".index" / "j.0000000001.json").write_bytes(b"\x00\xff")
    (place / ".hint").write_bytes(b"?")
    (place / "readings" / ".hint.json").write_bytes(b"?")
    journal = Journal(SystemFileSystem(), str(place / ".state"))
    rows = [
        (table, key, {**row, "added": {"by": "a newer version"}})
        for table in ("identity", "consumers", "ledger", "tables", "wear")
        for key, row in journal.items(table)
    ]
    assert {table for table, _, _ in rows} >= {"identity", "consumers", "ledger"}
    journal.put([*rows, ("new_table", "key", {"anything": [1, None]})])
    journal.close()


def test_what_a_newer_minor_version_adds_is_passed_over_and_kept(tmp_path):
    place, content = copied(str(FORMAT), tmp_path), content_of(str(FORMAT))
    made_newer(place)
    before = tree(place)
    assert verify(Inspection(place, in_use=False)).sound
    assert tree(place) == before
    with BufferDB(place, **OPTIONS) as db:
        assert not db.notes
        holds(db, content)
        db.renew_state()
    with BufferDB(place, **OPTIONS) as db:
        assert db.small_table("new_table").get("key") == {"anything": [1, None]}
        assert db.ledger.items()[0][1]["added"]["by"] == "a newer version"
        assert all(row["added"] for _, row in db.small_table("identity").items())
    names = {each.name for each in place.iterdir()}
    assert {f".format.{FORMAT.major}.99", ".index", ".hint"} <= names
    assert FORMAT.mark not in names
    assert (place / ".index" / "j.0000000001.json").read_bytes() == b"\x00\xff"


def test_a_store_of_a_newer_major_version_is_refused_and_not_touched(tmp_path):
    place = copied(str(FORMAT), tmp_path)
    (place / f".format.{FORMAT.major + 1}.0").touch()
    (place / ".lock").unlink()
    (place / "readings" / "t.left.json").write_bytes(b"")
    before = tree(place)
    for look in (lambda: BufferDB(place, **OPTIONS), lambda: Inspection(place, in_use=False)):
        with pytest.raises(UnknownFormat, match=rf"newer version .*format {FORMAT.major + 1}\.0.*Install"):
            look()
    done = run_command("buffer", "repair", place)
    assert (done.returncode, done.stdout) == (2, "")
    assert "was written by a newer version" in done.stderr
    assert tree(place) == before


def test_a_new_store_says_which_version_it_is(tmp_path):
    with BufferDB(tmp_path / "new", threaded=False):
        pass
    marks = [each for each in (tmp_path / "new").iterdir() if each.name.startswith(".format")]
    assert [(each.name, each.read_bytes()) for each in marks] == [(FORMAT.mark, b"")]


def test_the_highest_mark_counts_and_other_names_are_none():
    assert stated([]) == stated([".lock", ".format", ".format.2", ".format.2.0.1", "format.2.0"]) == UNMARKED
    assert stated([".format.1.9", ".format.1.10", ".format.1.0"]) == Version(1, 10)
