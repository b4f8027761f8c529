"""The agent as a process, with Bluetooth sensors: no notification is lost while the sensor is connected, and after every fault
readings come again by themselves. On a fake bluetoothd in every run, on the real one in a virtual machine in the slow one."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from itertools import count, pairwise
from typing import TYPE_CHECKING

import pytest

from tests.rigs import stored
from tests.rigs.ble.fake_bluez import FakeBluez
from tests.rigs.ble.virtual_world import VirtualWorld
from tests.rigs.ble.world import (
    BTHOME,
    ENVIRONMENTAL_SENSING,
    TEMPERATURE,
    Advertisement,
    Characteristic,
    bthome,
    centidegrees,
)
from tests.rigs.configuration import bluetooth_source, device
from tests.rigs.programs import AgentProgram, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.rigs.ble.world import Sensor, World

BEACON, THERMOMETER = "C4:4F:33:00:00:01", "C4:4F:33:00:00:02"
RECOVERY_S = 30.0
"""From a fault's end to the next reading, at most."""
NOTIFY_S = 0.02
SAID_BETWEEN_FAULTS = 25
MEASURE_S = 0.25


class Speaker:
    """A sensor that notifies numbers, and remembers which it said to somebody.

    Args:
        sensor: Says them.
        flight_s: How long nothing is said before a fault, so that what was said has arrived.
    """

    def __init__(self, sensor: Sensor, flight_s: float) -> None:
        self.sensor = sensor
        self.flight_s = flight_s
        self.said: list[int] = []
        """To a subscriber that was there to hear it."""
        self.quiet = False
        self._outage = False
        self._numbers = count(1)

    async def speak(self) -> None:
        """Say a number every so often."""
        while True:
            await asyncio.sleep(NOTIFY_S)
            if self.quiet:
                continue
            if not self.sensor.subscribed:
                self._outage = False
                continue
            number = next(self._numbers)
            if await self.sensor.notify(TEMPERATURE, centidegrees(number)) and not self._outage:
                self.said.append(number)

    @asynccontextmanager
    async def fault(self) -> AsyncIterator[None]:
        """Whoever is subscribed when it begins may hear nothing any more, until subscribed again."""
        self.quiet = True
        await asyncio.sleep(self.flight_s)
        yield
        self._outage = True
        self.quiet = False


async def measure(sensor: Sensor) -> None:
    """Let a sensor advertise one measurement after another."""
    for number in count():
        await sensor.advertise(Advertisement(service_data={BTHOME: bthome(number, 2000 + number % 500)}))
        await asyncio.sleep(MEASURE_S)


async def nothing() -> None:
    """Nothing needs to be done for it to end."""


async def journey(world: World, folder: Path, *, flight_s: float, outage_s: float) -> None:
    """The agent, two sensors, and one fault after the other."""
    beacon = await world.sensor(BEACON)
    gatt = {ENVIRONMENTAL_SENSING: [Characteristic(TEMPERATURE, centidegrees(0))]}
    thermometer = await world.sensor(THERMOMETER, gatt)
    await thermometer.advertise(Advertisement(services=[ENVIRONMENTAL_SENSING]))
    speaker = Speaker(thermometer, flight_s)
    config = device(
        bluetooth_source("ble", "hall", address=BEACON, codec="bthome", manage_adapter=False),
        bluetooth_source(
            "gatt", "green", address=THERMOMETER, codec="gatt", notify=["temperature"], manage_adapter=False
        ),
    )
    faults: list[tuple[str, Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]] = [
        ("the sensor drops the connection", thermometer.drop, nothing),
        ("the sensor goes out of range", thermometer.leave, thermometer.come_back),
        ("the adapter is switched off", lambda: world.power(on=False), lambda: world.power(on=True)),
        ("bluetoothd is killed", world.kill_bluetoothd, world.start_bluetoothd),
    ]
    speaking = [asyncio.create_task(speaker.speak()), asyncio.create_task(measure(beacon))]
    try:
        with AgentProgram(folder, config) as agent:
            agent.start()
            await collects(agent, {"hall": 0, "green": 0}, "the start")
            for what, begin, end in faults:
                enough = len(speaker.said) + SAID_BETWEEN_FAULTS
                await until(lambda enough=enough: len(speaker.said) >= enough, "notifications")
                async with speaker.fault():
                    await begin()
                await asyncio.sleep(outage_s)
                await end()
                ended = time.monotonic()
                report = await agent.report()
                assert report is not None
                frames = {source.source_id: source.frames for source in report.sources}
                await collects(agent, frames, what)
                print(f"{what}: readings again after {time.monotonic() - ended:.1f} s")  # noqa: T201 (a figure, shown by -s)
            speaker.quiet = True
            await asyncio.sleep(speaker.flight_s)
            assert (await agent.stop())[0] == 0
    finally:
        while speaking:  # bumble loses a cancellation now and then
            for task in speaking:
                task.cancel()
            speaking = list((await asyncio.wait(speaking, timeout=1))[1])
    documents = list(stored.documents(agent.buffer).values())
    kept = [round(d["values"]["temperature"] * 100) for d in documents if d["source"] == "green"]
    assert kept == sorted(set(kept))
    assert set(speaker.said) <= set(kept), sorted(set(speaker.said) - set(kept))
    assert len(speaker.said) >= len(faults) * SAID_BETWEEN_FAULTS
    heard = [d["values"]["temperature"] for d in documents if d["source"] == "hall"]
    assert len(heard) > 10
    assert all(one != other for one, other in pairwise(heard))


