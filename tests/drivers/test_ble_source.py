"""The source of advertisements, on a bluetoothd of our own behind a real D-Bus daemon."""

import asyncio
import logging
from contextlib import asynccontextmanager
from functools import partial

import pytest
from dbus_fast import Message, MessageType

from collectors.clock import SystemClock
from collectors.interfaces import CatchingUp, Listening, Remembering
from collectors.metadata_keys import QUALITY, SENSOR, TAGS, UP_NS
from drivers.ble import bluez as bluez_module
from drivers.ble import source as source_module
from drivers.ble import station as station_module
from drivers.ble import watchdog
from drivers.codecs.advertisement import parse
from tests.drivers.ble_sources import FIRST, SECOND, advertisements, collect, soon
from tests.rigs.ble.fake_bluez import FakeBluez
from tests.rigs.ble.fake_objects import BluezError
from tests.rigs.ble.world import BTHOME, RUUVI, Advertisement, Characteristic, bthome, uuid


@pytest.fixture
async def bluez(monkeypatch):
    monkeypatch.setattr(station_module, "BY_ITSELF_S", 0.05)
    async with FakeBluez() as fake:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", fake.bus_address)
        yield fake


@pytest.fixture
def impatient(monkeypatch):
    """The ladder within a test's time."""
    monkeypatch.setattr(watchdog, "PATIENCE_LEAST_S", 0.1)
    monkeypatch.setattr(watchdog, "PATIENCE_MOST_S", 0.2)


@asynccontextmanager
async def connected(bluez, data_format="bthome", **options):
    source = advertisements(data_format, **options)
    await source.connect()
    await soon(lambda: bluez.discovering or bluez.monitoring)
    try:
        yield source
    finally:
        await source.disconnect()


async def nothing_comes(source, seconds=0.1):
    with pytest.raises(TimeoutError):
        await collect(source, seconds)


def temperature(number, degrees=2150, **more):
    return Advertisement(service_data={BTHOME: bthome(number, degrees)}, **more)


async def test_an_advertisement_becomes_collected_data_stamped_at_arrival(bluez):
    clock = SystemClock()
    sensor = await bluez.sensor(FIRST)
    sensor.rssi = -71
    async with connected(bluez, address=FIRST.lower()) as source:
        before, up_before = clock.now(), clock.boottime_ns()
        sensor.say(temperature(1, tx_power=4))
        data = await collect(source)
        assert before <= data.timestamp <= clock.now()
        assert up_before <= data.metadata[UP_NS] <= clock.boottime_ns()
    assert (data.source_id, data.data_format, data.collection_method) == ("hall", "bthome", "ble")
    assert data.metadata[QUALITY] == {"rssi_dbm": -71.0, "tx_power_dbm": 4.0}
    assert TAGS not in data.metadata
    heard = parse(data.raw_data)
    assert heard.address == FIRST
    assert heard.service_data == {uuid(BTHOME): bthome(1, 2150)}


async def test_a_measurement_said_many_times_is_one_reading(bluez):
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, address=FIRST, scan="active") as source:
        for number in range(3):
            for _ in range(5):
                sensor.say(temperature(number))
        numbers = [parse((await collect(source)).raw_data).service_data[uuid(BTHOME)][2] for _ in range(3)]
        await nothing_comes(source)
    assert numbers == [0, 1, 2]
    assert source.repeats.repeated == 12


async def test_an_old_packet_that_comes_again_is_no_new_reading(bluez):
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, address=FIRST) as source:
        for number in (1, 2, 1, 2, 3):
            sensor.say(temperature(number))
        numbers = [parse((await collect(source)).raw_data).service_data[uuid(BTHOME)][2] for _ in range(3)]
        await nothing_comes(source)
    assert numbers == [1, 2, 3]


class Notes:
    """The memory of a source, in a dictionary."""

    def __init__(self):
        self.noted = {}

    def recall(self):
        return self.noted

    async def note(self, notes):
        self.noted = notes


