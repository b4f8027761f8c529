"""SenML: every reading survives the round trip; what goes out is RFC 8428; what comes in is checked."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from agent.sync import senml
from agent.sync.senml_text import encode_text
from collectors.enums import ClockQuality, Lane, QualityFlag
from collectors.models import Origin, Quality, Reading


@dataclass(frozen=True)
class Record:
    seq: int
    document: dict[str, Any]


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
name = st.one_of(st.sampled_from(["temperature", "a/b", "9:x", "with space", "ä", "_", ""]), text).filter(
    bool
)
value = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    text,
)
qualities = st.builds(Quality, flag=st.sampled_from(QualityFlag), reason=text)
origins = st.builds(
    Origin, client=name, packet=st.integers(1, 65535), payload_hash=st.text("0123456789abcdef", min_size=1)
)
readings = st.builds(
    Reading,
    source=name,
    t=st.one_of(st.floats(-1e9, 4e9), st.sampled_from([0.0, 2.0**28, 1790000000.123456])),
    values=st.dictionaries(name, value, min_size=1, max_size=4),
    units=st.dictionaries(name, text, max_size=3),
    tags=st.dictionaries(text, text, max_size=2),
    quality=st.dictionaries(name, qualities, max_size=2),
    indicators=st.dictionaries(name, st.floats(allow_nan=False, allow_infinity=False), max_size=2),
    clock=st.sampled_from(ClockQuality),
    t_error=st.none() | st.floats(0, 1e9),
    t_sensor=st.none() | st.floats(-1e12, 1e12),
    t_arrived=st.none() | st.floats(-1e12, 1e12),
    boot=st.integers(0, 2**40),
    up=st.integers(0, 2**63 - 1),
    lane=st.sampled_from(Lane),
    origin=st.none() | origins,
)
keys = st.lists(st.integers(1, 2**40), min_size=1, max_size=5, unique=True).map(sorted)


@st.composite
def batches(draw: st.DrawFn) -> list[Record]:
    return [Record(seq, draw(readings).to_document()) for seq in draw(keys)]


def reading(**fields: Any) -> dict[str, Any]:
    return {"source": "soil", "t": 1790000000.5, "values": {"temperature": 21.4}, **fields}


def typed(value: Any) -> Any:
    """A value that compares unequal to one of another type: 1, 1.0 and True are different readings."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    return [typed(item) for item in value] if isinstance(value, list) else (type(value), value)


@given(name | st.just(""), name, batches())
def test_every_reading_survives_the_round_trip(device: str, store: str, batch: list[Record]) -> None:
    received = senml.decode(senml.encode(device, store, batch))
    assert [r.seq for r in received] == [record.seq for record in batch]
    assert {(r.device_id, r.store_id) for r in received} == {(device, store)}
    for got, sent in zip(received, batch, strict=True):
        assert typed(got.document) == typed(from_json(to_json(sent.document)))
        assert Reading.from_document(got.document) == Reading.from_document(sent.document)


@given(name, batches())
def test_what_goes_out_is_legal_senml(device: str, batch: list[Record]) -> None:
    base = ""
    for record in from_json(senml.encode(device, "store", batch)):
        base = record.get("bn", base)
        assert re.fullmatch(r"[A-Za-z0-9][-A-Za-z0-9:./_]*", base + record["n"]), "section 4.5.1"
        assert sum(label in record for label in ("v", "vb", "vs", "vd")) == 1, "section 4.2"
        assert not any(label.endswith("_") for label in record), "section 4.4"
        assert record.get("bt", 0) == 0 or record["bt"] >= 2**28, "section 4.5.3"