async def collects(agent: AgentProgram, frames: dict[str, int], what: str) -> None:
    """Wait until every source has collected more than this."""
    await agent.until(
        lambda report: all(
            source.state == "connected" and source.frames > frames[source.source_id]
            for source in report.sources
        ),
        f"readings after: {what}",
        RECOVERY_S,
    )


async def test_silence_garbage_and_a_link_that_is_down_are_three_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = device(
        bluetooth_source("ble", "hall", address=BEACON, codec="bthome", silent_after="1 s", scan="active")
    )
    async with FakeBluez() as world:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", world.bus_address)
        sensor, other = await world.sensor(BEACON), await world.sensor(THERMOMETER)
        await other.advertise(Advertisement(name="somebody else"))

        async def condition(agent: AgentProgram, wanted: str) -> str:
            report = await agent.until(lambda r: r.sources[0].condition == wanted, wanted)
            return report.summary()

        with AgentProgram(tmp_path, config) as agent:
            agent.start()
            await sensor.advertise(Advertisement(service_data={BTHOME: bthome(0, 2150)}, tx_power=4))
            await agent.until(lambda r: r.sources[0].frames > 0, "a reading")
            await sensor.fall_silent()
            assert "source hall: silent: nothing comes" in await condition(agent, "silent")
            for number in range(10):  # encrypted, each another, and there is no key
                data = b"\x41" + bytes([number]) * 14
                await sensor.advertise(Advertisement(service_data={BTHOME: data}))
                await asyncio.sleep(0.05)
            assert "source hall: nothing but garbage: it is encrypted" in await condition(agent, "garbage")
            await sensor.advertise(Advertisement(service_data={BTHOME: bthome(1, 2160)}))
            await condition(agent, "ok")
            await world.kill_bluetoothd()
            assert "source hall: link down: bluetoothd does not run" in await condition(agent, "link_down")
            assert (await agent.stop())[0] == 0
    for words in (
        "listen hall: silent: nothing came for 1 s, though the link is up: hci0 hears others: it is out of range or off",
        "decode hall: nothing but garbage: 8 samples in a row, the newest: it is encrypted, and there is no key",
        "collect hall: bluetoothd does not run",
    ):
        assert words in agent.log, words
    first = next(iter(stored.documents(agent.buffer).values()))
    assert first["indicators"] == {"rssi_dbm": -60.0, "tx_power_dbm": 4.0}
    assert len(stored.documents(agent.buffer, "dead_letters")) == 10


async def test_an_agent_on_a_fake_bluetoothd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with FakeBluez() as world:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", world.bus_address)
        await journey(world, tmp_path, flight_s=0.2, outage_s=0.3)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_an_agent_on_the_real_bluetoothd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with VirtualWorld() as world:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", world.bus_address)
        await journey(world, tmp_path, flight_s=0.5, outage_s=2.0)
