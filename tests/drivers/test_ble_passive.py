"""Passive scans that bluetoothd grants and the kernel refuses, or ends: nobody says so but the monitor that is called back."""

import asyncio

import pytest

from drivers.ble import station, watchdog
from tests.drivers.ble_sources import FIRST, SECOND, advertisements, collect, connected, connection, soon
from tests.rigs.ble.fake_bluez import FakeBluez
from tests.rigs.ble.world import (
    BTHOME,
    ENVIRONMENTAL_SENSING,
    TEMPERATURE,
    Advertisement,
    Characteristic,
    bthome,
    centidegrees,
)


@pytest.fixture
async def bluez(monkeypatch):
    monkeypatch.setattr(station, "BY_ITSELF_S", 0.05)
    async with FakeBluez() as fake:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", fake.bus_address)
        yield fake


def measurement(number):
    return Advertisement(service_data={BTHOME: bthome(number, 2150)})


async def exhaust(source):
    while True:
        await collect(source)


async def lost(source):
    with pytest.raises(ConnectionError) as caught:
        await exhaust(source)
    return str(caught.value)


async def test_nothing_is_asked_of_an_adapter_that_is_off(bluez):
    # A monitor that comes then makes the kernel refuse all that follow.
    sensors = [await bluez.sensor(address) for address in (FIRST, SECOND)]
    first, second = [advertisements(address=sensor.address, manage_adapter=False) for sensor in sensors]
    async with connected(first), connected(second):
        await bluez.power(on=False)
        assert "switched off" in await lost(first)
        assert "switched off" in await lost(second)
        bluez.calls.clear()
        await first.disconnect()  # the other one is still there and wants its scan
        assert not {"RegisterMonitor", "StartDiscovery"} & set(bluez.calls)
        for source in (first, second):
            with pytest.raises(
                ConnectionError
            ):  # says at once what is missing, and from then on waits for it
                await source.connect()
        returning = [asyncio.create_task(source.connect()) for source in (first, second)]
        await bluez.power(on=True)
        await asyncio.gather(*returning)
        assert bluez.monitoring
        for sensor, source in zip(sensors, (first, second), strict=True):
            await sensor.advertise(measurement(1))
            await collect(source)


async def test_a_kernel_that_refuses_monitors_is_scanned_actively(bluez, caplog):
    caplog.set_level("INFO")
    bluez.monitors.busy = True
    sensor = await bluez.sensor(FIRST)
    async with connected(advertisements(address=FIRST)) as source:
        assert bluez.discovering
        sensor.say(measurement(1))
        await collect(source)
    assert "hci0: no passive scan: the kernel refuses the advertisement monitor" in caplog.text
    assert not bluez.discovering


async def test_who_wants_nothing_but_passive_scans_is_told(bluez):
    bluez.monitors.busy = True
    source = advertisements(address=FIRST, scan="passive")
    with pytest.raises(ConnectionError, match="hci0: no passive scan: the kernel refuses the advertisement"):
        await source.connect()
    bluez.monitors.busy = False
    await source.connect()
    assert bluez.monitoring
    await source.disconnect()


async def test_a_passive_scan_that_the_kernel_ends_is_lost_and_started_again(bluez):
    sensor = await bluez.sensor(FIRST)
    async with connected(advertisements(address=FIRST)) as source:
        bluez.monitors.release_all()
        assert await lost(source) == "hci0: bluetoothd has ended the passive scan"
        await source.connect()
        assert bluez.monitoring
        await sensor.advertise(measurement(1))
        await collect(source)


async def test_a_passive_scan_that_nobody_confirms_is_not_waited_for(bluez, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("drivers.ble.radio.SCAN_TIMEOUT_S", 0.2)
    bluez.monitors.mute = True
    async with connected(advertisements(address=FIRST)):
        assert bluez.discovering
    assert "hci0: no passive scan: bluetoothd does not answer" in caplog.text


async def test_a_bluetoothd_that_is_killed_before_it_confirms_is_noticed_at_once(bluez):
    bluez.monitors.mute = True
    source = advertisements(address=FIRST)
    connecting = asyncio.create_task(source.connect())
    await soon(lambda: bluez.monitoring)
    await bluez.kill_bluetoothd()
    with pytest.raises(ConnectionError, match="bluetoothd does not run"):
        async with asyncio.timeout(5):
            await connecting
    await bluez.start_bluetoothd()
    await source.connect()
    assert bluez.monitoring
    await source.disconnect()


async def test_a_connection_that_works_says_nothing_about_the_scan(bluez, monkeypatch):
    monkeypatch.setattr(watchdog, "PATIENCE_LEAST_S", 0.2)
    monkeypatch.setattr(watchdog, "PATIENCE_MOST_S", 0.4)
    await bluez.sensor(FIRST)
    gatt = {ENVIRONMENTAL_SENSING: [Characteristic(TEMPERATURE, centidegrees(0))]}
    talker = await bluez.sensor(SECOND, gatt)
    await talker.advertise(Advertisement(name="talker"))

    async def talk():
        while True:
            await talker.notify(TEMPERATURE, centidegrees(1))
            await asyncio.sleep(0.02)

    async with (
        connected(connection(address=SECOND, notify=["temperature"])),
        connected(advertisements(address=FIRST)) as source,
    ):
        assert bluez.monitoring
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(talk()), group.create_task(source.collect())]
            await soon(lambda: bluez.discovering)
            assert (
                source.explain_silence()
                == "hci0 hears no advertisement at all, though a connection over it works"
            )
            for task in tasks:
                task.cancel()
    assert source.troubles == {"scanned_anew": 1, "scanned_actively": 1}
    assert "Set" not in bluez.calls  # nobody's connection was cut


async def test_a_connect_that_loses_bluetoothd_twice_ends_in_words(bluez):
    # Once as the name goes, and once more as the scan of the other source cannot be started again.
    sensor = await bluez.sensor(SECOND, {ENVIRONMENTAL_SENSING: [Characteristic(TEMPERATURE, b"")]})
    await sensor.advertise(Advertisement(name="sensor"))
    bluez.hanging.add("Connect")
    async with connected(advertisements(address=FIRST)) as other:
        source = connection(address=SECOND, notify=["temperature"])
        connecting = asyncio.create_task(source.connect())
        await soon(lambda: "Connect" in bluez.calls)
        await bluez.kill_bluetoothd()
        with pytest.raises(ConnectionError, match="bluetoothd does not run"):
            async with asyncio.timeout(5):
                await connecting
        assert await lost(other) == "bluetoothd does not run: `systemctl status bluetooth` says why"