async def test_a_measurement_that_is_repeated_over_a_restart_is_one_reading(bluez):
    sensor, notes = await bluez.sensor(FIRST), Notes()
    before, after = advertisements(address=FIRST, scan="active"), advertisements(address=FIRST, scan="active")
    assert isinstance(before, Remembering)
    before.use_memory(notes)
    await before.connect()
    for number in (1, 2, 3):
        sensor.say(temperature(number))
    for _ in (1, 2):
        await collect(before)
    waiting = asyncio.create_task(before.collect())  # so that the second is known to be kept
    await asyncio.wait({waiting})
    await soon(lambda: not before._inbox)
    await before.disconnect()  # the third was given out, and perhaps not kept
    after.use_memory(notes)
    await after.connect()
    for number in (1, 2, 3, 4):
        sensor.say(temperature(number))
    heard = [parse((await collect(after)).raw_data).service_data[uuid(BTHOME)][2] for _ in range(2)]
    await after.disconnect()
    assert heard == [3, 4]


async def test_what_was_heard_before_the_memory_was_there_is_not_taken_twice(bluez):
    sensor, notes = await bluez.sensor(FIRST), Notes()
    before, after = advertisements(address=FIRST, scan="active"), advertisements(address=FIRST, scan="active")
    before.use_memory(notes)
    await before.connect()
    for number in (1, 2):
        sensor.say(temperature(number))
    for _ in (1, 2):
        await collect(before)
    waiting = asyncio.create_task(before.collect())  # so that the second is known to be kept
    await asyncio.wait({waiting}, timeout=0.01)
    waiting.cancel()
    await before.disconnect()
    assert isinstance(after, CatchingUp)
    await after.connect()
    sensor.say(temperature(2))
    sensor.say(temperature(3))
    heard = [await collect(after) for _ in range(2)]
    after.use_memory(notes)
    assert list(map(after.catch_up, heard)) == [None, heard[1]]
    after.caught_up()
    for number in (1, 2, 3, 4):
        sensor.say(temperature(number))
    assert parse((await collect(after)).raw_data).service_data[uuid(BTHOME)][2] == 4
    await nothing_comes(after)
    await after.disconnect()
    assert notes.noted["heard"][FIRST] != []


async def test_data_without_a_number_that_was_heard_before_the_memory_was_there_is_kept(bluez):
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, "struct", manufacturer=RUUVI) as source:
        sensor.say(Advertisement(manufacturer_data={RUUVI: b"\x05\x12"}))
        heard = await collect(source)
        source.use_memory(Notes())
        assert source.catch_up(heard) is heard


async def test_data_of_a_company_goes_to_another_codec_alone(bluez):
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, "struct", manufacturer=RUUVI, interval="1 h") as source:
        sensor.say(Advertisement(manufacturer_data={RUUVI: b"\x05\x12", 76: b"\x02\x15"}))
        sensor.say(Advertisement(manufacturer_data={RUUVI: b"\x05\x12"}))
        data = await collect(source)
        await nothing_comes(source)
    assert data.raw_data == b"\x05\x12"
    assert data.metadata[TAGS] == {"address": FIRST}  # there may be several


async def test_data_of_a_service_goes_to_another_codec_alone(bluez):
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, "json", service=BTHOME) as source:
        sensor.say(Advertisement(services=[BTHOME]))  # says that it has it, but gives no data
        sensor.say(Advertisement(service_data={BTHOME: b'{"t":1}'}))
        assert (await collect(source)).raw_data == b'{"t":1}'


