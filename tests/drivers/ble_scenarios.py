"""What must hold on every world of Bluetooth, the fake one and the virtual machine.

Each scenario has sensors of its own, by address, since a world may outlive it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

import pytest
from bleak import BleakScanner
from bleak.args.bluez import OrPattern
from bleak.assigned_numbers import AdvertisementDataType

from drivers.ble.monitors import Monitors
from drivers.codecs import codec
from drivers.codecs.advertisement import parse
from tests.drivers.ble_sources import advertisements, collect, connected, connection
from tests.rigs.ble.world import (
    BTHOME,
    ENVIRONMENTAL_SENSING,
    HUMIDITY,
    TEMPERATURE,
    Advertisement,
    Characteristic,
    bthome,
    centidegrees,
    uuid,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from collectors import IDataSource
    from tests.rigs.ble.world import Sensor, World

PATIENCE_S = 30.0
"""The longest from a fault's end to the next reading."""
_numbers = count(1)


def _address() -> str:
    return f"C4:4F:33:10:00:{next(_numbers):02X}"


@asynccontextmanager
async def _beacon(
    world: World, *, name: str | None = None
) -> AsyncIterator[tuple[Sensor, Callable[[int], Awaitable[None]]]]:
    """A sensor that advertises BTHome, and how to let it measure."""
    sensor = await world.sensor(_address())

    async def measure(number: int) -> None:
        data = {BTHOME: bthome(number, 2000 + number)}
        await sensor.advertise(Advertisement(name=name, service_data=data))

    try:
        yield sensor, measure
    finally:
        await sensor.fall_silent()


@asynccontextmanager
async def _thermometer(world: World) -> AsyncIterator[Sensor]:
    """A sensor to connect to; its temperature counts how often it was read."""
    asked = count()
    sensor = await world.sensor(
        _address(),
        {
            ENVIRONMENTAL_SENSING: [
                Characteristic(TEMPERATURE, lambda: centidegrees(next(asked))),
                Characteristic(HUMIDITY, b"\xbf\x13", flags=["read"]),
            ]
        },
    )
    await sensor.advertise(Advertisement(services=[ENVIRONMENTAL_SENSING]))
    try:
        yield sensor
    finally:
        await sensor.drop()
        await sensor.fall_silent()


@asynccontextmanager
async def _linked(world: World, **options: object) -> AsyncIterator[tuple[Sensor, IDataSource]]:
    """A sensor that is connected to, and the source."""
    async with (
        _thermometer(world) as sensor,
        connected(connection(address=sensor.address, **options)) as source,
    ):
        yield sensor, source


async def _number(source: IDataSource) -> int:
    """The packet id of the next advertisement."""
    data = parse((await collect(source, PATIENCE_S)).raw_data)
    return data.service_data[uuid(BTHOME)][2]


async def _temperature(source: IDataSource) -> float:
    """The temperature of the next value, in hundredths."""
    data = await collect(source, PATIENCE_S)
    (decoded,) = codec(data.data_format)(data.raw_data)
    return round(float(decoded.values["temperature"]) * 100)


