import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from agent.processors.decode import Decode
from collectors import ClockQuality, CollectedData, Lane, Origin, QualityFlag
from drivers.codecs import Decoded, codec
from tests.rigs.codecs import without_options

WHEN = datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def sample(raw_data=b'{"temperature": 21.5}', data_format="json", **metadata):
    return CollectedData(
        source_id="soil",
        timestamp=WHEN,
        data_format=data_format,
        collection_method="serial",
        raw_data=raw_data,
        metadata=metadata,
    )


async def test_frame_becomes_a_reading():
    origin = Origin(client="device", packet=7, payload_hash="ab")
    decode = Decode(without_options, boot=3, clock_quality=lambda: ClockQuality.ESTIMATED)
    data = sample(
        b'{"temperature": 21.5, "wet": true}',
        up_ns=99,
        tags={"topic": "a/b"},
        origin=origin,
        quality={"rssi_dbm": -71.0},
    )
    result = await decode.process(data)
    [reading] = result.processed_data
    assert result.success
    assert result.processing_time > 0
    assert reading.source == "soil"
    assert reading.t == WHEN.timestamp()
    assert reading.values == {"temperature": 21.5, "wet": True}
    assert (reading.boot, reading.up, reading.clock) == (3, 99, ClockQuality.ESTIMATED)
    assert (reading.tags, reading.origin, reading.lane) == ({"topic": "a/b"}, origin, Lane.NORMAL)
    assert (reading.quality, reading.indicators) == ({}, {"rssi_dbm": -71.0})


SENSOR_T = WHEN.timestamp() - 5.0


def timed(t=SENSOR_T):
    """What a codec gives whose frames carry their own time."""
    return Decoded({"temperature": 1.0}, t=t, units={"temperature": "Cel"})


async def decoded_once(t, **options):
    decode = Decode(lambda *_: lambda _raw: [timed(t)], **options)
    [reading] = (await decode.process(sample())).processed_data
    return reading


async def test_time_of_the_sensor_itself_stays():
    reading = await decoded_once(SENSOR_T, clock_quality=lambda: ClockQuality.ESTIMATED)
    assert (reading.t, reading.clock, reading.units) == (
        SENSOR_T,
        ClockQuality.SYNCED,
        {"temperature": "Cel"},
    )
    assert (reading.t_sensor, reading.t_arrived) == (None, None), "our own clock had nothing to say"


async def test_time_of_arrival_is_kept_beside_the_sensors():
    reading = await decoded_once(SENSOR_T)
    assert (reading.t, reading.t_arrived, reading.t_sensor) == (SENSOR_T, WHEN.timestamp(), None)


async def test_a_sensor_whose_clock_is_not_to_be_trusted_gets_the_time_of_arrival():
    reading = await decoded_once(SENSOR_T, own_time={"soil"})
    assert (reading.t, reading.t_arrived, reading.t_sensor) == (WHEN.timestamp(), None, SENSOR_T)


@pytest.mark.parametrize("cannot_be", [5.0, 946_684_799.0, WHEN.timestamp() + 90_000])
async def test_a_time_that_cannot_be_is_never_the_readings(cannot_be):
    reading = await decoded_once(cannot_be)
    assert (reading.t, reading.t_sensor, reading.clock) == (
        WHEN.timestamp(),
        cannot_be,
        ClockQuality.SYNCED,
    )


async def test_time_before_the_arrival_is_of_this_clock():
    found = [Decoded({"a": 1}, offset_s=-2.5), Decoded({"a": 2}, offset_s=-200.0)]
    decode = Decode(lambda *_: lambda _raw: found, clock_quality=lambda: ClockQuality.ESTIMATED)
    near, before_boot = (await decode.process(sample(up_ns=100_000_000_000))).processed_data
    assert (near.t, near.up, near.clock) == (WHEN.timestamp() - 2.5, 97_500_000_000, ClockQuality.ESTIMATED)
    assert (before_boot.t, before_boot.up) == (WHEN.timestamp() - 200, 0)
    unknown, _ = (await decode.process(sample())).processed_data
    assert unknown.up == 0


