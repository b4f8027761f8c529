"""The source of characteristics, on a bluetoothd of our own behind a real D-Bus daemon."""

import asyncio
import time
from itertools import count, pairwise

import pytest
from pydantic import ValidationError

from collectors.clock import SystemClock
from collectors.metadata_keys import FRAME_ERROR, QUALITY, TAGS, UP_NS
from drivers.ble import gatt_link, gatt_source, station, watchdog
from drivers.ble.config import GattConfig
from drivers.ble.connections import Connections
from drivers.codecs import codec
from drivers.codecs.gatt import parse
from drivers.registry import DRIVERS
from tests.drivers.ble_sources import FIRST, SECOND, collect, connected, connection, soon
from tests.rigs.ble.fake_bluez import FakeBluez
from tests.rigs.ble.fake_objects import BluezError
from tests.rigs.ble.world import (
    ENVIRONMENTAL_SENSING,
    HUMIDITY,
    TEMPERATURE,
    Advertisement,
    Characteristic,
    centidegrees,
    uuid,
)

HERE = Advertisement(name="sensor")
BATTERY = 0x2A19


@pytest.fixture
async def bluez(monkeypatch):
    monkeypatch.setattr(station, "BY_ITSELF_S", 0.05)
    async with FakeBluez() as fake:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", fake.bus_address)
        yield fake


async def thermometer(bluez, address=FIRST, **more):
    """A sensor that counts how often it was asked, in hundredths of a degree."""
    asked = count()
    gatt = {
        ENVIRONMENTAL_SENSING: [
            Characteristic(TEMPERATURE, lambda: centidegrees(next(asked))),
            Characteristic(HUMIDITY, b"\xbf\x13", flags=["read"]),
        ]
    }
    sensor = await bluez.sensor(address, gatt)
    await sensor.advertise(HERE)
    return sensor


def values(data):
    (decoded,) = codec(data.data_format)(data.raw_data)
    return decoded.values


# Notifications


async def test_notifications_come_in_order_and_none_is_lost(bluez):
    sensor = await thermometer(bluez)
    clock = SystemClock()
    async with connected(connection(notify=["temperature"])) as source:
        up_before = clock.boottime_ns()
        for number in range(500):
            assert await sensor.notify(TEMPERATURE, centidegrees(number))
        got = [await collect(source) for _ in range(500)]
        assert not bluez.discovering  # nothing is scanned for once the sensor is connected
    assert [values(data)["temperature"] for data in got] == [number / 100 for number in range(500)]
    first = got[0]
    assert (first.source_id, first.data_format, first.collection_method) == ("hall", "gatt", "gatt")
    assert up_before <= first.metadata[UP_NS] <= clock.boottime_ns()
    assert first.metadata[QUALITY] == {"rssi_dbm": -60.0}
    assert TAGS not in first.metadata


async def test_equal_notifications_are_all_kept(bluez):
    sensor = await thermometer(bluez)
    async with connected(connection(notify=["temperature"])) as source:
        for _ in range(5):
            await sensor.notify(TEMPERATURE, centidegrees(2150))
        for _ in range(5):
            assert values(await collect(source)) == {"temperature": 21.5}


async def test_another_codec_gets_the_value_alone_and_the_tag_says_which(bluez):
    sensor = await thermometer(bluez)
    async with connected(connection("struct", notify=[TEMPERATURE], read=["humidity"])) as source:
        read = await collect(source)
        await sensor.notify(TEMPERATURE, b"\x01\x02")
        notified = await collect(source)
    assert (read.raw_data, read.metadata[TAGS]) == (b"\xbf\x13", {"characteristic": "0x2A6F"})
    assert (notified.raw_data, notified.metadata[TAGS]) == (b"\x01\x02", {"characteristic": "0x2A6E"})


async def test_a_sensor_that_drops_the_connection_is_connected_to_again(bluez):
    sensor = await thermometer(bluez)
    async with connected(connection(notify=["temperature"])) as source:
        for number in range(5):
            await source.connect()
            await sensor.notify(TEMPERATURE, centidegrees(number))
            await sensor.drop()
            assert values(await collect(source)) == {"temperature": number / 100}  # came before the loss
            with pytest.raises(ConnectionError, match=f"{FIRST}: the connection ended"):
                await collect(source)
    assert sensor.connects == 5