def test_a_pack_looks_as_documented() -> None:
    records = [
        Record(
            17,
            reading(
                values={"temperature": 21.4, "moisture": 55}, units={"temperature": "Cel", "moisture": "%RH"}
            ),
        ),
        Record(19, reading(t=1790000001.5, values={"door": True, "state": "ok"}, boot=3)),
    ]
    assert from_json(senml.encode("greenhouse-3", "9f", records)) == [
        {
            "bn": "greenhouse-3:soil/",
            "bt": 1790000000.5,
            "seq": 17,
            "store": "9f",
            "n": "temperature",
            "u": "Cel",
            "v": 21.4,
        },
        {"n": "moisture", "u": "%RH", "v": 55},
        {"bn": "greenhouse-3:soil/", "bt": 1790000001.5, "seq": 19, "boot": 3, "n": "door", "vb": True},
        {"n": "state", "vs": "ok"},
    ]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"source": "soil", "t": 1.0},
        reading(values={}),
        reading(values={"a": None}),
        reading(values={"a": [1]}),
        reading(values={"a": "\ud800"}),
        reading(source=7),
        reading(t="now"),
        reading(unheard_of=1),
    ],
)
def test_a_document_that_is_no_reading_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(senml.NotEncodable):
        senml.encode("device", "store", [Record(1, document)])


