"""A serial source that asks for what is missing, on a pseudo-terminal."""

import asyncio
import json

import pytest

from collectors.clock import SystemClock
from collectors.interfaces import CatchingUp, Resuming
from collectors.models import Reading
from drivers.codecs import codec
from drivers.serial.config import SerialConfig
from drivers.serial.source import SerialSource
from tests.rigs.pty import PtySensor


@pytest.fixture
async def sensor(tmp_path):
    async with PtySensor(tmp_path) as made:
        yield made


def make(sensor, **resend):
    config = SerialConfig(port=sensor.port, resend={"depth": 4, **resend})
    return SerialSource("soil", config, data_format="json", clock=SystemClock())


def reads(raw):
    return [reading.values for reading in codec("json")(raw)]


async def say(sensor, *numbers):
    for number in numbers:
        await sensor.write(json.dumps({"boot": 1, "seq": number, "ms": 100 * number}).encode() + b"\n")


async def heard(stream, count):
    async with asyncio.timeout(5):
        return [json.loads((await anext(stream)).raw_data)["seq"] for _ in range(count)]


async def asked(sensor, text):
    async with asyncio.timeout(5):
        said = b""
        while not said.endswith(text):
            said += sensor.read_available()
            await asyncio.sleep(0.005)
    return said


async def test_gaps_are_asked_for_repetitions_left_out_and_losses_counted(sensor):
    source = make(sensor)
    assert isinstance(source, Resuming)
    assert source.resume_readings == 8
    source.resume([], reads)
    await source.connect()
    stream = source.collect_stream()
    await say(sensor, 1, 4)
    assert await heard(stream, 2) == [1, 4]
    assert await asked(sensor, b"\n") == b"R1:2-3\n"
    await say(sensor, 2, 2, 3, 5)
    assert await heard(stream, 3) == [2, 3, 5]
    assert (source.troubles, source.remarks) == ({}, [])
    await say(sensor, 12, 13)
    assert await heard(stream, 2) == [12, 13]
    assert source.troubles == {"missing": 4}, "6 to 9; 10 and 11 are in the ring"
    assert source.remarks == ["4 readings were made that never came here, not even when asked for"]
    await stream.aclose()
    await source.disconnect()


async def test_a_run_goes_on_after_what_is_stored_and_over_unplugging(sensor):
    source = make(sensor)
    stored = [
        Reading(source="soil", t=0.0, values={"boot": 1, "seq": n, "ms": 100 * n}) for n in (1, 2, 3, 4, 6)
    ]
    source.resume(stored, reads)
    await source.connect()
    stream = source.collect_stream()
    await say(sensor, 7)
    assert await heard(stream, 1) == [7]
    assert await asked(sensor, b"\n") == b"R1:5-5\n"
    await sensor.unplug()
    with pytest.raises(ConnectionError):
        await heard(stream, 1)
    await source.disconnect()
    await sensor.plug()
    await source.connect()
    stream = source.collect_stream()
    await say(sensor, 8)
    assert await heard(stream, 1) == [8]
    assert await asked(sensor, b"\n") == b"R1:5-5\n"
    await stream.aclose()
    await source.disconnect()


async def test_what_was_heard_before_it_is_known_what_is_stored_goes_on_from_that(sensor):
    source = make(sensor)
    assert isinstance(source, CatchingUp)
    await source.connect()
    stream = source.collect_stream()
    await say(sensor, 3, 6, 7)  # 3 was stored by an earlier run, which had asked for it and was killed
    async with asyncio.timeout(5):
        waiting = [await anext(stream) for _ in range(3)]
    stored = [
        Reading(source="soil", t=0.0, values={"boot": 1, "seq": n, "ms": 100 * n}) for n in (1, 2, 3, 4)
    ]
    source.resume(stored, reads)
    await say(sensor, 9)
    waiting += [await asyncio.wait_for(anext(stream), 5)]
    assert sensor.read_available() == b"", "what waits may be what is missing"
    new = [data for data in map(source.catch_up, waiting) if data is not None]
    assert [json.loads(data.raw_data)["seq"] for data in new] == [6, 7, 9]
    source.caught_up()
    await say(sensor, 10)
    assert await heard(stream, 1) == [10]
    assert await asked(sensor, b"\n") == b"R1:8-8\n", "5 has left the ring"
    assert source.troubles == {"missing": 1}
    await stream.aclose()
    await source.disconnect()


async def test_what_comes_after_it_is_known_what_is_stored_is_shown_once(sensor):
    source = make(sensor)
    source.resume([], reads)  # before the port could be opened
    await source.connect()
    stream = source.collect_stream()
    await say(sensor, 1, 2)
    async with asyncio.timeout(5):
        waiting = [await anext(stream) for _ in range(2)]
    assert list(map(source.catch_up, waiting)) == waiting
    source.caught_up()
    await say(sensor, 4)
    assert await heard(stream, 1) == [4]
    assert await asked(sensor, b"\n") == b"R1:3-3\n"
    await stream.aclose()
    await source.disconnect()


async def test_whoever_only_looks_asks_for_nothing(sensor):
    source = make(sensor)
    await source.connect()
    stream = source.collect_stream()
    await say(sensor, 1, 4, 4, 9)
    assert await heard(stream, 4) == [1, 4, 4, 9]
    assert sensor.read_available() == b""
    await stream.aclose()
    await source.disconnect()