@pytest.mark.parametrize(
    "options", [{"address": FIRST}, {"name": "ATC_*"}, {"service": BTHOME, "manufacturer": 76}]
)
def test_which_bytes_are_meant_must_be_said(options):
    with pytest.raises(ValueError, match="Give `manufacturer` or `service`, one of them"):
        advertisements("json", **options)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"address": FIRST}, {FIRST}),
        ({"address": [FIRST, SECOND]}, {FIRST, SECOND}),
        ({"name": "ATC_*"}, {SECOND}),
        ({"service": "0xFCD2"}, {FIRST, SECOND}),
        ({"manufacturer": RUUVI, "service": BTHOME}, {SECOND}),
        ({"address": FIRST, "name": "ATC_*"}, set()),
    ],
)
async def test_every_filter_must_fit(bluez, options, wanted):
    first, second = await bluez.sensor(FIRST), await bluez.sensor(SECOND)
    stranger = await bluez.sensor("C4:4F:33:00:00:03")
    async with connected(bluez, **options) as source:
        first.say(temperature(1, name="kitchen"))
        second.say(temperature(1, name="ATC_123456", manufacturer_data={RUUVI: b"\x05"}))
        stranger.say(Advertisement(name="phone", manufacturer_data={76: b"\x10"}))
        heard = [await collect(source) for _ in wanted]
        await nothing_comes(source, 0.1)
    assert {parse(data.raw_data).address for data in heard} == wanted


async def test_sources_share_one_scan_that_ends_with_the_last(bluez):
    first, second = await bluez.sensor(FIRST), await bluez.sensor(SECOND)
    async with connected(bluez, address=FIRST, scan="active") as one:
        async with connected(bluez, address=SECOND, scan="active") as other:
            first.say(temperature(1))
            second.say(temperature(2))
            assert parse((await collect(one)).raw_data).address == FIRST
            assert parse((await collect(other)).raw_data).address == SECOND
            assert bluez.calls.count("StartDiscovery") == 1
        first.say(temperature(3))
        await collect(one)
        assert bluez.discovering
    assert not bluez.discovering
    assert (bluez.calls.count("StartDiscovery"), bluez.calls.count("StopDiscovery")) == (1, 1)


async def test_two_names_of_one_adapter_are_one_adapter(bluez):
    async with (
        connected(bluez, address=FIRST, scan="active"),
        connected(bluez, address=FIRST, scan="active", adapter="00:11:22:33:44:55"),
    ):
        assert bluez.calls.count("StartDiscovery") == 1


async def test_a_scan_is_passive_where_that_is_enough(bluez):
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, address=FIRST) as source:
        await soon(lambda: bluez.monitoring)
        assert not bluez.discovering
        sensor.say(temperature(1))
        await collect(source)
    assert not bluez.monitoring
    assert "StartDiscovery" not in bluez.calls


async def test_data_without_a_number_needs_an_active_scan(bluez):
    # A passive scan tells what has changed only, never that it was measured again.
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, address=FIRST, interval="50 ms") as source:
        await soon(lambda: bluez.monitoring)
        await sensor.advertise(Advertisement(service_data={BTHOME: bytes.fromhex("4002c409")}))
        for _ in range(4):
            await collect(source)
        assert bluez.discovering
    async with connected(bluez, "struct", manufacturer=RUUVI):
        assert bluez.discovering
    async with connected(bluez, "struct", manufacturer=RUUVI, numbered=True):
        await soon(lambda: bluez.monitoring)


async def test_a_name_needs_an_active_scan_and_then_all_share_it(bluez):
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, address=FIRST) as one:
        await soon(lambda: bluez.monitoring)
        async with connected(bluez, name="hall") as other:
            assert bluez.discovering
            assert not bluez.monitoring
            sensor.say(temperature(1, name="hall"))
            await collect(one)
            await collect(other)
        await soon(lambda: bluez.monitoring)
        assert not bluez.discovering


async def test_a_bluetoothd_that_cannot_scan_passively_scans_actively(monkeypatch):
    async with FakeBluez(experimental=False) as bluez:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluez.bus_address)
        sensor = await bluez.sensor(FIRST)
        async with connected(bluez, address=FIRST) as source:
            assert bluez.discovering
            sensor.say(temperature(1))
            await collect(source)
        only = advertisements(address=FIRST, scan="passive")
        with pytest.raises(
            ConnectionError, match="hci0: no passive scan: passive scanning on Linux requires BlueZ"
        ):
            await only.connect()
        await only.disconnect()


# What goes wrong


