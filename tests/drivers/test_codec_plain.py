"""The codec of plain values: what MQTT sensors say that have a topic for each metric."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.models import INT_MAX, INT_MIN
from drivers.codecs import Decoded, codec

decode = codec("plain")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"21.5", 21.5),
        (b" 21.5\r\n", 21.5),
        (b"21.5\0", 21.5),
        (b"+3", 3),
        (b"-0.5e3", -500.0),
        (b".5", 0.5),
        (b"5.", 5.0),
        (b"007", 7),
        (b"ON", True),
        (b"off", False),
        (b"true", True),
        (b"FALSE", False),
    ],
)
def test_what_is_a_value(raw, value):
    (one,) = decode(raw)
    assert one == Decoded({"value": value})
    assert type(one.values["value"]) is type(value)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"warm", "not a plain number"),
        (b"1,5", "not a plain number"),
        (b"0x10", "not a plain number"),
        (b"1_000", "not a plain number"),
        ("\u0661".encode(), "not a plain number"),
        (b"21.5 C", "not a plain number"),
        (b'{"t": 21.5}', "choose the codec json"),
        (b"nan", "no value now"),
        (b"unavailable", "no value now"),
        (b"9223372036854775808", "64 bits"),
        (b"1e999", "too large"),
        (b"1" * 65, "65 bytes"),
        (b"\xff\xfe", "not a plain number"),
    ],
)
def test_what_is_none_says_why(raw, reason):
    with pytest.raises(ValueError, match=reason):
        decode(raw)


@given(st.integers(INT_MIN, INT_MAX))
def test_every_integer_arrives(number):
    (one,) = decode(str(number).encode())
    assert one.values == {"value": number}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_arrives(number):
    (one,) = decode(repr(number).encode())
    assert math.copysign(1, one.values["value"]) == math.copysign(1, number)
    assert one.values == {"value": number}


@given(st.binary(max_size=80))
def test_whatever_comes_gives_a_value_or_a_value_error(raw):
    try:
        (one,) = decode(raw)
    except ValueError:
        return
    assert type(one.values["value"]) in {int, float, bool}
