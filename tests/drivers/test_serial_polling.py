"""Devices that speak when they are asked."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from collectors.clock import SystemClock
from collectors.metadata_keys import FRAME_ERROR
from drivers.framing import FRAMINGS
from drivers.serial import link as link_module
from drivers.serial.config import SerialConfig
from drivers.serial.link import Arrival
from drivers.serial.poll_config import PollConfig
from drivers.serial.polling import Poller, next_due
from drivers.serial.source import SerialSource
from drivers.serial.trouble import PortError, TroubleKind
from tests.rigs.polled_sensor import PolledSensor
from tests.rigs.pty import PtySensor


@pytest.fixture
async def pty(tmp_path):
    async with PtySensor(tmp_path) as sensor:
        yield sensor


@asynccontextmanager
async def polled(pty, answer, *, framing="lines", ends_with=b"\n", **poll):
    settings = {"request": "?\n", "interval": 0.02, "timeout": 0.5, **poll}
    config = SerialConfig(port=pty.port, framing=framing, poll=settings)
    source = SerialSource("s", config, data_format="json", clock=SystemClock())
    async with PolledSensor(pty, answer, ends_with=ends_with) as sensor:
        await source.connect()
        try:
            yield source, sensor
        finally:
            await source.disconnect()


async def taken(source, count):
    items = []
    async with asyncio.timeout(20), aclosing(source.collect_stream()) as stream:
        async for data in stream:
            items.append(data)
            if len(items) == count:
                break
    return items


def good(items):
    return [item.raw_data for item in items if FRAME_ERROR not in item.metadata]


async def test_each_request_has_its_answer(pty):
    async with polled(pty, lambda _, number: b"%d\n" % number, request="READ {number} {{}}\r\n") as (
        source,
        sensor,
    ):
        assert good(await taken(source, 5)) == [b"1", b"2", b"3", b"4", b"5"]
    assert sensor.requests[:5] == [b"READ %d {}\r" % number for number in range(1, 6)]
    assert not source.troubles


class SlowLink:
    """A link whose time only passes where it waits; everything takes longer than it should."""

    is_open = True
    settled_ns = 0
    speaks_until_ns = None

    def __init__(self):
        self.now_ns = 1_000_000_000
        self.asked_ns = []

    def boottime_ns(self):
        return self.now_ns

    def now(self):
        return datetime.fromtimestamp(self.now_ns / 1e9, UTC)

    def write(self, _request):
        self.asked_ns.append(self.now_ns)
        self.now_ns += 3_000_000
        return True

    def end_frame(self):
        return []

    async def arrival_until(self, deadline_ns):
        if self.asked_ns and self.asked_ns[-1] > self.now_ns - 10_000_000:  # an answer takes 7 ms more
            self.now_ns += 17_000_000 if len(self.asked_ns) != 10 else 270_000_000
            return Arrival(b"1", self.now(), self.now_ns)
        self.now_ns = max(self.now_ns, deadline_ns) + 1_100_000  # woken late
        return None


async def test_the_schedule_does_not_drift_and_leaves_out_what_has_passed():
    link = SlowLink()
    config = PollConfig(request="?", interval=0.1)
    poller = Poller(config, FRAMINGS.choose("lines"), "port", link)
    async with aclosing(poller.arrivals(link)) as arrivals:
        for _ in range(1000):
            await anext(arrivals)
    slots = [(asked_ns - link.asked_ns[0]) / 100_000_000 for asked_ns in link.asked_ns]
    assert all(abs(slot - round(slot)) < 0.02 for slot in slots)  # the 1000th as exactly as the first
    assert [round(slot) for slot in slots] == [*range(10), *range(12, 1002)]


@given(st.integers(1, 10**10), st.integers(0, 10**15), st.integers(0, 10**12))
def test_what_has_passed_is_left_out_and_the_rest_stays_on_the_schedule(interval, due, late):
    following = next_due(due, interval, due + late)
    assert (following - due) % interval == 0
    assert following > due
    assert due + late <= following
    assert following - interval <= max(due, due + late)


async def test_a_lost_answer_is_asked_for_again(pty):
    async with polled(
        pty, lambda _, number: None if number in {1, 2} else b"%d\n" % number, timeout=0.03
    ) as (
        source,
        sensor,
    ):
        assert good(await taken(source, 2)) == [b"3", b"4"]
    assert len(sensor.requests) >= 4
    assert TroubleKind.NO_ANSWER not in source.troubles


async def test_a_broken_answer_is_told_and_asked_for_again(pty):
    cobs = FRAMINGS.choose("cobs")
    whole = cobs.encode(b"21.5")
    broken = bytes([whole[0], whole[1] ^ 1]) + whole[2:]
    async with polled(
        pty, lambda _, number: broken if number == 2 else whole, framing="cobs", timeout=0.05
    ) as (
        source,
        sensor,
    ):
        items = await taken(source, 3)
    assert [item.raw_data == b"21.5" for item in items] == [True, False, True]
    assert source.troubles == {"wrong_crc": 1}
    assert len(sensor.requests) >= 3


async def test_half_an_answer_is_told_and_does_not_spoil_the_next(pty):
    framing = {"type": "length_prefixed", "length_bytes": 1, "gap": 60}
    whole = b"\x041234"
    async with polled(
        pty, lambda _, number: whole[:3] if number == 2 else whole, framing=framing, timeout=0.05
    ) as (source, _):
        items = await taken(source, 4)
    assert good(items) == [b"1234"] * 3
    assert "paused or ended after 3 bytes" in items[1].metadata[FRAME_ERROR]
    assert source.troubles == {"cut_off": 1}


async def test_a_device_that_does_not_answer_is_told_and_the_port_given_up(pty):
    async with polled(pty, lambda *_: None, timeout=0.01, retries=1, interval=0.01) as (source, sensor):
        with pytest.raises(PortError, match="3 requests in a row without an answer") as caught:
            await taken(source, 1)
        assert caught.value.kind is TroubleKind.NO_ANSWER
        async with asyncio.timeout(5):
            while len(sensor.requests) < 6:  # each was repeated once; the last may still be on its way
                await asyncio.sleep(0.002)
        assert source.troubles == {"no_answer": 1}
        assert source.remarks == ["3 requests in a row without an answer"]


async def test_an_answer_that_comes_late_is_a_reading_all_the_same(pty):
    late = asyncio.Event()

    def answer(_, number):
        if number == 1:
            asyncio.get_running_loop().call_later(0.05, late.set)
            return None
        return b"%d\n" % number

    async with polled(pty, answer, timeout=0.02, interval=1.0, retries=0) as (source, _):
        collecting = asyncio.create_task(taken(source, 2))
        await late.wait()
        await pty.write(b"late\n")
        assert good(await collecting) == [b"late", b"2"]


@pytest.mark.parametrize("retries", [0, 1])
async def test_an_answer_that_is_late_in_its_middle_is_not_cut_in_two(pty, retries, monkeypatch):
    """Its second half, 3.4, would be a frame of its own, and a wrong reading."""
    monkeypatch.setattr(link_module, "WITHIN_FRAME_S", 5.0)  # a busy machine must not matter

    def answer(_, number):
        if number > 1:
            return b"%d\n" % number
        late.append(asyncio.create_task(second_half()))
        return b"12"

    async def second_half():
        await asyncio.sleep(0.25)
        await pty.write(b"3.4\n")

    late = []
    async with polled(pty, answer, timeout=0.2, interval=0.05, retries=retries) as (source, _):
        assert good(await taken(source, 2)) == [b"123.4", b"2"]
        assert not source.troubles
        await late[0]


async def test_a_device_that_never_stops_is_asked_all_the_same(pty):
    async with polled(pty, lambda *_: None, timeout=0.05, interval=0.05, retries=0) as (source, sensor):
        collecting = asyncio.create_task(taken(source, 2))
        async with asyncio.timeout(10):
            while not collecting.done():
                await pty.write(b".")
                await asyncio.sleep(0.01)
        assert good(await collecting) == []
    assert len(sensor.requests) >= 2


async def test_collect_asks_once(pty):
    async with polled(pty, lambda _, number: b"%d\n" % number, interval=3600) as (source, sensor):
        for number in (1, 2):
            assert (await source.collect()).raw_data == b"%d" % number
        assert len(sensor.requests) == 2
    async with polled(pty, lambda *_: None, timeout=0.01, retries=0) as (source, _):
        with pytest.raises(PortError, match="no answer"):
            await source.collect()


async def test_requests_can_be_frames_and_bytes(pty):
    slip = FRAMINGS.choose({"type": "slip", "crc": "crc16"})
    options = {"framing": {"type": "slip", "crc": "crc16"}, "framed": True, "ends_with": b"\xc0"}
    async with polled(pty, lambda *_: slip.encode(b"1"), request=[0xC0, 0xDB, 1], **options) as (
        source,
        sensor,
    ):
        assert good(await taken(source, 1)) == [b"1"]
    assert sensor.requests[0] + b"\xc0" == slip.encode(b"\xc0\xdb\x01")


async def test_nothing_is_asked_before_the_device_has_restarted(pty):
    config = SerialConfig(port=pty.port, settle=0.2, poll={"request": "?\n", "interval": 1})
    source = SerialSource("s", config, data_format="json", clock=SystemClock())
    async with PolledSensor(pty, lambda *_: b"1\n") as sensor:
        begun = asyncio.get_running_loop().time()
        await source.connect()
        assert good(await taken(source, 1)) == [b"1"]
        assert sensor.asked_at[0] - begun >= 0.2
        await source.disconnect()


async def test_a_device_that_takes_nothing_is_given_up_not_waited_for(pty):
    config = SerialConfig(
        port=pty.port, poll={"request": [1] * 1000, "interval": 0.001, "timeout": 0.001, "retries": 10}
    )
    source = SerialSource("s", config, data_format="json", clock=SystemClock())
    await source.connect()
    source._poller.unanswered = -100
    with pytest.raises(PortError, match="does not take what is sent") as caught:
        await taken(source, 1)
    assert caught.value.kind is TroubleKind.STUCK
    async with asyncio.timeout(2):
        await source.disconnect()


@pytest.mark.parametrize(
    ("poll", "message"),
    [
        ({"interval": 1}, "request"),
        ({"request": "?", "interval": 0}, "interval"),
        ({"request": "", "interval": 1}, "request"),
        ({"request": "{x}", "interval": 1}, "{x} is nothing to fill in: there are {number}"),
        ({"request": '{"cmd":1}', "interval": 1}, "write a brace as"),
        ({"request": "{", "interval": 1}, "write a brace as {{ or }}"),
        ({"request": "\u20ac", "interval": 1}, "not one byte each"),
        ({"request": [256], "interval": 1}, "not a list of bytes"),
        ({"request": "a\nb", "interval": 1, "framed": True}, "`poll.request`: a line must have"),
        ({"request": "?", "interval": 1, "retrys": 1}, "retrys"),
    ],
)
def test_wrong_requests_are_told(poll, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        SerialConfig(port="/dev/ttyS0", poll=poll)