async def test_a_killed_bluetoothd_is_noticed_at_once_and_its_return_too(bluez):
    sensor = await bluez.sensor(FIRST)
    await sensor.advertise(temperature(1))
    async with connected(bluez, address=FIRST) as source:
        await collect(source)
        await bluez.kill_bluetoothd()
        with pytest.raises(ConnectionError, match="bluetoothd does not run"):
            await collect(source)
        with pytest.raises(ConnectionError, match="bluetoothd does not run"):
            await source.connect()  # says at once what is missing
        connecting = asyncio.create_task(source.connect())  # and from then on waits for it
        await asyncio.sleep(0.05)
        assert not connecting.done()
        await bluez.start_bluetoothd()
        async with asyncio.timeout(5):
            await connecting
        await sensor.advertise(temperature(2))
        assert parse((await collect(source)).raw_data).service_data == {uuid(BTHOME): bthome(2, 2150)}


async def test_what_was_heard_before_the_loss_comes_first(bluez):
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, address=FIRST) as source:
        await soon(lambda: bluez.monitoring)
        sensor.say(temperature(1))
        sensor.say(temperature(2))
        await soon(lambda: len(source._inbox) == 2)
        await bluez.kill_bluetoothd()
        await soon(lambda: source._inbox.failed)
        await collect(source)
        await collect(source)
        with pytest.raises(ConnectionError):
            await collect(source)


async def test_an_adapter_that_somebody_switched_off_is_switched_on(bluez):
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, address=FIRST) as source:
        await bluez.power(on=False)
        with pytest.raises(ConnectionError, match="the Bluetooth adapter hci0 is switched off"):
            await collect(source)
        await source.connect()
        await sensor.advertise(temperature(1))
        await collect(source)


async def test_an_adapter_that_is_not_ours_to_manage_is_waited_for(bluez):
    sensor = await bluez.sensor(FIRST)
    await bluez.power(on=False)
    source = advertisements(address=FIRST, manage_adapter=False)
    with pytest.raises(ConnectionError, match="the Bluetooth adapter hci0 is switched off"):
        await source.connect()
    connecting = asyncio.create_task(source.connect())
    await asyncio.sleep(0.05)
    assert not connecting.done()
    await bluez.power(on=True)
    async with asyncio.timeout(1):
        await connecting
    await sensor.advertise(temperature(1))
    await collect(source)
    await source.disconnect()


async def test_a_blocked_adapter_names_the_remedy(bluez):
    await bluez.power(on=False)
    bluez.blocked = True
    source = advertisements(address=FIRST)
    with pytest.raises(
        ConnectionError, match="hci0 cannot be switched on: it is blocked: `rfkill unblock bluetooth`"
    ):
        await source.connect()
    await source.disconnect()


async def test_a_missing_adapter_names_those_there_are(bluez):
    source = advertisements(address=FIRST, adapter="hci1")
    with pytest.raises(
        ConnectionError, match=r"no Bluetooth adapter hci1: there is hci0 \(00:11:22:33:44:55\)"
    ):
        await source.connect()
    await bluez.unplug_adapter()
    source = advertisements(address=FIRST)
    with pytest.raises(
        ConnectionError, match=r"no Bluetooth adapter hci0: is it plugged in\? There is none at all"
    ):
        await source.connect()


async def test_an_adapter_that_is_unplugged_and_plugged_goes_on(bluez):
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, address=FIRST) as source:
        await bluez.unplug_adapter()
        with pytest.raises(ConnectionError, match="no Bluetooth adapter hci0"):
            await collect(source)
        with pytest.raises(ConnectionError, match="no Bluetooth adapter hci0"):
            await source.connect()
        connecting = asyncio.create_task(source.connect())
        await bluez.plug_adapter(powered=False)  # bluetoothd powers it a moment later
        await asyncio.sleep(0.05)
        await bluez.power(on=True)
        await connecting
        await sensor.advertise(temperature(1))
        await collect(source)


async def test_no_bus_at_all_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/nothing")
    source = advertisements(address=FIRST)
    with pytest.raises(ConnectionError, match="there is no D-Bus system bus"):
        await source.connect()
    await source.disconnect()