async def test_bluetoothd_killed_is_a_lost_connection_whatever_bleak_says(bluez):
    sensor = await thermometer(bluez)
    async with connected(connection(notify=["temperature"])) as source:
        await sensor.notify(TEMPERATURE, centidegrees(1))
        await collect(source)
        await bluez.kill_bluetoothd()
        with pytest.raises(ConnectionError, match="bluetoothd does not run"):
            await collect(source, 1)
        with pytest.raises(ConnectionError, match="bluetoothd does not run"):
            await source.connect()
        connecting = asyncio.create_task(source.connect())
        await bluez.start_bluetoothd()
        async with asyncio.timeout(5):
            await connecting
        await sensor.notify(TEMPERATURE, centidegrees(2))
        assert values(await collect(source)) == {"temperature": 0.02}


async def test_a_sensor_out_of_range_is_waited_for_and_holds_up_nobody(bluez, monkeypatch):
    monkeypatch.setattr(gatt_source, "PATIENT_S", 0.3)
    sensor, other = await thermometer(bluez), await thermometer(bluez, SECOND)
    async with connected(connection(notify=["temperature"], connections_max=1)) as source:
        await sensor.leave()
        with pytest.raises(ConnectionError, match="the connection ended"):
            await collect(source)
        connecting = asyncio.create_task(source.connect())
        await asyncio.sleep(0.05)
        async with connected(connection(address=SECOND, read=["temperature"], connections_max=1)) as second:
            await collect(second)  # though there is one connection only
        with pytest.raises(ConnectionError, match=r"not heard for 0\.3 s: it is out of range or off"):
            await connecting
        assert sensor.connects == 1  # nobody tried to connect to what is not heard
        connecting = asyncio.create_task(source.connect())
        await asyncio.sleep(0.05)
        await sensor.come_back()
        await connecting
        await sensor.notify(TEMPERATURE, centidegrees(7))
        assert values(await collect(source)) == {"temperature": 0.07}
    assert other.connects == 1


async def test_a_connection_that_outlived_us_is_taken_over(bluez):
    # bluetoothd keeps the connection of a program that was killed, and a connected sensor does not advertise.
    sensor = await thermometer(bluez)
    async with connected(connection(notify=["temperature"])):
        pass
    await sensor.connect()
    assert sensor.connected
    async with connected(connection(notify=["temperature"])) as source:
        await sensor.notify(TEMPERATURE, centidegrees(3))
        assert values(await collect(source)) == {"temperature": 0.03}


async def test_an_adapter_switched_off_is_a_lost_connection_and_comes_back(bluez):
    sensor = await thermometer(bluez)
    async with connected(connection(notify=["temperature"])) as source:
        await bluez.power(on=False)
        with pytest.raises(ConnectionError, match=r"switched off|connection ended"):
            await collect(source)
        await source.connect()
        await sensor.notify(TEMPERATURE, centidegrees(1))
        await collect(source)


async def test_silence_of_a_sensor_that_answers_is_not_a_lost_connection(bluez, monkeypatch):
    monkeypatch.setattr(watchdog, "PATIENCE_MOST_S", 0.1)
    sensor = await thermometer(bluez)
    async with connected(connection(notify=["temperature"])) as source:
        with pytest.raises(TimeoutError):
            await collect(source, 0.5)
        assert bluez.calls.count("ReadValue") >= 3  # the humidity: not what is notified
        await sensor.notify(TEMPERATURE, centidegrees(1))
        assert values(await collect(source)) == {"temperature": 0.01}
    assert sensor.connects == 1


async def test_silence_of_a_sensor_that_does_not_answer_is_a_lost_connection(bluez, monkeypatch):
    monkeypatch.setattr(watchdog, "PATIENCE_MOST_S", 0.1)
    monkeypatch.setattr(gatt_link, "ANSWER_TIMEOUT_S", 0.1)
    await thermometer(bluez)
    async with connected(connection(notify=["temperature"])) as source:
        bluez.hanging.add("ReadValue")
        with pytest.raises(
            ConnectionError, match="no notification for 0 s, and it does not answer: connecting anew"
        ):
            await collect(source)
        bluez.hanging.clear()


