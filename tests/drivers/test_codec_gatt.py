"""Values of characteristics: Environmental Sensing, Battery and Heart Rate.

The examples are worked out by hand from the formats that the SIG defines (size, sign, exponent and unit of each characteristic; the
flags of the Heart Rate Measurement); none was captured from a device.
"""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collectors.models import Reading
from drivers.codecs import Decoded, codec
from drivers.codecs.bluetooth_uuid import full_uuid
from drivers.codecs.gatt import CHARACTERISTICS, HEART_RATE, VALUE_BYTES_MAX, encode, parse
from tests.contract.strategies import EXAMPLES

decode = codec("gatt")
uuids = st.integers(1, 0xFFFF).map(full_uuid) | st.uuids().map(str)


def one(short: int, value: str) -> list[Decoded]:
    return decode(encode([(full_uuid(short), bytes.fromhex(value))]))


@EXAMPLES
@given(st.lists(st.tuples(uuids, st.binary(max_size=60)), max_size=5))
def test_a_frame_survives_its_bytes(values):
    assert parse(encode(values)) == values


@EXAMPLES
@given(st.binary(max_size=60))
@example(b"\x02\x2a\x6e\x02\x00\x66\x08")
@example(b"\x02\x2a\x6e\x02\x00\x66")
@example(b"\x02\x00\x00\x00\x00")
@example(encode([(full_uuid(0x2A6E), b"x" * (VALUE_BYTES_MAX + 1))]))
def test_any_bytes_are_readings_or_explained(frame):
    try:
        decoded = decode(frame)
    except ValueError as error:
        assert str(error)  # noqa: PT017 (both outcomes are right)
        return
    for reading in decoded:
        assert Reading(source="s", t=0.0, values=reading.values, units=reading.units).values == reading.values


@EXAMPLES
@given(st.sampled_from(sorted(CHARACTERISTICS.values())), st.binary(max_size=24))
def test_any_value_of_a_known_characteristic_is_a_reading_or_explained(uuid, value):
    test_any_bytes_are_readings_or_explained.hypothesis.inner_test(encode([(uuid, value)]))


@EXAMPLES
@given(st.integers(-0x7FFF, 0x7FFF))
def test_a_temperature_is_exact_to_its_hundredths(hundredths):
    (decoded,) = one(0x2A6E, hundredths.to_bytes(2, "little", signed=True).hex())
    assert decoded.values == {"temperature": hundredths / 100}
    assert round(decoded.values["temperature"] * 100) == hundredths


@pytest.mark.parametrize(
    ("short", "value", "metric", "number", "unit"),
    [
        (0x2A6E, "6608", "temperature", 21.5, "Cel"),
        (0x2A6E, "d8f0", "temperature", -38.8, "Cel"),
        (0x2A6F, "bf13", "humidity", 50.55, "%RH"),
        (0x2A6D, "f4760f00", "pressure", 101349.2, "Pa"),
        (0x2A6C, "70ffff", "elevation", -1.44, "m"),
        (0x2A19, "57", "battery", 87, "%EL"),
        (0x2A7B, "f6", "dew_point", -10, "Cel"),
        (0x2A78, "1900", "rainfall", 0.025, "m"),
        (0x2AFB, "102700", "illuminance", 100.0, "lx"),
        (0x2B8C, "1a02", "co2", 538, "ppm"),
    ],
)
def test_every_format(short, value, metric, number, unit):
    assert one(short, value) == [Decoded({metric: number}, units={metric: unit})]


def test_what_is_not_known_now_is_left_out():
    assert one(0x2A6E, "0080") == []
    frame = encode([(full_uuid(0x2A6F), b"\xff\xff"), (full_uuid(0x2A19), b"\x64")])
    assert decode(frame) == [Decoded({"battery": 100}, units={"battery": "%EL"})]


def test_what_was_read_at_one_time_is_one_reading():
    frame = encode(
        [(full_uuid(0x2A6E), b"\x66\x08"), (full_uuid(0x2A6F), b"\xbf\x13"), (full_uuid(0x2A6E), b"\x00\x00")]
    )
    (decoded,) = decode(frame)
    assert decoded.values == {"temperature": 21.5, "humidity": 50.55, "temperature.2": 0.0}


@pytest.mark.parametrize(
    ("value", "values"),
    [
        ("003c", {"heart_rate": 60}),
        ("062c", {"heart_rate": 44, "contact": True}),
        ("044b", {"heart_rate": 75, "contact": False}),
        ("011801", {"heart_rate": 280}),
        ("10510203", {"heart_rate": 81, "rr_interval.1": 770 / 1024}),
        (
            "1651020300040004",
            {
                "heart_rate": 81,
                "contact": True,
                "rr_interval.1": 770 / 1024,
                "rr_interval.2": 1.0,
                "rr_interval.3": 1.0,
            },
        ),
        ("0850e803", {"heart_rate": 80, "energy_expended": 1_000_000}),
        ("19f00001000204", {"heart_rate": 240, "energy_expended": 1000, "rr_interval.1": 1026 / 1024}),
    ],
)
def test_heart_rates(value, values):
    (decoded,) = one(HEART_RATE, value)
    assert decoded.values == values
    assert decoded.units["heart_rate"] == "beat/min"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"", "an empty frame"),
        (encode([(full_uuid(0x2A6E), b"\x01")]), "temperature has 2 bytes, not 1: 01"),
        (encode([(full_uuid(HEART_RATE), b"")]), "its flags do not fit its 0 bytes"),
        (encode([(full_uuid(HEART_RATE), b"\x00\x3c\x00\x00")]), "its flags do not fit its 4 bytes"),
        (encode([(full_uuid(HEART_RATE), b"\x10\x3c\x00")]), "its flags do not fit its 3 bytes"),
        (
            encode([(full_uuid(0x2A00), b"hall")]),
            "the characteristic 0x2A00 is not among those that are known",
        ),
        (b"\x03\x00", "no UUID and length of a value at byte 0"),
        (b"\x02\x2a\x6e\x05\x00\x66", "the value at byte 5 should have 5 bytes and has 1"),
    ],
)
def test_what_is_no_value_is_explained(frame, message):
    with pytest.raises(ValueError, match=message):
        decode(frame)
