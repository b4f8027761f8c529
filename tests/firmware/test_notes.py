"""Nothing in the firmware notes is unchecked: every frame goes through the agent's own code, every excerpt is of a file.

A block `frame SOURCE` is a conversation with the source of that name on the same page:

    ? 01 04             what the agent asks, of a sensor that is polled
    > 00 44 'text\\n'    what the sensor sends: bytes in hexadecimal, and texts; on Bluetooth 0xFCD2 and the like before it,
                        the service or characteristic whose data it is
    ~ 50 ms             the line pauses
    = {"seq": 1}        the next thing that comes of it: the values of a reading
    ! check sequence    or why it is none
    < 'R7:1-2\\n'        what the agent sends then
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import struct
from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.composition import catalogue
from agent.config import load_config
from collectors.clock import SystemClock
from collectors.metadata_keys import FRAME_ERROR, UP_NS
from collectors.models import CollectedData
from collectors.units import parse_duration
from drivers.codecs import advertisement, gatt
from drivers.codecs.advertisement import Advertisement
from drivers.codecs.bluetooth_uuid import full_uuid
from drivers.framing import FrameError
from drivers.framing.crc import CRCS
from drivers.serial.config import SerialConfig
from drivers.serial.resender import Resender
from drivers.serial.source import SerialSource
from tests.rigs.polled_sensor import PolledSensor
from tests.rigs.programs import free_port
from tests.rigs.pty import PtySensor

NOTES = Path(__file__).parents[2] / "firmware-notes"
PAGES = sorted(NOTES.glob("*.md"))
BLOCK = re.compile(r"^```(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
TOKEN = re.compile(r"'((?:[^'\\]|\\.)*)'|([0-9a-f]{2})(?= |$)")
CHECKED_ELSEWHERE = {"toml", "sh"}
"""By tests/docs."""


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


def all_blocks(kind: str) -> list:
    return [
        pytest.param(page, info, text, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, (info, text) in enumerate(blocks(page), start=1)
        if info.split(" ")[0] == kind
    ]


def octets(written: str) -> bytes:
    found = b""
    place = 0
    for token in TOKEN.finditer(written):
        assert not written[place : token.start()].strip(), written
        place = token.end()
        text, pair = token.groups()
        found += bytes.fromhex(pair) if pair else text.encode().decode("unicode_escape").encode("latin-1")
    assert not written[place:].strip(), written
    return found


class Now:
    def now(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.monotonic_s())

    def monotonic_s(self):
        return 1000.0

    def boottime_ns(self):
        return 10**12


class Conversation:
    """With one configured source."""

    def __init__(self, source) -> None:
        self._driver = source.driver
        self._options = source.options
        self._decode = source.codec.codec()
        self._outcomes: deque = deque()
        self._request = b""
        if self._driver == "serial":
            self._framer = source.options.framing.framer()
            resend = source.options.resend
            self._resender = resend and Resender(resend, self._values, name=source.id, clock=Now())

    def _values(self, raw: bytes) -> list:
        return [item.values for item in self._decode(raw)]

    def send(self, said: str) -> None:
        self._take(self._frames(said))

    def pause(self, pause_s: float) -> None:
        assert pause_s >= self._options.framing.gap_s
        self._take(self._framer.finish())

    def _take(self, frames: list) -> None:
        for frame in frames:
            if isinstance(frame, FrameError):
                self._outcomes.append(frame.reason)
                continue
            try:
                self._outcomes.extend(self._values(frame))
            except ValueError as error:
                self._outcomes.append(str(error))
                continue
            if self._driver == "serial" and self._resender:
                self._count(frame)

    def _frames(self, said: str) -> list:
        uuid, _, rest = said.partition(" ")
        match self._driver:
            case "serial":
                return self._framer.feed(octets(said))
            case "ble":
                data = {full_uuid(uuid): octets(rest)}
                return [advertisement.encode(Advertisement("A4:C1:38:12:34:56", service_data=data))]
            case "gatt":
                return [gatt.encode([(full_uuid(uuid), octets(rest))])]
        return [octets(said)]

    def _count(self, frame: bytes) -> None:
        self._resender.take(
            CollectedData(
                source_id="x",
                timestamp=Now().now(),
                data_format="x",
                collection_method="serial",
                raw_data=frame,
                metadata={UP_NS: Now().boottime_ns()},
            )
        )
        self._request += self._resender.request()

    def asks(self) -> bytes:
        self._take(self._framer.finish())  # what is not complete by then is part of no answer
        return self._options.poll.render(1, Now().now(), self._options.framing)

    def outcome(self):
        assert self._outcomes, "nothing comes of it"
        return self._outcomes.popleft()

    def request(self) -> bytes:
        asked, self._request = self._request, b""
        return asked

    def end(self) -> None:
        assert list(self._outcomes) == []
        assert self._request == b""


def source_of(page: Path, name: str, folder: Path):
    """The source of that name in the configurations of a page."""
    for info, text in blocks(page):
        if info == "toml" and f'id = "{name}"' in text:
            path = folder / "outstation.toml"
            path.write_text(text)
            return {source.id: source for source in load_config(path, catalogue()).source}[name]
    raise AssertionError(f"{page.name} configures no source {name}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_checked(page):
    assert page.read_text().count("\n```") == 2 * len(blocks(page))
    for info, _ in blocks(page):
        assert info.split(" ")[0] in CHECKED_ELSEWHERE | {"frame", "c", "mosquitto", "wiring"}, info


@pytest.mark.parametrize(("page", "info", "text"), all_blocks("frame"))
def test_frames_say_what_the_page_says(page, info, text, tmp_path):
    talk = Conversation(source_of(page, info.split(" ")[1], tmp_path))
    for line in text.splitlines():
        what, said = line[:2], line[2:].strip()
        match what:
            case "> ":
                talk.send(said)
            case "~ ":
                talk.pause(parse_duration(said))
            case "? ":
                assert talk.asks() == octets(said)
            case "= ":
                assert talk.outcome() == json.loads(said)
            case "! ":
                reason = talk.outcome()
                assert isinstance(reason, str)
                assert said in reason
            case "< ":
                assert talk.request() == octets(said)
            case _:
                raise AssertionError(line)
    talk.end()


@pytest.mark.parametrize(("page", "info", "text"), all_blocks("mosquitto"))
async def test_mosquitto_takes_its_settings(page, info, text, tmp_path):
    port = free_port()
    settings = tmp_path / "mosquitto.conf"
    settings.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence_location {tmp_path}/\nuser root\n{text}"
    )
    broker = await asyncio.create_subprocess_exec(
        shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin"),
        "-c",
        settings,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(10):
            while b"running" not in (line := await broker.stderr.readline()):
                assert line, "it has ended"
    finally:
        if broker.returncode is None:
            broker.kill()
        await broker.communicate()


@pytest.mark.parametrize(("page", "info", "text"), all_blocks("c"))
def test_excerpts_are_of_the_firmware(page, info, text):
    assert any(text in file.read_text() for file in NOTES.glob("*/*.[ch]")), text


async def test_the_meter_on_the_modbus_page_is_polled(tmp_path):
    source = await asyncio.to_thread(source_of, NOTES / "modbus.md", "meter", tmp_path)
    answer = CRCS["crc16_modbus"].append(bytes([1, 4, 4]) + struct.pack(">f", 230.2))
    refusal = CRCS["crc16_modbus"].append(bytes([1, 0x84, 2]))
    async with PtySensor(tmp_path) as port:
        quick = source.options.poll.model_copy(update={"interval": 0.05, "timeout": 0.3})
        options = source.options.model_copy(update={"port": port.port, "poll": quick})
        meter = SerialSource("meter", options, data_format="struct", clock=SystemClock())
        answers = [answer, refusal, answer[:4], answer]
        request_end = b"\x71\xcb"
        async with PolledSensor(port, lambda _, number: answers[number - 1], ends_with=request_end) as asked:
            await meter.connect()
            readings = [source.codec.codec()((await meter.collect()).raw_data)]
            async with asyncio.timeout(10):
                async for data in meter.collect_stream():
                    if FRAME_ERROR not in data.metadata:
                        readings.append(source.codec.codec()(data.raw_data))
                        break
            await meter.disconnect()
        assert asked.requests == [bytes([1, 4, 0, 0, 0, 2])] * 4
    assert [reading.values for (reading,) in readings] == [{"voltage": 230.2}] * 2


@pytest.mark.parametrize("framed", [False, True])
def test_a_request_has_one_check_sequence(framed):
    framing = {"type": "fixed", "length": 2, "crc": "crc16_modbus"}
    poll = {"request": [1, 2], "interval": 1, "framed": framed, "crc": "none" if framed else "crc16_modbus"}
    config = SerialConfig(port="/dev/ttyS0", framing=framing, poll=poll)
    assert config.poll.render(1, Now().now(), config.framing) == CRCS["crc16_modbus"].append(b"\1\2")
    with pytest.raises(ValidationError, match="has the check sequence of the framing"):
        SerialConfig(port="/dev/ttyS0", framing=framing, poll=poll | {"framed": True, "crc": "crc16_modbus"})