async def test_a_bus_that_ends_is_noticed(bluez):
    async with connected(bluez, address=FIRST) as source:
        bluez.private_bus.stop()
        with pytest.raises(ConnectionError, match="there is no D-Bus system bus"):
            await collect(source)
        with pytest.raises(ConnectionError, match="there is no D-Bus system bus"):
            await source.connect()


async def test_a_bluetoothd_that_hangs_is_said(bluez, monkeypatch):
    monkeypatch.setattr("drivers.ble.radio.SCAN_TIMEOUT_S", 0.1)
    bluez.hanging.add("StartDiscovery")
    source = advertisements(address=FIRST, scan="active")
    with pytest.raises(ConnectionError, match="hci0: no active scan: bluetoothd does not answer"):
        await source.connect()
    bluez.hanging.clear()
    await source.connect()
    await source.disconnect()


async def test_a_bluetoothd_that_is_killed_while_a_scan_begins_is_said(bluez):
    bluez.hanging.add("StartDiscovery")
    connecting = asyncio.create_task(advertisements(address=FIRST, scan="active").connect())
    await soon(lambda: "StartDiscovery" in bluez.calls)
    await bluez.kill_bluetoothd()
    with pytest.raises(ConnectionError, match="hci0: no active scan: bluetoothd ended or did not answer"):
        async with asyncio.timeout(5):
            await connecting


async def test_a_scan_that_an_earlier_request_left_is_ended_first(bluez):
    bluez.errors["StartDiscovery"] = [BluezError("InProgress", "Operation already in progress")]
    async with connected(bluez, address=FIRST, scan="active"):
        assert bluez.calls.count("StopDiscovery") == 1


async def test_a_scan_that_is_refused_is_said_in_words(bluez):
    bluez.errors["StartDiscovery"] = [BluezError("InProgress", "Operation already in progress")] * 2
    source = advertisements(address=FIRST, scan="active")
    with pytest.raises(ConnectionError, match="bluetoothd is still busy with an earlier request"):
        await source.connect()
    await source.connect()
    await source.disconnect()


# Silence


async def test_silence_starts_a_scan_anew_and_a_deaf_adapter_is_switched_off_and_on(bluez, impatient, caplog):
    caplog.set_level(logging.INFO)
    sensor = await bluez.sensor(FIRST)
    await sensor.advertise(temperature(1))
    async with connected(bluez, address=FIRST, scan="active") as source:
        await collect(source)
        bluez.deaf = True
        await sensor.advertise(temperature(2))
        await collect(source)  # only a power cycle makes it hear again
    assert bluez.calls.count("Set") == 2
    assert "hci0: scanning anew" in caplog.text
    assert "hci0 hears nothing: switching it off and on" in caplog.text


async def test_an_adapter_that_hears_others_is_left_alone(bluez, impatient):
    sensor, other = await bluez.sensor(FIRST), await bluez.sensor(SECOND)
    await other.advertise(Advertisement(name="other"))
    async with connected(bluez, address=FIRST, scan="active") as source:
        sensor.say(temperature(1))
        await collect(source)
        waiting = asyncio.create_task(source.collect())
        await soon(lambda: source._watchdog.rung is watchdog.Rung.ALARMED)
        waiting.cancel()
        sensor.say(temperature(2))
        await collect(source)
    assert bluez.calls.count("Set") == 0
    assert bluez.calls.count("StartDiscovery") >= 2


async def test_an_adapter_that_is_not_ours_to_manage_is_not_switched(bluez, impatient):
    async with connected(bluez, address=FIRST, scan="active", manage_adapter=False) as source:
        bluez.deaf = True
        await nothing_comes(source, 0.6)
    assert bluez.calls.count("Set") == 0


async def test_a_passive_scan_that_hears_nothing_becomes_an_active_one(bluez, impatient):
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, address=FIRST) as source:
        waiting = asyncio.create_task(source.collect())
        await soon(lambda: bluez.discovering)
        assert not bluez.monitoring
        sensor.say(temperature(1))
        async with asyncio.timeout(5):
            await waiting
    assert bluez.calls.count("Set") == 0


