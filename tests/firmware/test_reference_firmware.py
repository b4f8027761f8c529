"""The reference firmware, built and run in a simulated ATmega328P, spoken to without any of our own code."""

import asyncio
import binascii
import itertools
import json
import random
import struct
import time
from contextlib import asynccontextmanager, suppress

import pytest

from tests.rigs.programs import seed_of, until
from tests.rigs.raw_port import RawPort
from tests.rigs.simulated_uno import SimulatedUno, build_firmware

PERIOD_MS = 20
RING = 160


@asynccontextmanager
async def plugged(folder, simulator, firmware, **options):
    async with SimulatedUno(folder, simulator, firmware, **options) as board:
        await board.plug()
        yield board


def decode_frame(coded: bytes) -> bytes:
    """COBS and CRC by the book; the payload."""
    plain = bytearray()
    while coded:
        code, coded = coded[0], coded[1:]
        if code > len(coded) + 1:
            raise ValueError("half a frame")
        plain += coded[: code - 1]
        coded = coded[code - 1 :]
        if code < 0xFF and coded:
            plain.append(0)
    if binascii.crc_hqx(bytes(plain[:-2]), 0xFFFF) != int.from_bytes(plain[-2:], "big"):
        raise ValueError("wrong CRC")
    return bytes(plain[:-2])


class Json:
    async def next(self, port):
        return json.loads(await port.until(b"\n"))


class Cobs:
    async def next(self, port):
        payload = decode_frame(await port.until(b"\0"))
        if payload[:1] == b"{":
            return json.loads(payload)
        kind, boot, seq, ms, tenths, millivolts = struct.unpack("<cHIIhH", payload)
        assert kind == b"D"
        return {"boot": boot, "seq": seq, "ms": ms, "celsius": tenths / 10, "millivolts": millivolts}


MODES = {"json": Json(), "cobs": Cobs()}


@pytest.fixture(params=MODES)
def mode(request, json_firmware, cobs_firmware):
    return MODES[request.param], {"json": json_firmware, "cobs": cobs_firmware}[request.param]


async def readings(speech, port):
    """The readings as they come, without the banners between them."""
    while True:
        said = await speech.next(port)
        if "id" not in said:
            yield said


@asynccontextmanager
async def listening(board, speech):
    with RawPort(board.port) as port:
        await port.until(b"\n" if isinstance(speech, Json) else b"\0")
        yield port


async def test_it_counts_and_keeps_time(tmp_path, simulator, mode):
    speech, firmware = mode
    async with plugged(tmp_path, simulator, firmware) as board:
        await board.tell("volts 0 713")
        await board.tell("volts 1 1300")
        async with listening(board, speech) as port:
            began = time.monotonic()
            seen = [said async for said in _first(readings(speech, port), 40)]
            took_ms = (time.monotonic() - began) * 1000
    assert {said["boot"] for said in seen} == {1}
    assert all(later["seq"] - said["seq"] == 1 for said, later in itertools.pairwise(seen))
    # On the schedule, never before it, and never later than the longest frame takes.
    assert all(0 <= said["ms"] - said["seq"] * PERIOD_MS < 10 for said in seen)
    # By the clock of the board; by ours it may be later on a busy machine, never earlier.
    assert took_ms > 39 * PERIOD_MS - 150
    assert seen[-1]["celsius"] == pytest.approx(21.3, abs=0.5)
    assert seen[-1]["millivolts"] == pytest.approx(1300, abs=10)  # a step is 4.9 mV


async def test_it_says_what_it_is_when_asked_and_when_it_starts(tmp_path, simulator, mode):
    speech, firmware = mode
    async with plugged(tmp_path, simulator, firmware) as board, listening(board, speech) as port:
        port.write(b"?")
        asked = await _banner(speech, port)
        assert await board.tell("reset") == "done"
        started = await _banner(speech, port)
        first = await anext(readings(speech, port))
    who = {"id": "outstation-uno", "firmware": "1.0.0", "protocol": 1, "ring": RING, "period_ms": PERIOD_MS}
    assert asked == who | {"boot": 1, "cause": "power", "seq": asked["seq"]}
    assert started == who | {"boot": 2, "cause": "reset", "seq": 0}
    assert (first["boot"], first["seq"]) == (2, 1)


async def test_it_sends_again_what_it_is_asked_for_and_goes_on(tmp_path, simulator, mode):
    speech, firmware = mode
    async with plugged(tmp_path, simulator, firmware) as board, listening(board, speech) as port:
        seen = [said async for said in _first(readings(speech, port), 8)]
        wanted = seen[1:7]
        port.write(b"R1:%d-%d\n" % (wanted[0]["seq"], wanted[-1]["seq"]))
        after = [said async for said in _first(readings(speech, port), 12)]
    again = [said for said in after if said["seq"] <= seen[-1]["seq"]]
    new = [said for said in after if said["seq"] > seen[-1]["seq"]]
    assert again == wanted
    assert [said["seq"] for said in new] == [seen[-1]["seq"] + n for n in range(1, 7)]


