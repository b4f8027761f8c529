"""SenML packs, held against the RFC's examples and against packs that hypothesis folds from resolved records."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sync.senml import encode
from drivers.codecs import Decoded, codec

decode = codec("senml")


def test_a_single_datapoint():
    """RFC 8428, section 5.1.1."""
    raw = b'[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]'
    assert decode(raw) == [
        Decoded({"urn:dev:ow:10e2073a01080063": 23.1}, units={"urn:dev:ow:10e2073a01080063": "Cel"})
    ]


def test_multiple_datapoints_of_one_device():
    """RFC 8428, section 5.1.2: the first has the base time, later ones are relative to it."""
    raw = b"""[
     {"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,
      "bu":"A","bver":5,
      "n":"voltage","u":"V","v":120.1},
     {"n":"current","t":-5,"v":1.2},
     {"n":"current","t":-4,"v":1.3},
     {"n":"current","t":-3,"v":1.4},
     {"n":"current","v":1.7}]"""
    found = decode(raw)
    assert [one.values for one in found] == [
        {"voltage": 120.1, "current": 1.7},
        {"current": 1.2},
        {"current": 1.3},
        {"current": 1.4},
    ]
    assert [one.t for one in found] == [1276020076.001, 1276020071.001, 1276020072.001, 1276020073.001]
    assert found[0].units == {"voltage": "V", "current": "A"}
    assert {one.tags["base_name"] for one in found} == {"urn:dev:ow:10e2073a0108006:"}


def test_different_data_types_without_a_time_are_of_now():
    """RFC 8428, section 5.1.4."""
    raw = b"""[
     {"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1},
     {"n":"label","vs":"Machine Room"},
     {"n":"open","vb":false},
     {"n":"nfc-reader","vd":"aGkgCg"}]"""
    (one,) = decode(raw)
    assert one.values == {"temp": 23.1, "label": "Machine Room", "open": False, "nfc-reader": "aGkgCg"}
    assert (one.t, one.offset_s) == (None, 0.0)


def test_several_base_names_and_records_named_by_them_alone():
    """RFC 8428, section 5.1.5 (its idea): a base name may be all of the name."""
    raw = b"""[
     {"bn":"urn:dev:a","u":"%RH","v":20,"bt":1.320067464e+09},
     {"bn":"urn:dev:b","u":"Cel","v":21},
     {"u":"Cel","v":22,"t":60}]"""
    found = decode(raw)
    assert [(one.tags["base_name"], one.t, one.values) for one in found] == [
        ("urn:dev:a", 1320067464.0, {"value": 20}),
        ("urn:dev:b", 1320067464.0, {"value": 21}),
        ("urn:dev:b", 1320067524.0, {"value": 22}),
    ]


def test_base_values_and_sums_are_added():
    raw = b'[{"bn":"m:","n":"p","bv":100,"bs":1000,"v":1,"s":5},{"n":"p","t":-10,"v":2},{"n":"q"}]'
    first, second = decode(raw)
    assert first.values == {"p": 101, "p.sum": 1005, "q": 100, "q.sum": 1000}
    assert (second.values, second.offset_s) == ({"p": 102, "p.sum": 1000}, -10.0)


def test_times_below_2_to_the_28_are_relative_to_now():
    raw = b'[{"n":"a","v":1,"t":268435455},{"n":"a","v":2,"t":268435456},{"n":"a","v":3,"t":-0.5}]'
    now, absolute, before = decode(raw)
    assert (now.t, now.offset_s) == (None, 268435455.0)
    assert (absolute.t, absolute.offset_s) == (268435456.0, 0.0)
    assert (before.t, before.offset_s) == (None, -0.5)


def test_a_name_that_comes_twice_at_one_time_is_two_readings():
    assert [one.values for one in decode(b'[{"n":"a","v":1},{"n":"b","v":2},{"n":"a","v":3}]')] == [
        {"a": 1, "b": 2},
        {"a": 3},
    ]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON"),
        (b"{}", "array"),
        (b"[]", "array"),
        (b"[1]", "record 0: is no object"),
        (b'[{"v":1}]', "record 0: has no name"),
        (b'[{"n":"a","v":1},{"n":"a"}]', "record 1: has no value"),
        (b'[{"n":"a","v":1,"vs":"x"}]', "more than one value: v, vs"),
        (b'[{"n":"a","v":"1"}]', "`v` must be a number"),
        (b'[{"n":"a","v":true}]', "`v` must be a number"),
        (b'[{"n":"a","vb":1}]', "`vb` must be true or false"),
        (b'[{"n":1,"v":1}]', "`n` must be a text"),
        (b'[{"n":"a","v":1e999}]', "not JSON|too large"),
        (b'[{"n":"a","bv":1e308,"v":1e308}]', "value: the number is too large"),
        (b'[{"n":"a","v":9223372036854775808}]', "64 bits"),
        (b'[{"n":"a","bv":9223372036854775807,"v":1}]', "64 bits"),
        (b'[{"bver":11,"n":"a","v":1}]', "version 11"),
        (b'[{"n":"a","v":1,"secret_":1}]', "must be understood"),
    ],
)
def test_what_is_no_pack_says_why_and_where(raw, reason):
    with pytest.raises(ValueError, match=reason):
        decode(raw)


def test_unknown_labels_are_left_alone():
    assert decode(b'[{"n":"a","v":1,"seq":7,"ut":60}]') == [Decoded({"a": 1})]


def test_a_pack_is_bounded():
    pack = [{"n": "a", "v": 1, "t": number} for number in range(10_001)]
    with pytest.raises(ValueError, match="10001 readings"):
        decode(json.dumps(pack).encode())


@dataclass(frozen=True)
class Record:
    """As a buffer gives it to sync."""

    seq: int
    document: dict


# Folding: what is resolved is said with base fields, in any way that the RFC allows


@dataclass(frozen=True)
class Resolved:
    """A record without base fields."""

    base_name: str
    metric: str
    unit: str
    time: int
    value: int | bool | str


NAMES = st.sampled_from(["a", "b", "temp", "x:y"])
RESOLVED = st.builds(
    Resolved,
    base_name=st.sampled_from(["", "urn:dev:1:", "urn:dev:2/"]),
    metric=NAMES,
    unit=st.sampled_from(["", "Cel", "V"]),
    time=st.one_of(
        st.integers(-1000, 1000),
        st.integers(1_700_000_000, 1_800_000_000),
        st.just(2**28),
        st.just(2**28 - 1),
    ),
    value=st.one_of(st.integers(-(2**40), 2**40), st.booleans(), st.text(max_size=5)),
)


@st.composite
def folded(draw):
    """A pack, and what it says record by record."""
    records = draw(st.lists(RESOLVED, min_size=1, max_size=12))
    pack, bases = [], {"bn": "", "bt": 0, "bu": "", "bv": 0}
    for record in records:
        said = {}
        if bases["bn"] != record.base_name or draw(st.booleans()):
            said["bn"] = record.base_name
        if draw(st.booleans()):
            said["bt"] = draw(st.sampled_from([0, record.time, record.time - 7, 1_750_000_000]))
        if draw(st.booleans()) and record.unit:
            said["bu"] = record.unit
        bases |= said
        if type(record.value) is int and draw(st.booleans()):
            said["bv"] = bases["bv"] = draw(st.integers(-100, 100))
        said["n"] = record.metric
        if bases["bt"] != record.time or draw(st.booleans()):
            said["t"] = record.time - bases["bt"]
        if bases["bu"] != record.unit:
            said["u"] = record.unit
        label = {int: "v", bool: "vb", str: "vs"}[type(record.value)]
        said[label] = record.value - bases["bv"] if label == "v" else record.value
        order = draw(st.permutations(list(said)))
        pack.append({name: said[name] for name in order})
    return records, pack


@given(folded())
def test_a_pack_says_the_same_however_it_is_folded(case):
    records, pack = case
    found = decode(json.dumps(pack).encode())
    unfolded = []
    for one in found:
        time = one.offset_s if one.t is None else one.t
        assert (one.t is None) == (time < 2**28)
        base_name = one.tags.get("base_name", "")
        unfolded += [
            Resolved(base_name, metric, one.units.get(metric, ""), int(time), value)
            for metric, value in one.values.items()
        ]

    def key(record):
        return repr(record)

    assert sorted(unfolded, key=key) == sorted(records, key=key)
    for one in found:
        assert one.values


@given(
    st.lists(
        st.tuples(st.integers(1_600_000_000, 1_900_000_000), st.floats(-1e6, 1e6)), min_size=1, max_size=20
    )
)
def test_our_own_packs_are_senml(measured):
    """What one device sends, another can read."""
    records = [
        Record(
            seq,
            {"source": "soil", "t": t + 0.5, "values": {"temperature": value, "n": seq}, "units": {"n": "1"}},
        )
        for seq, (t, value) in enumerate(measured)
    ]
    found = decode(encode("pi", "store", records))
    assert sorted((one.t, one.values["n"], one.values["temperature"]) for one in found) == sorted(
        (t + 0.5, seq, value) for seq, (t, value) in enumerate(measured)
    )
    assert all(one.units == {"n": "1"} and one.tags == {"base_name": "pi:soil/"} for one in found)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["bn", "bt", "bv", "bs", "bu", "bver", "n", "v", "vb", "vs", "t", "u", "s"]
                    ),
                    inner,
                    max_size=5,
                )
            ),
            max_leaves=12,
        ).map(lambda document: json.dumps(document).encode()),
    )
)
def test_whatever_comes_gives_readings_or_a_value_error(raw):
    try:
        found = decode(raw)
    except ValueError:
        return
    assert found
    assert all(one.values for one in found)