async def test_a_bluetoothd_that_hangs_while_it_is_looked_after_is_a_lost_link(bluez, impatient, monkeypatch):
    monkeypatch.setattr("drivers.ble.radio.SCAN_TIMEOUT_S", 0.1)
    async with connected(bluez, address=FIRST, scan="active") as source:
        bluez.hanging |= {"StartDiscovery", "StopDiscovery"}
        with pytest.raises(ConnectionError, match="bluetoothd does not answer"):
            await collect(source)
        bluez.hanging.clear()
        await source.connect()


@pytest.mark.parametrize(
    "what", ["an adapter that is plugged in", "an adapter that is switched on", "bluetoothd"]
)
async def test_what_comes_while_it_is_asked_for_is_not_missed(bluez, monkeypatch, what):
    """It is said behind the answer that has it not yet, and heard before whoever asked goes on."""
    go, come, signal, asked_for = {
        "an adapter that is plugged in": (
            bluez.unplug_adapter,
            bluez.plug_adapter,
            "InterfacesAdded",
            "GetManagedObjects",
        ),
        "an adapter that is switched on": (
            partial(bluez.power, on=False),
            partial(bluez.power, on=True),
            "PropertiesChanged",
            "GetManagedObjects",
        ),
        "bluetoothd": (
            bluez.kill_bluetoothd,
            bluez.start_bluetoothd,
            "InterfacesAdded",
            "NameHasOwner",
        ),
    }[what]
    await go()
    here = station_module.Station(SystemClock())
    ask, handle, told = here.bluez._ask, here.bluez._handle, asyncio.Event()

    def handled(message):
        handle(message)
        if message.member == signal:
            told.set()

    async def slow(*question):
        answer = await ask(*question)
        if asked_for in question and not told.is_set():
            await come()
            await told.wait()
        return answer

    monkeypatch.setattr(here.bluez, "_handle", handled)
    monkeypatch.setattr(here.bluez, "_ask", slow)
    try:
        radio = await here.enter("a source", "hci0", manage=False, wait_s=1)
        assert radio.name == "hci0"
    finally:
        await here.leave("a source")


async def test_devices_that_come_and_go_all_the_time_hold_nobody_up(bluez, monkeypatch):
    """Telephones in a crowd, a scan of somebody else's."""
    here = station_module.Station(SystemClock())
    ask, asked = here.bluez._ask, []

    async def in_a_crowd(*question):
        answer = await ask(*question)
        asked.append(question)
        for member, body in (
            ("InterfacesAdded", ["/org/bluez/hci0/dev_1", {bluez_module.DEVICE: {}}]),
            ("InterfacesRemoved", ["/org/bluez/hci0/dev_1", [bluez_module.DEVICE]]),
        ):
            here.bluez._handle(
                Message(
                    message_type=MessageType.SIGNAL,
                    path="/",
                    interface="org.freedesktop.DBus.ObjectManager",
                    member=member,
                    body=body,
                )
            )
        return answer

    monkeypatch.setattr(bluez_module, "CALL_TIMEOUT_S", 2.0)
    monkeypatch.setattr(here.bluez, "_ask", in_a_crowd)
    try:
        radio = await here.enter("a source", "hci0", manage=False, wait_s=1)
        assert radio.name == "hci0"
    finally:
        await here.leave("a source")
    assert len([each for each in asked if "GetManagedObjects" in each]) == 1


async def test_silence_is_explained(bluez, impatient):
    sensor, other = await bluez.sensor(FIRST), await bluez.sensor(SECOND)
    async with connected(bluez, address=FIRST, scan="active") as source:
        assert isinstance(source, Listening)
        sensor.say(temperature(1))
        await collect(source)
        assert source.usual_silence_s() is None  # it was heard just now
        await soon(source.usual_silence_s)
        assert source.explain_silence() == "hci0 hears nothing at all"
        assert source.remarks == []
        source._watchdog.rung = watchdog.Rung.ALARMED
        assert source.explain_silence().startswith(
            "hci0 hears nothing at all, though the scan was started anew and it was switched off and on: "
        )
        assert source.remarks == [source.explain_silence()]
        other.say(Advertisement(name="other"))
        await soon(lambda: "hci0 hears others: it is out of range or off" in source.explain_silence())
        assert source.remarks == []
    assert source.explain_silence() == ""
    async with connected(bluez, address=SECOND, scan="active") as source:
        other.say(Advertisement(manufacturer_data={RUUVI: b"\x05"}))
        told = "it is heard, but 1 advertisements had no data of the service 0xFCD2 in them"
        await soon(lambda: told in source.explain_silence())
        assert source.troubles == {"without_data": 1}


