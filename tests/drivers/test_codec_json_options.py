"""What the options of the JSON codec pick from documents that say more."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.codecs import CODECS, Decoded
from drivers.codecs.json_paths import MISSING, STEPS_MAX, find, parse_path

KEYS = st.one_of(
    st.sampled_from(["ENERGY", "Power", "t", "a-b", "0", "x:y"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
)
STEPS = st.one_of(KEYS, st.integers(0, 3))
PATHS = st.lists(STEPS, min_size=1, max_size=STEPS_MAX).map(tuple)


def decode(raw, **options):
    return CODECS.choose({"type": "json", **options}).codec()(raw)


# Paths


def written(path):
    """A path as somebody writes it: keys that need no quotes without them."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[\w:@/-]+", step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step, ensure_ascii=False)}]"
    return text


@given(PATHS)
def test_every_path_can_be_written(path):
    assert parse_path(written(path)) == path


@given(PATHS, st.integers())
def test_what_was_put_at_a_path_is_found_there(path, value):
    document = value
    for step in reversed(path):
        document = {step: document} if isinstance(step, str) else [*[None] * step, document]
    assert find(document, path) == value
    assert find(document, (*path, "deeper")) is MISSING
    assert find(document, (*path[:-1], "another" if path[-1] != "another" else "other")) is MISSING


@given(st.recursive(st.integers(), lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)), PATHS)
def test_a_path_into_any_document_finds_what_walking_finds(document, path):
    walked = document
    for step in path:
        if isinstance(walked, dict) != isinstance(step, str):
            walked = MISSING
            break
        try:
            walked = walked[step]
        except (KeyError, IndexError, TypeError):
            walked = MISSING
            break
    assert find(document, path) is walked


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", ("a",)),
        ("ENERGY.Power", ("ENERGY", "Power")),
        ("sensors[0].t", ("sensors", 0, "t")),
        ("[2].t", (2, "t")),
        ('a["b.c"].d', ("a", "b.c", "d")),
        ('["\\u00e4\\""]', ('\u00e4"',)),
        ("a.0", ("a", "0")),
        ("gr\u00f6\u00dfe", ("gr\u00f6\u00dfe",)),
    ],
)
def test_paths_as_people_write_them(text, path):
    assert parse_path(text) == path


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a[", "a[-1]", "a[x]", "a b", "a.[0]", 'a["b]', "$.a b", "a[0]b"]
)
def test_what_is_no_path_is_refused(text):
    with pytest.raises(ValueError, match="is no path into JSON"):
        parse_path(text)


# Picking


TASMOTA = b"""{"Time":"2023-03-26T12:00:00","ENERGY":{"Total":0.7,"Power":[12,0],"Factor":null},"Wifi":{"SSId":"x","RSSI":70}}"""


def test_values_are_picked_by_their_paths():
    (one,) = decode(
        TASMOTA, values={"power": "ENERGY.Power[0]", "total": "ENERGY.Total"}, units={"power": "W"}
    )
    assert one == Decoded({"power": 12, "total": 0.7}, units={"power": "W"})


def test_what_is_null_or_not_there_is_left_out():
    (one,) = decode(TASMOTA, values={"factor": "ENERGY.Factor", "none": "X.Y", "total": "ENERGY.Total"})
    assert one.values == {"total": 0.7}


def test_a_message_with_nothing_to_pick_is_garbage_or_no_reading():
    with pytest.raises(ValueError, match="none of the values that are picked is there"):
        decode(TASMOTA, values={"x": "X"})
    assert decode(TASMOTA, values={"x": "X"}, missing="skip") == []
    with pytest.raises(ValueError, match="nothing at the root"):
        decode(TASMOTA, root="payload")
    assert decode(TASMOTA, root="payload", missing="skip") == []


def test_what_is_picked_must_be_a_value():
    with pytest.raises(ValueError, match="'power': an array is no value"):
        decode(TASMOTA, values={"power": "ENERGY.Power"})


def test_all_of_it_but_some():
    (one,) = decode(TASMOTA, leave_out=["Time", "Wifi"], lists="number")
    assert one.values == {"ENERGY.Total": 0.7, "ENERGY.Power.0": 12, "ENERGY.Power.1": 0}
    (one,) = decode(TASMOTA, leave_out=["Wifi.SSId"], lists="leave_out")
    assert one.values == {"Time": "2023-03-26T12:00:00", "ENERGY.Total": 0.7, "Wifi.RSSI": 70}
    with pytest.raises(ValueError, match=r"'ENERGY\.Power': an array is no value"):
        decode(TASMOTA)


UPLINK = b"""{"id":"n7","t":1790000000,"up":{"list":[{"c":1.5},{"c":2.5,"t":1790000060,"ok":true}]}}"""


def test_readings_below_a_root_with_tags_and_times():
    found = decode(UPLINK, root="up.list", values={"c": "c"}, time="t", tags={"device": "id", "fine": "ok"})
    assert found == [
        Decoded({"c": 1.5}, t=1790000000.0, tags={"device": "n7"}),
        Decoded({"c": 2.5}, t=1790000060.0, tags={"device": "n7", "fine": "true"}),
    ]


def test_a_root_that_is_one_object():
    (one,) = decode(UPLINK, root="up.list[1]", leave_out=["t"])
    assert one.values == {"c": 2.5, "ok": True}


@given(st.integers(0, 4_000_000_000_000_000), st.integers(-14 * 60, 14 * 60))
def test_a_moment_is_kept_with_its_zone(us, minutes):
    moment = datetime.fromtimestamp(0, timezone(timedelta(minutes=minutes))) + timedelta(microseconds=us)
    (one,) = decode(json.dumps({"v": 1, "at": moment.isoformat()}).encode(), values={"v": "v"}, time="at")
    assert one.t == moment.timestamp()


def test_a_moment_in_utc_and_numbers_of_three_units():
    when = datetime(2026, 9, 21, 14, 0, tzinfo=UTC).timestamp()
    (one,) = decode(b'{"v":1,"at":"2026-09-21T14:00:00Z"}', values={"v": "v"}, time="at")
    assert one.t == when
    for unit, factor in (("s", 1), ("ms", 1000), ("us", 1_000_000)):
        raw = json.dumps({"v": 1, "at": int(when) * factor}).encode()
        (one,) = decode(raw, values={"v": "v"}, time="at", time_unit=unit)
        assert one.t == pytest.approx(when, abs=1e-3)
    for raw in (b'{"v":1}', b'{"v":1,"at":null}'):
        assert decode(raw, values={"v": "v"}, time="at")[0].t is None


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        ('"2026-09-21T14:00:00"', "says no zone"),
        ('"yesterday"', "is no ISO 8601"),
        ("true", "the time is a truth value"),
        ("[]", "the time is an array"),
    ],
)
def test_a_time_that_is_none_is_told(at, reason):
    with pytest.raises(ValueError, match=reason):
        decode(b'{"v":1,"at":%s}' % at.encode(), values={"v": "v"}, time="at")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"values": {"x": "a..b"}}, "is no path"),
        ({"values": {"x": "a"}, "lists": "number"}, "about taking all"),
        ({"values": {"x": "a"}, "leave_out": ["b"]}, "about taking all"),
        ({"time_unit": "min"}, "'s', 'ms' or 'us'"),
        ({"root": ""}, "is no path"),
    ],
)
def test_options_that_make_no_sense(options, reason):
    with pytest.raises(ValidationError, match=reason):
        decode(b"{}", **options)


def test_a_plain_value_names_the_codec_for_it():
    with pytest.raises(ValueError, match="for plain values choose the codec plain"):
        decode(b"21.5")