async def _exhaust(stream: AsyncIterator[object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async for _ in stream:
            pass


async def _lost(source: IDataSource) -> None:
    """Wait until the source says that it can collect no more."""
    stream = source.collect_stream()
    with pytest.raises(ConnectionError):
        await _exhaust(stream)


async def _again(source: IDataSource) -> None:
    """Connect until it works, as whoever collects does."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await source.connect()
            except ConnectionError:
                await asyncio.sleep(0.1)


# Scenarios


async def active_scan(world: World) -> None:
    async with _beacon(world, name="active") as (sensor, measure):
        await measure(1)
        async with connected(advertisements(address=sensor.address, name="active")) as source:
            for number in range(1, 4):
                await measure(number)
                assert await _number(source) == number


async def passive_scan(world: World) -> None:
    async with _beacon(world) as (sensor, measure):
        await measure(1)
        async with connected(advertisements(address=sensor.address, scan="passive")) as source:
            for number in range(1, 4):
                await measure(number)
                assert await _number(source) == number


async def a_repeated_advertisement_is_one_reading(world: World) -> None:
    async with _beacon(world) as (sensor, measure):
        source = advertisements(address=sensor.address, scan="active")
        async with connected(source):
            await measure(7)
            assert await _number(source) == 7
            with pytest.raises(TimeoutError):
                await collect(source, 0.6)
            assert source.repeats.repeated >= 3


async def read(world: World) -> None:
    async with (
        _thermometer(world) as sensor,
        connected(
            connection(address=sensor.address, read=["temperature", "humidity"], interval=0.2)
        ) as source,
    ):
        assert [await _temperature(source) for _ in range(3)] == [0, 1, 2]


async def notify(world: World) -> None:
    async with _linked(world, notify=["temperature"]) as (sensor, source):
        # The kernel drops what its socket has no room for while bluetoothd has no time, which is fewer than a
        # hundred at once; no radio brings so many.
        for first in range(0, 100, 20):
            burst = range(first, first + 20)
            for number in burst:
                assert await sensor.notify(TEMPERATURE, centidegrees(number))
            assert [await _temperature(source) for _ in burst] == list(burst)


async def peer_drop_and_reconnect(world: World) -> None:
    async with _linked(world, notify=["temperature"]) as (sensor, source):
        for number in range(3):
            assert await sensor.notify(TEMPERATURE, centidegrees(number))
            assert await _temperature(source) == number
            await sensor.drop()
            await _lost(source)
            await _again(source)
        assert await sensor.notify(TEMPERATURE, centidegrees(9))
        assert await _temperature(source) == 9


async def out_of_range_and_back(world: World) -> None:
    async with _linked(world, notify=["temperature"]) as (sensor, source):
        await sensor.leave()
        await _lost(source)
        returning = asyncio.create_task(_again(source))
        await asyncio.sleep(0.3)
        assert not returning.done()
        await sensor.come_back()
        began = time.monotonic()
        await returning
        assert time.monotonic() - began < PATIENCE_S
        assert await sensor.notify(TEMPERATURE, centidegrees(1))
        assert await _temperature(source) == 1


async def _fault(
    world: World, begin: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]
) -> None:
    """A fault of what is shared: both kinds of sources notice it, and go on after it."""
    async with _beacon(world) as (beacon, measure), _thermometer(world) as sensor:
        heard = advertisements(address=beacon.address, manage_adapter=False)
        linked = connection(address=sensor.address, notify=["temperature"], manage_adapter=False)
        async with connected(heard), connected(linked):
            await measure(1)
            assert await _number(heard) == 1
            await begin()
            await _lost(heard)
            await _lost(linked)
            await measure(2)
            returning = [asyncio.create_task(_again(source)) for source in (heard, linked)]
            await asyncio.sleep(0.3)
            assert not any(task.done() for task in returning)
            await end()
            began = time.monotonic()
            await asyncio.gather(*returning)
            assert await _number(heard) == 2
            assert await sensor.notify(TEMPERATURE, centidegrees(3))
            assert await _temperature(linked) == 3
            assert time.monotonic() - began < PATIENCE_S


async def adapter_off_and_on(world: World) -> None:
    await _fault(world, lambda: world.power(on=False), lambda: world.power(on=True))


async def a_deaf_adapter_is_switched_off_and_on(world: World) -> None:
    async with _beacon(world) as (sensor, measure):
        await measure(1)
        source = advertisements(address=sensor.address, silent_after=0.5, scan="active")
        async with connected(source):
            assert await _number(source) == 1
            world.deafen()
            await measure(2)
            assert await _number(source) == 2
    assert source.troubles["switched_off_and_on"] == 1


async def bluetoothd_killed_and_back(world: World) -> None:
    await _fault(world, world.kill_bluetoothd, world.start_bluetoothd)


async def an_adapter_that_is_off_is_switched_on(world: World) -> None:
    async with _beacon(world) as (sensor, measure):
        await measure(1)
        async with connected(advertisements(address=sensor.address)) as source:
            await world.power(on=False)
            await _lost(source)
            await _again(source)
            await measure(2)
            while await _number(source) != 2:
                pass


async def passive_scan_after_a_monitor_that_came_while_the_adapter_was_off(world: World) -> None:
    """A kernel that has met one (anybody's) may refuse all that follow."""
    await world.power(on=False)
    monitors, pattern = Monitors(), OrPattern(0, AdvertisementDataType.SERVICE_DATA_UUID16, b"\xd2\xfc")
    scanner = BleakScanner(scanning_mode="passive", bluez={"adapter": "hci0", "or_patterns": [pattern]})
    too_early = await monitors.start(scanner, lambda: None)
    assert not await monitors.activated(too_early)
    await scanner.stop()
    await world.power(on=True)
    async with (
        _beacon(world) as (sensor, measure),
        connected(advertisements(address=sensor.address, manage_adapter=False)) as source,
    ):
        for number in range(1, 4):
            await measure(number)
            assert await _number(source) == number
    await world.power(on=False)  # which ends the refusals
    await world.power(on=True)


async def ten_sensors_at_once(world: World) -> None:
    """Five that advertise, five that are read in turns over two connections."""

    async def hear(number: int) -> list[int]:
        async with (
            _beacon(world) as (sensor, measure),
            connected(advertisements(source_id=f"heard-{number}", address=sensor.address)) as source,
        ):
            found = []
            for packet in range(3):
                await measure(packet)
                found.append(await _number(source))
            return found

    async def ask(number: int) -> list[float]:
        async with _thermometer(world) as sensor:
            source = connection(
                source_id=f"asked-{number}",
                address=sensor.address,
                read=["temperature"],
                interval=0.5,
                connections_max=2,
            )
            await _again(source)
            try:
                return [await _temperature(source) for _ in range(2)]
            finally:
                await source.disconnect()

    async with asyncio.TaskGroup() as group:
        heard = [group.create_task(hear(number)) for number in range(5)]
        asked = [group.create_task(ask(number)) for number in range(5)]
    assert [task.result() for task in heard] == [[0, 1, 2]] * 5
    assert [task.result() for task in asked] == [[0, 1]] * 5


SCENARIOS = (
    active_scan,
    passive_scan,
    a_repeated_advertisement_is_one_reading,
    read,
    notify,
    peer_drop_and_reconnect,
    out_of_range_and_back,
    adapter_off_and_on,
    an_adapter_that_is_off_is_switched_on,
    a_deaf_adapter_is_switched_off_and_on,
    bluetoothd_killed_and_back,
    passive_scan_after_a_monitor_that_came_while_the_adapter_was_off,
    ten_sensors_at_once,
)