async def test_a_sensor_that_cannot_be_asked_is_connected_to_anew_ever_more_rarely(bluez, monkeypatch):
    monkeypatch.setattr(watchdog, "PATIENCE_MOST_S", 0.05)
    sensor = await bluez.sensor(FIRST, {ENVIRONMENTAL_SENSING: [Characteristic(TEMPERATURE, b"\0\0")]})
    await sensor.advertise(HERE)
    pauses = []
    async with connected(connection(notify=["temperature"])) as source:
        for _ in range(4):
            began = time.monotonic()
            with pytest.raises(ConnectionError, match="there is nothing that it could be asked for"):
                await collect(source)
            pauses.append(time.monotonic() - began)
            await source.connect()
    assert all(later > 1.3 * sooner for sooner, later in pairwise(pauses))
    assert sum(pauses) >= 15 * 0.05


# Readings


async def test_what_is_read_together_is_one_reading_on_a_schedule_without_drift(bluez):
    await thermometer(bluez)
    async with connected(connection(read=["temperature", "humidity"], interval=0.1)) as source:
        times = []
        for number in range(8):
            data = await collect(source)
            times.append(time.monotonic())
            assert values(data) == {"temperature": number / 100, "humidity": 50.55}
            await asyncio.sleep(0.04)  # the pipeline takes its time
    assert 0.65 < times[-1] - times[0] < 0.9  # and not 7 times 0.14 s


async def test_a_connection_is_held_for_the_next_reading_only_when_that_is_soon(bluez, monkeypatch):
    sensor = await thermometer(bluez)
    async with connected(connection(read=["temperature"], interval=0.1)) as source:
        for _ in range(3):
            await collect(source)
        assert sensor.connects == 1
    monkeypatch.setattr(gatt_source, "HOLD_MOST_S", 0.05)
    async with connected(connection(read=["temperature"], interval=0.1)) as source:
        for _ in range(3):
            await collect(source)
            await soon(lambda: not sensor.connected)
    assert sensor.connects == 4


async def test_ten_sensors_are_read_in_turns_over_two_connections(bluez):
    addresses = [f"C4:4F:33:00:01:{number:02X}" for number in range(10)]
    sensors = [await thermometer(bluez, address) for address in addresses]
    most = 0

    async def watch():
        nonlocal most
        while True:
            most = max(most, sum(sensor.connected for sensor in sensors))
            await asyncio.sleep(0.001)

    async def read(address):
        async with connected(
            connection(
                source_id=address, address=address, read=["temperature"], interval=0.2, connections_max=2
            )
        ) as source:
            return [values(await collect(source, 20))["temperature"] for _ in range(3)]

    watching = asyncio.create_task(watch())
    async with asyncio.TaskGroup() as group:
        reading = [group.create_task(read(address)) for address in addresses]
    watching.cancel()
    assert [task.result() for task in reading] == [[0.0, 0.01, 0.02]] * 10
    assert most == 2


async def test_a_slow_disconnect_of_one_sensor_delays_no_notification_of_another(bluez):
    slow, other = await thermometer(bluez), await thermometer(bluez, SECOND)
    slow.disconnect_takes_s = 0.5
    async with connected(connection(address=SECOND, notify=["temperature"])) as source:
        reader = connection(read=["temperature"], interval=10)
        await reader.connect()
        await collect(reader)
        leaving = asyncio.create_task(reader.disconnect())
        for number in range(10):
            await other.notify(TEMPERATURE, centidegrees(number))
            assert values(await collect(source, 0.2)) == {"temperature": number / 100}
        assert not leaving.done()
        await leaving


async def test_a_disconnect_that_never_ends_is_said_and_gives_its_place_free(bluez, monkeypatch):
    monkeypatch.setattr(gatt_link, "ANSWER_TIMEOUT_S", 0.1)
    sensor = await thermometer(bluez)
    source = connection(read=["temperature"], connections_max=1)
    await source.connect()
    bluez.hanging.add("Disconnect")
    with pytest.raises(ConnectionError, match=f"{FIRST}: not disconnected: bluetoothd does not answer"):
        await source.disconnect()
    bluez.hanging.clear()
    sensor.go_down()
    async with connected(connection(read=["temperature"], connections_max=1)) as again:
        await collect(again)


async def test_a_refusal_is_set_aside_and_several_end_the_connection(bluez):
    sensor = await thermometer(bluez)
    refusal = BluezError("Failed", "Operation failed with ATT error: 0x0e")
    sensor.read_errors = [refusal]
    async with connected(connection(read=["temperature"], interval=0.1)) as source:
        data = await collect(source)
        assert (
            data.metadata[FRAME_ERROR]
            == f"{FIRST}: 0x2A6E cannot be read: GATT Protocol Error: Unlikely Error"
        )
        assert values(await collect(source)) == {"temperature": 0.0}
        sensor.read_errors = [refusal] * 3
        for _ in range(2):
            assert FRAME_ERROR in (await collect(source)).metadata
        with pytest.raises(ConnectionError, match="3 times in a row"):
            await collect(source)