async def test_what_the_frame_says_of_itself_wins_over_topic_and_source():
    found = [Decoded({"a": 1}, tags={"device": "frame", "own": "x"}), Decoded({"a": 2})]
    decode = Decode(lambda *_: lambda _raw: found, source_tags={"soil": {"device": "source", "bed": "north"}})
    one, other = (await decode.process(sample(tags={"device": "topic"}))).processed_data
    assert one.tags == {"device": "frame", "own": "x", "bed": "north"}
    assert other.tags == {"device": "topic", "bed": "north"}


@pytest.mark.parametrize(
    ("raw", "values", "tags"),
    [
        (b'{"value": 21.5}', {"temperature": 21.5}, {}),
        (b'{"value": 21.5, "battery": 3}', {"temperature": 21.5, "battery": 3}, {}),
        (b'{"battery": 3}', {"battery": 3}, {"metric": "temperature"}),
        (b'{"value": 1, "temperature": 2}', {"value": 1, "temperature": 2}, {"metric": "temperature"}),
    ],
)
async def test_the_source_names_what_the_frame_does_not(raw, values, tags):
    [reading] = (await Decode(without_options).process(sample(raw, metric="temperature"))).processed_data
    assert (reading.values, reading.tags) == (values, tags)


async def test_the_unit_of_an_unnamed_value_goes_with_it():
    decode = Decode(lambda *_: lambda _raw: [Decoded({"value": 1}, units={"value": "Cel"})])
    [reading] = (await decode.process(sample(metric="temperature"))).processed_data
    assert reading.units == {"temperature": "Cel"}


async def test_what_the_broker_retained_is_uncertain_unless_it_says_when_it_was_measured():
    decode = Decode(lambda *_: lambda _raw: [Decoded({"a": 1, "b": 2}), timed()])
    old, dated = (await decode.process(sample(retained=True))).processed_data
    assert {name: quality.flag for name, quality in old.quality.items()} == dict.fromkeys(
        "ab", QualityFlag.UNCERTAIN
    )
    assert "unknown time" in old.quality["a"].reason
    assert dated.quality == {}


async def test_frame_may_hold_several_readings_or_none():
    decode = Decode(lambda *_: lambda raw: [timed()] * len(raw))
    assert len((await decode.process(sample(b"123"))).processed_data) == 3
    empty = await decode.process(sample(b""))
    assert empty.success
    assert empty.processed_data == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (sample(b"{"), "JSON"),
        (sample(b'{"a": NaN}'), "NaN"),
        (sample(data_format="semaphore"), "there is no codec 'semaphore'"),
        (sample(frame_error="no terminator within 4096 bytes"), "not a frame: no terminator"),
    ],
)
async def test_what_cannot_be_decoded_says_why(data, reason):
    result = await Decode(without_options).process(data)
    assert not result.success
    assert reason.lower() in result.error.lower()


async def test_codec_that_gives_nonsense_is_caught():
    result = await Decode(lambda *_: lambda _raw: [timed(float("inf"))]).process(sample())
    assert not result.success
    assert "finite" in result.error


async def test_codec_is_looked_up_once():
    asked = []

    def find(_source_id, name):
        asked.append(name)
        return codec(name)

    decode = Decode(find)
    for _ in range(3):
        assert (await decode.process(sample())).success
    assert asked == ["json"]


async def test_only_samples_are_taken():
    with pytest.raises(ValueError, match="CollectedData"):
        await Decode(without_options).process([1])


values = st.dictionaries(
    st.text(min_size=1, max_size=5).filter(lambda name: "." not in name),
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    min_size=1,
    max_size=5,
)


@given(values)
async def test_what_was_measured_is_what_comes_out(measured):
    result = await Decode(without_options).process(sample(to_json(measured)))
    [reading] = result.processed_data
    assert reading.values == measured


async def test_a_large_message_leaves_the_loop_to_others():
    here = threading.get_ident()
    decoded_on = []

    def slow(_source_id, _name):
        def decode(raw):
            decoded_on.append(threading.get_ident())
            return codec("json")(raw)

        return decode

    decode = Decode(slow)
    await decode.process(sample(b'{"temperature": 21.5}'))
    large = b"[" + b",".join([b'{"temperature": 21.5}'] * 10_000) + b"]"
    result = await decode.process(sample(large))
    assert len(result.processed_data) == 10_000
    assert decoded_on[0] == here != decoded_on[1]
    refused = await decode.process(sample(large[:-1] + b',{"t":1}]'))
    assert (refused.success, refused.error[:29]) == (False, "an array of 10001 readings: o")
