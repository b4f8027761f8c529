"""Readings as JSON lines and CSV: all of them, each with its key and its time, in constant memory."""

import csv
import io
import json
import random
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer import BufferDB
from buffer.export import COLUMNS_MAX, Selected, TooManyColumns, time_text, to_csv, to_jsonl
from buffer.inspection import Inspection
from tests.rigs.counting_disk import CountingDisk
from tests.rigs.damaged_store import ACKNOWLEDGED, RECORDS, ROOT, sealed, store
from tests.rigs.faulty_disk import FaultyDisk

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9)
)
names = st.text(st.characters(exclude_characters=".", exclude_categories=["Cs"]), min_size=1, max_size=6)
readings = st.fixed_dictionaries(
    {"source": st.text(max_size=5), "t": st.floats(-6e10, 2e11) | st.integers(0, 2**33)},
    optional={
        "values": st.dictionaries(names, scalars, min_size=1, max_size=3),
        "quality": st.just({"a": ["bad", "out of range"]}),
        "seq": scalars,
        "origin": st.just(["client", 5, "ab"]),
    },
)


def filled(documents, **options):
    disk = FaultyDisk(random.Random(0))
    with BufferDB("/s", fs=disk, threaded=False, segment_bytes=4096, device_id="pi", **options) as db:
        for document in documents:
            db.insert(document)
            db.flush()
    return disk


def inspected(disk, root="/s"):
    return Inspection(root, fs=disk, in_use=False)


def exported(inspection, encode, **selection):
    return b"".join(encode(Selected(inspection, **selection), inspection.identity_of))


def rows_of(data):
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


@settings(max_examples=60, deadline=None)
@given(st.lists(readings, max_size=8))
def test_lines_of_json_give_back_what_was_stored(documents):
    inspection = inspected(filled(documents))
    (epoch,) = inspection.epochs
    parsed = [json.loads(line) for line in exported(inspection, to_jsonl).splitlines()]
    assert [each["document"] for each in parsed] == documents
    assert [each["seq"] for each in parsed] == list(range(1, len(documents) + 1))
    assert {(each["device_id"], each["store_id"]) for each in parsed} <= {("pi", epoch.store_id)}
    for each, document in zip(parsed, documents, strict=True):
        assert datetime.fromisoformat(each["time"]).timestamp() == pytest.approx(document["t"], abs=1e-6)
        assert each["time"].endswith("Z")


@settings(max_examples=60, deadline=None)
@given(st.lists(readings, min_size=1, max_size=8))
def test_rows_of_csv_have_every_field_of_every_record(documents):
    inspection = inspected(filled(documents))
    data = exported(inspection, to_csv)
    rows = rows_of(data)
    assert len(rows) == len(documents)
    for at, (row, document) in enumerate(zip(rows, documents, strict=True), start=1):
        assert (row["device_id"], row["seq"]) == ("pi", str(at))
        assert row["time"] == time_text(document["t"])
        assert row["source"] == document["source"]
        for name, value in document.get("values", {}).items():
            text = row[f"values.{name}"]
            if value is None:
                assert text == ""
            elif isinstance(value, bool):
                assert text == str(value).lower()
            elif isinstance(value, str):
                assert text == value
            else:
                assert type(value)(text) == value
        if document.get("seq") not in {None, ""}:
            assert row["document.seq"] != ""
        assert row.get("quality.a", "") == ('["bad","out of range"]' if "quality" in document else "")
    assert exported(inspection, to_csv) == data


def test_columns_stand_in_an_order_that_depends_on_nothing_else():
    documents = [
        {"source": "a", "t": 1, "values": {"z": 1}, "tags": {"bed": "north"}, "lane": "alarm"},
        {"other": 1, "values": {"a": 2}, "units": {"a": "Cel"}, "up": 5, "boot": 1, "t": 2, "source": "b"},
        {"t": "no time", "values": {"a": {"deep": [1]}}},
    ]
    expected = "device_id,store_id,seq,time,source,values.a,values.z,units.a,tags.bed,lane,boot,up,other,t"
    for order in (documents, documents[::-1]):
        data = exported(inspected(filled(order)), to_csv).decode()
        assert data.splitlines()[0] == expected
    (row,) = [row for row in rows_of(data.encode()) if row["t"]]
    assert (row["time"], row["t"], row["values.a"]) == ("", "no time", '{"deep":[1]}')


def test_odd_texts_are_written_as_they_are():
    odd = 'a,"b"\r\nü\u2028\x00;=1+1'
    disk = filled([{"source": odd, "t": 0}, {"source": "\ud800", "t": 0}])
    first, second = rows_of(exported(inspected(disk), to_csv).replace(b"\x00", b"?"))
    assert first["source"] == odd.replace("\x00", "?")
    assert second["source"] == "\\ud800"
    parsed = [json.loads(line) for line in exported(inspected(disk), to_jsonl).splitlines()]
    assert [each["document"]["source"] for each in parsed] == [odd, "\ud800"]