async def test_a_read_without_answer_is_a_lost_connection(bluez, monkeypatch):
    monkeypatch.setattr(gatt_link, "ANSWER_TIMEOUT_S", 0.1)
    await thermometer(bluez)
    async with connected(connection(read=["temperature"])) as source:
        bluez.hanging.add("ReadValue")
        with pytest.raises(ConnectionError, match="0x2A6E cannot be read: it does not answer"):
            await collect(source)


# What keeps from connecting


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"notify": ["pressure"]}, "the characteristic 0x2A6D is not there; there are 0x2A6E, 0x2A6F"),
        ({"notify": ["humidity"]}, "the characteristic 0x2A6F cannot be used to notify, only to read"),
    ],
)
async def test_what_the_sensor_does_not_have_is_said(bluez, options, message):
    sensor = await thermometer(bluez)
    source = connection(**options)
    with pytest.raises(ConnectionError, match=message):
        await source.connect()
    assert not sensor.connected


async def test_a_connection_that_fails_is_said_and_tried_again(bluez, monkeypatch):
    sensor = await thermometer(bluez)
    sensor.connect_errors = [BluezError("Failed", "Software caused connection abort")]
    source = connection(notify=["temperature"])
    with pytest.raises(ConnectionError, match=f"{FIRST}: no connection: Software caused connection abort"):
        await source.connect()
    monkeypatch.setattr(GattConfig, "connect_timeout", 0.2, raising=False)
    await source.connect()
    await source.disconnect()


@pytest.mark.parametrize("fault", ["slow", "unresolved"])
async def test_a_connection_that_takes_too_long_is_broken_off(bluez, fault):
    sensor = await thermometer(bluez)
    sensor.connect_takes_s = 9 if fault == "slow" else 0
    sensor.resolves = fault != "unresolved"
    source = connection(notify=["temperature"], connect_timeout=0.2)
    with pytest.raises(ConnectionError, match=r"it did not connect within 0\.2 s, though it was heard"):
        await source.connect()
    assert not sensor.connected
    sensor.connect_takes_s, sensor.resolves = 0, True
    await source.connect()
    await source.disconnect()


async def test_cancelling_a_connect_leaves_nothing_behind(bluez):
    sensor = await thermometer(bluez)
    sensor.connect_takes_s = 9
    source = connection(notify=["temperature"], connections_max=1)
    connecting = asyncio.create_task(source.connect())
    await soon(lambda: "Connect" in bluez.calls)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert not bluez.discovering
    sensor.connect_takes_s = 0
    async with connected(connection(notify=["temperature"], connections_max=1)):
        pass


@pytest.mark.parametrize(
    ("vanishes", "comes_back", "words"),
    [
        (FakeBluez.unplug_adapter, FakeBluez.plug_adapter, "there is no Bluetooth adapter hci0"),
        (FakeBluez.kill_bluetoothd, FakeBluez.start_bluetoothd, "bluetoothd"),
        (lambda bluez: bluez.power(on=False), lambda bluez: bluez.power(on=True), "hci0 is switched off"),
    ],
    ids=["adapter", "bluetoothd", "power"],
)
async def test_what_vanishes_during_a_connect_ends_it_at_once(bluez, vanishes, comes_back, words):
    sensor = await thermometer(bluez)
    sensor.connect_takes_s = 9
    source = connection(notify=["temperature"], manage_adapter=False)
    connecting = asyncio.create_task(source.connect())
    await soon(lambda: "Connect" in bluez.calls)
    await vanishes(bluez)
    with pytest.raises(ConnectionError, match=words):
        async with asyncio.timeout(2):
            await connecting
    sensor.connect_takes_s = 0
    await comes_back(bluez)
    async with connected(source):
        pass


async def test_no_place_for_a_connection_is_said(bluez, monkeypatch):
    monkeypatch.setattr(gatt_link, "TURN_TIMEOUT_S", 0.1)
    await thermometer(bluez)
    await thermometer(bluez, SECOND)
    async with connected(connection(notify=["temperature"], connections_max=1)):
        other = connection(address=SECOND, read=["temperature"], connections_max=1)
        with pytest.raises(ConnectionError, match=r"hci0 had no connection to spare for 0\.1 s: 1 are held"):
            await other.connect()