async def test_a_sensor_that_says_the_same_for_ever_is_heard_and_says_nothing_new(bluez):
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, address=FIRST, scan="active", silent_after=30) as source:
        sensor.say(temperature(1))
        await soon(lambda: len(source._inbox) == 1)
        assert source.explain_silence() == (
            "it was heard 0 s ago, and what it said waits for the pipeline, which is too slow or stands still"
        )
        await collect(source)
        for _ in range(3):
            sensor.say(temperature(1))
        await soon(lambda: source.repeats.repeated > 0)
        assert source.explain_silence() == (
            "it was heard 0 s ago, but repeats what it said before: it measures nothing new, or hangs"
        )
        await source.disconnect()
        await source.connect()  # of what was heard before, nothing is known to be there still
        assert source.explain_silence() == "hci0 hears nothing at all"


async def test_several_sensors_are_told_apart_and_their_rates_learned(bluez, impatient):
    first, second = await bluez.sensor(FIRST), await bluez.sensor(SECOND)
    async with connected(bluez, service=BTHOME, scan="active") as source:
        for number in range(6):
            first.say(temperature(number))
            second.say(temperature(number))
            assert {(await collect(source)).metadata[SENSOR] for _ in range(2)} == {FIRST, SECOND}
        assert source.usual_silence_s() == pytest.approx(0.1, abs=0.2)


async def test_a_deaf_adapter_is_said_loudly_once_the_ladder_has_ended(bluez, impatient, caplog):
    async with connected(bluez, address=FIRST, scan="active") as source:
        waiting = asyncio.create_task(source.collect())
        await soon(lambda: "hci0 hears nothing at all, though the scan was started anew" in caplog.text)
        waiting.cancel()
    assert source.troubles == {"scanned_anew": 1, "switched_off_and_on": 1}


async def test_disconnecting_ends_a_source_that_waits(bluez):
    async with connected(bluez, address=FIRST) as source:
        waiting = asyncio.create_task(source.collect())
        await asyncio.sleep(0)
        await source.disconnect()
        with pytest.raises(ConnectionError, match="disconnected"):
            await waiting


async def test_what_finds_no_room_is_told_and_taken_when_it_is_said_again(bluez, monkeypatch, caplog):
    monkeypatch.setattr(source_module, "WAITING_MAX", 5)
    sensor = await bluez.sensor(FIRST)
    async with connected(bluez, address=FIRST, scan="active") as source:
        for number in range(20):
            sensor.say(temperature(number))
        await soon(lambda: source.troubles["no_room"] == 15)
        heard = [parse((await collect(source)).raw_data).service_data[uuid(BTHOME)][2] for _ in range(5)]
        sensor.say(temperature(19))
        heard.append(parse((await collect(source)).raw_data).service_data[uuid(BTHOME)][2])
    assert heard == [0, 1, 2, 3, 4, 19]
    assert caplog.text.count("the pipeline is too slow") == 1


async def test_connecting_to_a_sensor_is_no_advertisement_of_it(bluez):
    # bluetoothd tells the property Connected with everything that it remembers of the sensor.
    sensor = await bluez.sensor(FIRST, {0x181A: [Characteristic(0x2A6E, b"\0\0")]})
    async with connected(bluez, address=FIRST, scan="active", numbered=False, interval="1 ms") as source:
        sensor.say(temperature(1))
        await collect(source)
        bluez.tree.change(sensor.path, "org.bluez.Device1", {}, ["RSSI"])
        await sensor.connect()
        await nothing_comes(source)