GOOD = {"bn": "d:s/", "bt": 1790000000.5, "seq": 1, "store": "x", "n": "a", "v": 1}


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'[{"v":NaN}]', "not JSON"),
        (b"{}", "not a JSON array"),
        (b"[]", "not a JSON array"),
        (b"[1]", "no `store`"),
        (to_json([{**GOOD, "store": ""}]), "no `store`"),
        (to_json([{k: v for k, v in GOOD.items() if k != "seq"}]), "no `seq`"),
        (to_json([{k: v for k, v in GOOD.items() if k != "n"}]), "record 0: no label 'n'"),
        (to_json([{k: v for k, v in GOOD.items() if k != "v"}]), "record 0: no label 'vs'"),
        (to_json([{**GOOD, "seq": True}]), "record 0: `seq`"),
        (to_json([{**GOOD, "seq": -1}]), "record 0: `seq`"),
        (to_json([{**GOOD, "seq": 2**63}]), "record 0: `seq`"),
        (to_json([{**GOOD, "bn": "device"}]), "record 0: `bn`"),
        (to_json([{**GOOD, "bn": 5}]), "record 0"),
        (to_json([{**GOOD, "bt": "1"}]), "record 0: .*time"),
        (to_json([{**GOOD, "device": 5}]), "record 0: .*device"),
        (to_json([{**GOOD, "n": ["a"]}]), "record 0"),
        (to_json([{**GOOD, "v": [1]}]), "reading 1: values"),
        (to_json([{**GOOD, "u": 3}]), "reading 1: units"),
        (to_json([{**GOOD, "lane": "fast"}]), "reading 1: lane"),
        (to_json([GOOD, {"n": "a", "v": 2}]), "record 1: metric 'a' occurs twice"),
        (to_json([GOOD, 7]), "record 1"),
        (to_json([GOOD, {**GOOD, "bn": "e:s/"}]), "record 1: readings of two devices"),
        (b'[{"bn":"d:s/","bt":1' + b"0" * 400 + b',"seq":1,"store":"x","n":"a","v":1}]', "reading 1: t"),
    ],
)
def test_garbage_is_refused_with_its_place(payload: bytes, why: str) -> None:
    with pytest.raises(senml.NotSenML, match=why):
        senml.decode(payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
labels = st.sampled_from(
    [
        "bn",
        "bt",
        "seq",
        "store",
        "n",
        "v",
        "vs",
        "vb",
        "u",
        "at",
        "units",
        "tags",
        "quality",
        "indicators",
        "origin",
        "boot",
        "device",
    ]
)


@given(st.lists(st.dictionaries(labels, json_values, max_size=6).map(lambda d: {**GOOD, **d}), max_size=3))
def test_no_json_makes_it_raise_anything_else(pack: list[dict[str, Any]]) -> None:
    try:
        received = senml.decode(to_json(pack))
    except senml.NotSenML:
        return
    for item in received:
        Reading.from_document(item.document)


def as_stored(records: list[Record]) -> bytes:
    return b"{" + b",".join(b'"%d":%b' % (r.seq, to_json(r.document)) for r in records) + b"}"


plain_names = st.text("abcXYZ019-_./:", min_size=1, max_size=6)
plain_texts = st.text("abc 019{}[],:\u00e4", max_size=6)
plain_readings = st.builds(
    Reading,
    source=st.from_regex(r"[A-Za-z0-9][-A-Za-z0-9._]{0,5}", fullmatch=True),
    t=st.floats(1e9, 4e9),
    values=st.dictionaries(
        plain_names,
        st.one_of(
            st.booleans(),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(allow_nan=False, allow_infinity=False),
            plain_texts,
        ),
        min_size=1,
        max_size=4,
    ),
    units=st.dictionaries(plain_names, plain_texts, max_size=2),
    tags=st.dictionaries(plain_texts, plain_texts, max_size=2),
    clock=st.sampled_from(ClockQuality),
    boot=st.integers(0, 2**40),
    up=st.integers(0, 2**63 - 1),
    lane=st.sampled_from(Lane),
    origin=st.none() | origins,
)


@st.composite
def plain_batches(draw: st.DrawFn) -> list[Record]:
    return [Record(seq, draw(plain_readings).to_document()) for seq in draw(keys)]


@given(st.one_of(batches(), plain_batches()), st.sampled_from(["greenhouse-3", "a b", "x:y"]))
def test_from_the_stored_text_the_pack_is_the_same_or_none(batch: list[Record], device: str) -> None:
    made = encode_text(device, "5a" * 16, as_stored(batch))
    if made is not None:
        assert made[0] == senml.encode(device, "5a" * 16, batch)
        assert made[1] == sum(len(record.document["values"]) for record in batch)


@pytest.mark.parametrize(
    "further",
    [
        {},
        {"units": {"temperature": "Cel"}},
        {"boot": 3, "up": 123456789012, "clock": "corrected", "t_error": 0.5},
        {
            "tags": {"site": "north"},
            "quality": {"temperature": ["bad", "range"]},
            "indicators": {"rssi": -70.0},
        },
        {"lane": "alarm", "origin": ["pi-hall", 7, "4c28"]},
    ],
)
def test_what_is_usual_needs_no_parsing(further: dict[str, Any]) -> None:
    values = {"temperature": -21.5, "n": 3, "big": 1e300, "on": True, "state": "idle"}
    order = ("units", "tags", "quality", "indicators", "clock", "boot", "up", "t_error", "lane", "origin")
    document = {"source": "soil", "t": 1790000000.5, "values": values}
    document |= {key: further[key] for key in order if key in further}
    batch = [Record(seq, document) for seq in (7, 9)]
    made = encode_text("pi", "5a" * 16, as_stored(batch))
    assert made == (senml.encode("pi", "5a" * 16, batch), 10)


@pytest.mark.parametrize(
    "encoded",
    [
        b'{"1":{"hello":"world"}}',
        b'{"1":{"source":"s","t":1790000000,"values":{}}}',
        b'{"1":{"source":"s","t":1790000000,"values":{"x":null}}}',
        b'{"1":{"source":"s","t":1790000000,"values":{"x":1},"other":1}}',
        b'{"1":{"source":"s","t":1790000000,"values":{"x":1},"tags":{"a":"}"},"boot":1}}',
        b'{"1":{"source":"s","t":1790000000,"values":{"x":1}},"2":{"source":"s","t":5,"values":{"x":1}}}',
        b'{"1":{"source":"s","t":1790000000,"values":{"x":1,"x":2},"units":{"x":"m"}}}',
        b"{}",
    ],
)
def test_what_is_unusual_is_left_to_the_parser(encoded: bytes) -> None:
    assert encode_text("pi", "5a" * 16, encoded) is None