async def test_the_ring_gives_what_it_holds(tmp_path, simulator, firmware_folder):
    firmware = build_firmware(firmware_folder, MODE="JSON", PERIOD_MS=20, RING_READINGS=16)
    speech = MODES["json"]
    async with plugged(tmp_path, simulator, firmware) as board, listening(board, speech) as port:
        seen = {}
        async for said in readings(speech, port):
            seen[said["seq"]] = said
            if said["seq"] > 20:
                break
        newest = max(seen)
        port.write(b"R1:1-4000000000\r\n")
        after = [said async for said in _first(readings(speech, port), 30)]
    again = [said for said in after if said["seq"] <= newest]
    assert [said["seq"] for said in again] == list(range(again[0]["seq"], newest + 1))
    # A reading or two may have been made before the request was understood.
    assert 13 <= len(again) <= 16
    assert all(said == seen[said["seq"]] for said in again)


async def test_what_is_no_request_is_ignored(tmp_path, simulator, json_firmware):
    rng = random.Random(seed_of("test_what_is_no_request_is_ignored"))
    speech = MODES["json"]
    async with plugged(tmp_path, simulator, json_firmware) as board, listening(board, speech) as port:
        first = await anext(readings(speech, port))
        for request in (
            b"R2:1-1",
            b"R1:0-1",
            b"R1:1",
            b"R1:1-",
            b"R1:2-1x",
            b"R:1-1",
            b"R1:99999999999-1",
            b"1:1-1",
        ):
            port.write(request + b"\n")
        port.write(b"R1:1-1" * 20 + b"\n")
        port.write(
            bytes(rng.randrange(256) for _ in range(400)).replace(b"?", b"").replace(b"R", b"") + b"\n"
        )
        after = [said async for said in _first(readings(speech, port), 8)]
        port.write(b"R1:1-1\n")
        asked = [said async for said in _first(readings(speech, port), 2)]
    assert [said["seq"] for said in after] == list(range(first["seq"] + 1, first["seq"] + 9))
    assert {said["boot"] for said in after} == {1}
    assert 1 in {said["seq"] for said in asked}


async def test_it_goes_on_while_it_is_unplugged(tmp_path, simulator, cobs_firmware):
    speech = MODES["cobs"]
    async with plugged(tmp_path, simulator, cobs_firmware) as board:
        async with listening(board, speech) as port:
            before = await anext(readings(speech, port))
        await board.unplug()
        await asyncio.sleep(0.15)
        await board.plug()
        async with listening(board, speech) as port:
            after = await anext(readings(speech, port))
            port.write(b"R1:%d-%d\n" % (before["seq"] + 1, after["seq"]))
            missed = [said async for said in _first(readings(speech, port), after["seq"] - before["seq"])]
    assert after["boot"] == before["boot"]
    assert after["seq"] - before["seq"] >= 6
    assert {said["seq"] for said in missed} >= set(range(before["seq"] + 1, after["seq"]))


async def test_a_hang_ends_in_a_restart_and_starts_are_counted(tmp_path, simulator, json_firmware):
    speech = MODES["json"]
    async with plugged(tmp_path, simulator, json_firmware) as board, listening(board, speech) as port:
        await board.tell("stop-clock")
        hung = await _banner(speech, port)
        await board.tell("power")
        cut = await _banner(speech, port)
    assert (hung["boot"], hung["cause"]) == (2, "watchdog")
    assert (cut["boot"], cut["cause"]) == (3, "power")
    async with plugged(tmp_path, simulator, json_firmware) as board, listening(board, speech) as port:
        assert (await anext(readings(speech, port)))["boot"] == 4


@pytest.mark.parametrize(
    ("places", "boot"),
    [
        (struct.pack("<HHHH", 65534, 1, 65533, 2), 1),
        (struct.pack("<HHHH", 65534, 1, 1, 65534), 2),
        (struct.pack("<HHHH", 6, 65529, 7, 65529), 7),  # power failed while 7 was being written
        (b"\xff" * 8, 1),
        (b"\0" * 8, 1),
    ],
)
async def test_the_count_of_starts_outlives_a_power_cut_and_65534(
    tmp_path, simulator, json_firmware, places, boot
):
    (tmp_path / "eeprom").write_bytes(places)
    speech = MODES["json"]
    async with plugged(tmp_path, simulator, json_firmware) as board, listening(board, speech) as port:
        assert (await anext(readings(speech, port)))["boot"] == boot


async def test_a_board_that_is_reset_by_opening_loses_its_ring(tmp_path, simulator, json_firmware):
    speech = MODES["json"]
    async with plugged(tmp_path, simulator, json_firmware, reset_on_open=True) as board:
        for boot in (2, 3):
            with RawPort(board.port) as port:
                banner = await _banner(speech, port)
                first = await anext(readings(speech, port))
            assert (banner["cause"], banner["boot"], banner["seq"]) == ("reset", boot, 0)
            assert (first["boot"], first["seq"]) == (boot, 1)
            await until(lambda: _has_no_reader(board), "the simulator sees the port closed")


async def test_the_stack_has_room(tmp_path, simulator, mode):
    speech, firmware = mode
    async with plugged(tmp_path, simulator, firmware) as board, listening(board, speech) as port:
        port.write(b"?R1:1-20\n" + b"R" * 100 + b"\n")
        await _banner(speech, port)
        [said async for said in _first(readings(speech, port), 30)]
        room = int((await board.tell("stack")).split()[1])
    print(f"bytes of stack never used: {room}")  # noqa: T201 (a figure, shown by -s)
    assert room > 200


async def _has_no_reader(board):
    return await board.tell("reader") == "reader no"


async def _first(stream, count):
    async for item in stream:
        yield item
        count -= 1
        if not count:
            return


async def _banner(speech, port):
    while True:
        with suppress(ValueError):  # a reset may cut what was being said
            if "id" in (said := await speech.next(port)):
                return said
