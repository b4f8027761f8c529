"""The JSON codec: what is a reading, and what every other byte string gives."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from collectors.models import INT_MAX, INT_MIN, Reading
from drivers.codecs import CODECS, Decoded, codec

decode = codec("json")

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(
    st.booleans(),
    st.integers(INT_MIN, INT_MAX),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
)
PLAIN_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="."), min_size=1)
OBJECTS = st.dictionaries(PLAIN_NAMES, SCALARS, min_size=1)
ANY_JSON = st.recursive(
    st.one_of(
        st.none(), SCALARS, st.integers(-(10**30), 10**30), st.floats()
    ),  # json.dumps writes NaN and Infinity
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def assert_storable(decoded: list[Decoded]) -> None:
    assert decoded
    for one in decoded:
        reading = Reading(source="s", t=0.0, values=one.values)
        again = Reading.from_document(from_json(to_json(reading.to_document())))
        assert again.values == one.values


def decodes_or_explains(raw: bytes) -> None:
    try:
        decoded = decode(raw)
    except ValueError as error:
        message = str(error)
        assert message
        assert len(message) < 800
        assert "\n" not in message
        if len(raw) <= 48:
            assert repr(raw) in message  # what
        else:
            assert f"({len(raw)} bytes)" in message
    else:
        assert_storable(decoded)


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b'{"a":1e999}')
@example(b"9" * 5000)
@example(b"[" * 5000)
@example(b'{"a":' * 5000)
@example(b'{"a":"\\ud800"}')
@example(b'{"' + b"a" * 5000 + b'": []}')
def test_garbage_gives_value_error_and_nothing_else(raw):
    decodes_or_explains(raw)


@given(
    st.lists(
        st.sampled_from([b'{"a"', b":", b",", b"}", b"[", b"]", b"1", b"-", b'"', b"e9", b"null", b"NaN"])
    )
)
def test_almost_json_gives_readings_or_value_error(pieces):
    decodes_or_explains(b"".join(pieces))


@given(ANY_JSON)
def test_any_json_gives_readings_or_value_error(document):
    decodes_or_explains(json.dumps(document).encode())


@given(OBJECTS)
def test_an_object_of_scalars_is_a_reading(values):
    (decoded,) = decode(json.dumps(values).encode())
    assert decoded.values == values
    assert [type(v) for v in decoded.values.values()] == [type(v) for v in values.values()]
    assert decoded.t is None
    assert not decoded.units


@given(st.lists(OBJECTS, min_size=1, max_size=5))
def test_an_array_of_objects_is_a_reading_each(documents):
    assert [one.values for one in decode(json.dumps(documents).encode())] == documents


@given(OBJECTS, st.data())
def test_an_object_without_its_beginning_is_never_a_reading(values, data):
    # A port opened in the middle of a line must not give a wrong value.
    raw = json.dumps(values).encode()
    cut = data.draw(st.integers(1, len(raw)))
    with pytest.raises(ValueError, match=r"."):
        decode(raw[cut:])


def test_nested_objects_flatten_to_dotted_names():
    (decoded,) = decode(b'{"air": {"t": 21.5, "rh": {"raw": 40}}, "ok": true, "state": "on", "n": -3}')
    assert decoded.values == {"air.t": 21.5, "air.rh.raw": 40, "ok": True, "state": "on", "n": -3}


def test_null_is_a_metric_without_a_value_now():
    assert decode(b'{"t": 21.5, "rh": null}') == [Decoded({"t": 21.5})]


def test_a_carriage_return_does_not_matter():
    assert decode(b'{"t": 1}\r') == [Decoded({"t": 1})]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not JSON: EOF while parsing a value at line 1 column 0: b''"),
        (b'{"t":', "not JSON: EOF while parsing a value at line 1 column 5"),
        (b'{"t": NaN}', "not JSON: expected value at line 1 column 7"),
        (b'{"t": 1} x', "not JSON: trailing characters at line 1 column 10"),
        (b'{"t": "\xff"}', "not JSON: invalid unicode code point at line 1 column 8"),
        (b"21.5", 'a number is no reading: it must be an object such as {"t": 21.5}'),
        (b"null", "null is no reading"),
        (b"[]", "an empty array"),
        (b"{}", "the object has no values"),
        (b'{"a": {}, "b": null}', "the object has no values"),
        (b'[{"a": 1}, 2]', "[1]: a number is no reading"),
        (b'[{"a": 1}, {"a": {"b": [1]}}]', "[1]: 'a.b': an array is no value"),
        (b'{"a": 1e999}', "'a': the number is too large for a 64-bit float"),
        (b'{"a": 9223372036854775808}', "'a': the integer does not fit 64 bits"),
        (b'{"": 1}', "a name is empty"),
        (b'{"a": {"": 1}}', "a name is empty in 'a'"),
        (b'{"a.b": 1, "a": {"b": 2}}', "two values are named 'a.b'"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "objects are nested more than 16 deep"),
    ],
)
def test_the_message_says_what_and_where(raw, message):
    with pytest.raises(ValueError, match=r".") as caught:
        decode(raw)
    assert message in str(caught.value)


def test_sixteen_levels_are_enough_and_allowed():
    (decoded,) = decode(b'{"a":' * 16 + b"1" + b"}" * 16)
    assert decoded.values == {".".join("a" * 16): 1}


def test_numbers_keep_their_type():
    (decoded,) = decode(b'{"i": 1, "f": 1.0, "b": true, "z": -0.0}')
    assert [type(v) for v in decoded.values.values()] == [int, float, bool, float]
    assert math.copysign(1, decoded.values["z"]) == -1


def test_an_unknown_codec_is_named_together_with_those_there_are():
    with pytest.raises(ValueError, match=r"no codec .cbor.; there are .*json, .*plain"):
        codec("cbor")
    assert {"json", "plain", "senml"} <= set(CODECS.own)


def test_a_message_holds_so_many_readings_and_no_more():
    assert len(decode(b"[" + b",".join([b'{"a":1}'] * 10_000) + b"]")) == 10_000
    with pytest.raises(ValueError, match="an array of 10001 readings: one message may hold 10000 at most"):
        decode(b"[" + b",".join([b'{"a":1}'] * 10_001) + b"]")


@pytest.mark.parametrize("objects", [1, 3])
def test_a_message_holds_so_many_values_and_no_more(objects: int):
    one = b"{" + b",".join(b'"%d":1' % number for number in range(99_999 // objects)) + b"}"
    rest = b',{"a":1' + b',"b":2}'
    assert len(decode(b"[" + b",".join([one] * objects) + b',{"a":1}]')) == objects + 1
    with pytest.raises(ValueError, match="100001 values: one message may hold 100000 at most"):
        decode(b"[" + b",".join([one] * objects) + rest + b"]")
