"""What is heard on the air is proposed: on a bluetoothd of our own behind a real D-Bus daemon."""

import asyncio

import pytest

from agent.composition import catalogue
from agent.config import load_config
from agent.discover.look import look_around
from agent.discover.text import toml
from drivers.ble.discover import BleScout
from tests.drivers.ble_sources import FIRST, SECOND, soon
from tests.rigs.ble.fake_bluez import FakeBluez
from tests.rigs.ble.world import BTHOME, Advertisement, bthome

THIRD = "C4:4F:33:00:00:03"


@pytest.fixture
async def bluez(monkeypatch):
    async with FakeBluez() as fake:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", fake.bus_address)
        yield fake


async def test_sensors_on_the_air_are_proposed(bluez, tmp_path):
    known, encrypted, stranger = [await bluez.sensor(address) for address in (FIRST, SECOND, THIRD)]
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look_around([BleScout()], 1.0, lambda *_: None))
        await soon(lambda: bluez.discovering)
        known.say(Advertisement(service_data={BTHOME: bthome(1, 2150)}))
        encrypted.say(Advertisement(service_data={BTHOME: b"\x41" + bytes(12)}))
        stranger.say(Advertisement(manufacturer_data={0x004C: b"\x10\x05"}))
    findings = looking.result()
    proposed = {finding.source["address"]: finding for finding in findings if finding.source}
    assert set(proposed) == {FIRST, SECOND}
    assert proposed[FIRST].source["codec"] == "bthome"
    assert any("key = {" in note for note in proposed[SECOND].notes)
    assert findings[-1].what == "1 further Bluetooth devices say nothing that is known"
    file = tmp_path / "found.toml"
    await asyncio.to_thread(file.write_text, toml(findings))
    config = await asyncio.to_thread(load_config, file, catalogue())
    assert [source.driver for source in config.source] == ["ble", "ble"]


async def test_whoever_has_seen_enough_gets_what_was_heard(bluez):
    sensor, scout, enough = await bluez.sensor(FIRST), BleScout(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look_around([scout], 600.0, lambda *_: None, enough))
        await soon(lambda: bluez.discovering)
        sensor.say(Advertisement(service_data={BTHOME: bthome(1, 2150)}))
        await soon(lambda: scout._heard)
        enough.set()
    assert [finding.source["address"] for finding in looking.result()] == [FIRST]
    assert not bluez.discovering


async def test_without_bluetoothd_that_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    (finding,) = await look_around([BleScout()], 0.3, lambda *_: None)
    assert finding.source is None
    assert "Bluetooth adapter hci0" in finding.what