async def test_a_sensor_that_is_sought_in_vain_by_a_deaf_adapter_has_it_switched_off_and_on(
    bluez, monkeypatch
):
    monkeypatch.setattr(gatt_source, "PATIENT_S", 0.05)
    monkeypatch.setattr(gatt_source, "PATIENCE_MOST_S", 0.08)
    await thermometer(bluez)
    bluez.deaf = True
    source = connection(notify=["temperature"])
    for _ in range(2):
        with pytest.raises(ConnectionError, match="not heard"):
            await source.connect()
    assert bluez.calls.count("Set") == 2
    monkeypatch.setattr(gatt_source, "PATIENT_S", 5)
    await source.connect()
    await source.disconnect()


async def test_not_connected_is_said(bluez):
    source = connection(notify=["temperature"])
    await source.disconnect()
    with pytest.raises(ConnectionError, match="the GATT source 'hall' is not connected"):
        await source.collect()


# Places for connections


async def test_places_are_given_in_the_order_of_asking():
    connections, order = Connections(), []

    async def turn(name):
        await connections.acquire(name, 2)
        order.append(name)

    tasks = [asyncio.create_task(turn(name)) for name in "abcde"]
    await asyncio.sleep(0)
    assert (order, connections.contended, connections.held) == (["a", "b"], True, 2)
    tasks[2].cancel()  # c gives up
    await asyncio.wait({tasks[2]})
    for name in "ab":
        connections.release(name)
        await asyncio.sleep(0)
    assert order == ["a", "b", "d", "e"]
    connections.release("nobody")
    assert (connections.contended, connections.held) == (False, 2)


async def test_the_smallest_number_of_places_counts_for_all():
    connections = Connections()
    await connections.acquire("modest", 1)
    waiting = asyncio.create_task(connections.acquire("greedy", 9))
    await asyncio.sleep(0)
    assert not waiting.done()
    connections.release("modest")
    await waiting


async def test_a_place_given_at_the_moment_of_giving_up_goes_to_the_next():
    connections = Connections()
    await connections.acquire("a", 1)
    waiting = asyncio.create_task(connections.acquire("b", 1))
    await asyncio.sleep(0)
    connections.release("a")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(connections.acquire("c", 1), 1)


# Configuration


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Give `notify`, `read`, or both"),
        ({"notify": ["temperature"], "read": ["0x2A6E"]}, "the characteristic 0x2A6E is there twice"),
        ({"read": ["warmth"]}, "or one of battery, elevation, pressure, temperature, humidity"),
        ({"read": ["temperature"], "interval": "1 ms"}, "greater than or equal to 0.1"),
        ({"read": ["temperature"], "connections_max": 0}, "greater than or equal to 1"),
    ],
)
def test_a_wrong_configuration_says_what_would_be_right(options, message):
    with pytest.raises(ValidationError, match=message):
        GattConfig(address=FIRST, **options)


def test_a_codec_for_advertisements_is_refused():
    with pytest.raises(ValueError, match='that is `driver = "ble"`'):
        connection("bthome", notify=["temperature"])


def test_characteristics_have_names():
    config = GattConfig(
        address=FIRST,
        notify=["temperature", "heart_rate"],
        read=[0x2A19, "6e400003-b5a3-f393-e0a9-e50e24dcca9e"],
    )
    assert config.notify == [uuid(TEMPERATURE), uuid(0x2A37)]
    assert config.read == [uuid(BATTERY), "6e400003-b5a3-f393-e0a9-e50e24dcca9e"]
    assert parse(b"") == []


def test_each_step_of_connecting_may_run_into_its_own_limit_which_says_what_is_wrong():
    """Not into the one of the whole, which cannot say that, for example, other sensors hold all connections."""
    bounds = GattConfig.model_fields["connect_timeout"].metadata
    (connecting_s,) = [bound.le for bound in bounds if hasattr(bound, "le")]
    beforehand_s = (
        2 * gatt_source.PATIENT_S + gatt_link.TURN_TIMEOUT_S
    )  # for the adapter, to be heard, for a place
    steps_s = beforehand_s + connecting_s + gatt_link.CLEANUP_S + gatt_link.ANSWER_TIMEOUT_S
    assert steps_s < DRIVERS["gatt"].registration["connect_timeout_s"]