def test_an_empty_selection_is_a_header_or_nothing():
    inspection = inspected(filled([{"source": "a", "t": 1}]))
    assert exported(inspection, to_csv, source="b") == b"device_id,store_id,seq,time\r\n"
    assert exported(inspection, to_jsonl, source="b") == b""


def test_more_fields_than_a_table_should_have():
    inspection = inspected(filled([{"values": {f"m{n}": 1 for n in range(COLUMNS_MAX)}}]))
    assert exported(inspection, to_csv)
    inspection = inspected(
        filled([{"values": {f"m{n}": 1 for n in range(at * 100, at * 100 + 100)}} for at in range(11)])
    )
    with pytest.raises(TooManyColumns, match="more than 1,000 fields"):
        exported(inspection, to_csv)
    assert len(exported(inspection, to_jsonl).splitlines()) == 11


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1.5, "1970-01-01T00:00:01.500000Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (1e300, None),
        (float("inf"), None),
        (float("nan"), None),
        (10**400, None),
        (True, None),
        ("5", None),
        (None, None),
    ],
)
def test_times(seconds, text):
    assert time_text(seconds) == text


# -- what is exported


@pytest.fixture(scope="module")
def disk():
    return store()


def seqs(disk, **selection):
    inspection = inspected(disk, ROOT)
    return [json.loads(line)["seq"] for line in exported(inspection, to_jsonl, **selection).splitlines()]


def test_what_is_selected(disk):
    everything = [each for each in range(1, RECORDS + 1) if each != 50]
    assert seqs(disk) == everything
    assert seqs(disk, source="s1") == [each for each in everything if each % 4 == 2]
    assert seqs(disk, since_s=600, until_s=1200) == list(range(11, 21))
    assert seqs(disk, undelivered=True) == [each for each in everything if each > ACKNOWLEDGED]
    assert seqs(disk, undelivered=True, source="s0", since_s=60 * 100) == list(range(101, RECORDS + 1, 4))


def test_undelivered_is_what_one_of_the_consumers_has_not():
    disk = FaultyDisk(random.Random(0))
    db = BufferDB(ROOT, fs=disk, threaded=False)
    one, two = db.consumer("one"), db.consumer("two")
    db.insert_json([b'{"n":%d%s}' % (n, b',"lane":"alarm"' if n % 5 == 0 else b"") for n in range(50)])
    db.flush()
    alarms, some = one.take(20, lane="alarm"), two.take(25)
    one.ack(alarms)
    two.ack(some)
    db.maintain()
    db.flush()
    disk.kill()
    assert seqs(disk, undelivered=True) == [each for each in range(1, 51) if each > 25 or (each - 1) % 5]
    inspection = inspected(disk, ROOT)
    assert {each.name: inspection.backlog(each) for each in inspection.consumers} == {"one": 40, "two": 25}


def test_without_any_consumer_nothing_was_delivered():
    assert len(seqs_of(filled([{"n": 1}] * 5))) == 5


def seqs_of(disk):
    inspection = inspected(disk)
    return [json.loads(line)["seq"] for line in exported(inspection, to_jsonl, undelivered=True).splitlines()]


def test_identities_are_those_of_the_time():
    disk = filled([{"n": 1}] * 3)
    with BufferDB("/s", fs=disk, threaded=False, device_id="moved") as db:
        db.insert({"n": 2})
    inspection = inspected(disk)
    parsed = [json.loads(line) for line in exported(inspection, to_jsonl).splitlines()]
    assert [each["device_id"] for each in parsed] == ["pi"] * 3 + ["moved"]
    assert len({each["store_id"] for each in parsed}) == 2
    for name in [name for name in disk.files if "/.state/" in name]:
        del disk.files[name]
    parsed = [json.loads(line) for line in exported(inspected(disk), to_jsonl).splitlines()]
    assert {each["device_id"] for each in parsed} == {None}


def test_what_is_damaged_is_left_out_and_counted():
    damaged = store()
    damaged.files[sealed(damaged)[1]].cache.clear()
    inspection = inspected(damaged, ROOT)
    lines = exported(inspection, to_jsonl).splitlines()
    missing = sum(loss.count for loss in inspection.readings.losses)
    assert len(lines) == RECORDS - 1 - missing
    assert missing == 35, "the one that had been deleted is no loss"
    assert len(exported(inspection, to_csv).splitlines()) == len(lines) + 1
    assert sum(loss.count for loss in inspection.readings.losses) == missing


def test_records_are_read_as_they_are_written(tmp_path):
    disk = CountingDisk()
    with BufferDB(tmp_path, threaded=False, segment_bytes=4096) as db:
        for at in range(50):
            db.insert_json([b'{"source":"s","t":%d,"pad":"%s"}' % (at, b"x" * 200)] * 20)
            db.flush()
    inspection = Inspection(tmp_path, fs=disk)
    everything = len(inspection.readings.segments)
    disk.forget()
    lines = to_jsonl(Selected(inspection), inspection.identity_of)
    for _ in range(100):
        next(lines)
    assert len(disk.segments_read) < everything / 4
    assert len(list(lines)) == 900
    assert len(disk.segments_read) == everything
