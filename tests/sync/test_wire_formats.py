"""Line protocol and ThingsBoard telemetry: what was measured is what is read, and no two readings become one."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from agent.sync import line_protocol
from agent.sync.formats import create_format
from agent.sync.packing import Packer, parcels
from agent.sync.senml import NotEncodable
from agent.sync.thingsboard import ThingsBoardFormat
from tests.sync.line_protocol_reader import points
from tests.sync.memory_buffer import MemoryRecord, reading

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(
    lambda name: not set(name) & set("\\\u29f5\u2424\u240d") and not name.endswith("_")
)
values = st.one_of(
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
).filter(lambda value: not isinstance(value, str) or value.isprintable())


@st.composite
def records(draw: st.DrawFn) -> list[MemoryRecord]:
    seqs = draw(st.lists(st.integers(1, 10**6), min_size=1, max_size=12, unique=True))
    times = st.sampled_from([1790000000.0, 1790000000.0004, 1790000000.0009, 1790000000.25, 1790000001.0])
    return [
        MemoryRecord(
            seq,
            {
                "source": draw(st.sampled_from(["soil", "hall 2", "a,b=c"])),
                "t": draw(times),
                "values": draw(st.dictionaries(names, values, min_size=1, max_size=3)),
                "tags": draw(st.dictionaries(names, names, max_size=2)),
            },
        )
        for seq in sorted(seqs)
    ]


def renamed(name: str) -> str:
    return f"{name}_" if name in {"time", "_time", "_field", "_measurement", "_value"} else name


@settings(max_examples=60)
@given(records())
def test_lines_say_what_was_measured(given_records):
    found = points(line_protocol.encode("greenhouse-3", "s", given_records))
    assert len(found) == len(given_records)
    for (measurement, tags, fields, timestamp), record in zip(found, given_records, strict=True):
        document = record.document
        assert measurement == "readings"
        own = {
            f"tag_{n}" if n in {"device", "source"} else renamed(n): v for n, v in document["tags"].items()
        }
        assert tags == {**own, "device": "greenhouse-3", "source": document["source"]}
        assert fields == {renamed(name): value for name, value in document["values"].items()}
        assert timestamp == round(document["t"] * 1e6) * 1000 + record.seq % 1000


@settings(max_examples=60)
@given(records())
def test_no_two_readings_are_one_point(given_records):
    found = points(line_protocol.encode("d", "s", given_records))
    by_point: dict[Any, int] = {}
    for (_, tags, _, timestamp), record in zip(found, given_records, strict=True):
        other = by_point.setdefault((tuple(sorted(tags.items())), timestamp), record.seq)
        assert other == record.seq or (other - record.seq) % 1000 == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('say "hi"\\', 'readings,device=d,source=s x="say \\"hi\\"\\\\" 1000000007'),
        (True, "readings,device=d,source=s x=t 1000000007"),
        ("two\nlines", 'readings,device=d,source=s x="two\nlines" 1000000007'),
        (3, "readings,device=d,source=s x=3.0 1000000007"),
    ],
)
def test_lines_to_the_letter(text, line):
    document = {"source": "s", "t": 1.0, "values": {"x": text}}
    assert line_protocol.encode("d", "store", [MemoryRecord(7, document)]).decode() == line


def test_what_lines_cannot_escape_is_replaced():
    document = {"source": "a\\b\nc", "t": 1.0, "values": {"time": 1.0}, "tags": {"device": "x", "empty": ""}}
    ((_, tags, fields, _),) = points(line_protocol.encode("d", "s", [MemoryRecord(1, document)]))
    assert tags == {"device": "d", "source": "a\u29f5b\u2424c", "tag_device": "x"}
    assert fields == {"time_": 1.0}


def test_no_two_names_of_a_reading_become_one():
    document = {
        "source": "time",
        "t": 1.0,
        "values": {"time": 1.0, "time_": 2.0, "a\\": 3.0, "a\u29f5": 4.0},
        "tags": {"device": "time", "tag_device": "x"},
    }
    ((_, tags, fields, _),) = points(line_protocol.encode("time", "s", [MemoryRecord(1, document)]))
    assert tags == {"device": "time", "source": "time", "tag_device": "time", "tag_device_": "x"}
    assert fields == {"time_": 1.0, "time__": 2.0, "a\u29f5": 3.0, "a\u29f5_": 4.0}


@pytest.mark.parametrize("value", [2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1])
def test_an_integer_that_no_float_holds_stands_beside_it_exactly(value):
    document = {"source": "s", "t": 1.0, "values": {"count": value}}
    ((_, _, fields, _),) = points(line_protocol.encode("d", "s", [MemoryRecord(1, document)]))
    assert fields.pop("count") == float(value)
    assert fields == ({} if float(value) == value else {"count_exact": str(value)})


@pytest.mark.parametrize("name", ["influx", "thingsboard"])
@pytest.mark.parametrize("t", [1e305, -1e305, 1e17])
def test_a_time_that_is_none_concerns_its_own_reading_only(name, t):
    with pytest.raises(NotEncodable, match="record 7"):
        create_format(name).encode("d", "s", [MemoryRecord(7, {"source": "s", "t": t, "values": {"x": 1}})])


def as_thingsboard_reads(number: str) -> Any:
    """What ThingsBoard makes of a number: of one with more than 16 decimals, or no whole one of 64 bits, a text."""
    exact = Decimal(number)
    if exact == exact.to_integral_value() and not ("." in number and "e" not in number.lower()):
        return int(exact) if -(2**63) <= exact < 2**63 else f"{exact:f}"
    return float(exact) if -int(exact.as_tuple().exponent) <= 16 else f"{exact:f}"


@settings(max_examples=300)
@given(
    st.one_of(
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.floats(-1000, 1000),
        st.floats(1e-4, 1e-3),
    )
)
def test_thingsboard_reads_a_number_and_the_same(value):
    document = {"source": "s", "t": 1.0, "values": {"x": value}}
    payload = ThingsBoardFormat()("d", "s", [MemoryRecord(1, document)]).decode()
    found = as_thingsboard_reads(payload.partition('"s.x":')[2].rstrip("}]"))
    if isinstance(found, str):
        assert 0 < abs(value) < 1e-5, "only what is too small to be told in 16 decimals is a text"
        found = float(found)
    assert found == pytest.approx(value, rel=1e-9, abs=0)
    if isinstance(value, int) or abs(value) >= 1 or value == 0:
        assert found == value
    assert type(found) is type(value)


@settings(max_examples=60)
@given(records())
def test_telemetry_says_what_was_measured_and_merges_nothing(given_records):
    found = [(each["ts"], each["values"]) for each in from_json(ThingsBoardFormat()("d", "s", given_records))]
    assert len(found) == len(given_records)
    places = set()
    for (ts, said), record in zip(found, given_records, strict=True):
        source = record.document["source"]
        assert said == {
            f"{source}.{name}": pytest.approx(value, rel=1e-9) if type(value) is float else value
            for name, value in record.document["values"].items()
        }
        assert 0 <= ts - round(record.document["t"] * 1000) < len(given_records)
        assert (source, ts) not in places
        places.add((source, ts))


@settings(max_examples=60)
@given(records(), st.integers(1, 12))
def test_telemetry_that_is_cut_anew_is_the_same(given_records, at):
    encode = ThingsBoardFormat()
    whole = from_json(encode("d", "s", given_records))
    parts = [part for part in (given_records[:at], given_records[at:]) if part]
    assert [each for part in parts for each in from_json(encode("d", "s", part))] == whole


def test_packs_that_follow_each_other_share_no_millisecond():
    encode = ThingsBoardFormat()
    first = encode("d", "s", [MemoryRecord(1, {"source": "s", "t": 1.0001, "values": {"x": 1}})])
    second = encode("d", "s", [MemoryRecord(2, {"source": "s", "t": 1.0002, "values": {"x": 2}})])
    assert [each["ts"] for each in from_json(first) + from_json(second)] == [1000, 1001]


def test_keys_that_are_the_same_of_two_sources_share_no_millisecond():
    documents = [
        {"source": "a", "t": 1.0, "values": {"b.c": 1}},
        {"source": "a.b", "t": 1.0, "values": {"c": 2}},
    ]
    found = ThingsBoardFormat()("d", "s", [MemoryRecord(n, each) for n, each in enumerate(documents)])
    assert from_json(found) == [{"ts": 1000, "values": {"a.b.c": 1}}, {"ts": 1001, "values": {"a.b.c": 2}}]


@pytest.mark.parametrize("name", ["senml", "influx", "thingsboard"])
@pytest.mark.parametrize(
    "document",
    [
        {"hello": "world"},
        {"source": "s", "t": 1.0, "values": {}},
        {"source": "s", "t": 1.0, "values": {"x": None}},
        {"source": "s", "t": None, "values": {"x": 1}},
        {"source": "s", "t": 1.0, "values": {"x": "\ud800"}},
        {"source": "s", "t": 1.0, "values": {"\ud800": 1}},
        {"source": "\ud800", "t": 1.0, "values": {"x": 1}},
    ],
)
def test_what_is_no_reading_is_named(name, document):
    with pytest.raises(NotEncodable):
        create_format(name).encode("d", "s", [MemoryRecord(7, document)])


@pytest.mark.parametrize("name", ["influx", "thingsboard"])
@pytest.mark.parametrize(("t", "value"), [(1.0, float("nan")), (1.0, -float("inf")), (float("nan"), 1)])
def test_what_is_no_finite_number_takes_no_other_with_it(name, t, value):
    with pytest.raises(NotEncodable, match="record 7"):
        create_format(name).encode(
            "d", "s", [MemoryRecord(7, {"source": "s", "t": t, "values": {"x": value}})]
        )


@dataclass
class _Lot:
    records: list[MemoryRecord] = field(
        default_factory=lambda: [MemoryRecord(n, reading("soil", n)) for n in range(1, 40)]
    )


@given(
    points_max=st.integers(2, 100),
    size=st.integers(700, 5000),
    name=st.sampled_from(["senml", "influx", "thingsboard"]),
)
def test_packs_have_no_more_values_and_bytes_than_allowed(points_max, size, name):
    made = create_format(name)
    lot = _Lot().records
    packer = Packer(size, made.encode, made.content_type, gzip=False, points_max=points_max)
    found = parcels(packer, "d", "s" * 8, lot)
    assert [record.seq for parcel in found for record in parcel.records] == [record.seq for record in lot]
    for parcel in found:
        assert parcel.pack is not None
        assert parcel.pack.points == 2 * len(parcel.records) <= points_max
        assert len(parcel.pack.payload) <= size


def test_one_reading_with_too_many_values_is_named():
    (parcel,) = parcels(Packer(10_000, points_max=1), "d", "s", [MemoryRecord(1, reading("soil", 1))])
    assert parcel.pack is None
    assert "2 values, the limit is 1" in parcel.fault
