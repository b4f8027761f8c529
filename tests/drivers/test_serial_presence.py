"""A port that is plugged in again is noticed."""

import asyncio
import os
from pathlib import Path

import pytest

from collectors.clock import SystemClock
from collectors.interfaces import Reappearing
from drivers.serial import presence
from drivers.serial.config import SerialConfig
from drivers.serial.source import SerialSource
from tests.rigs.pty import PtySensor


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch):
    monkeypatch.setattr(presence, "LOOK_S", 0.01)


def source(port):
    return SerialSource("soil", SerialConfig(port=port), data_format="json", clock=SystemClock())


async def comes_back(soil, within_s):
    try:
        async with asyncio.timeout(within_s):
            await soil.reappeared()
    except TimeoutError:
        return False
    return True


async def test_a_port_that_was_not_there_and_is_plugged_in(tmp_path):
    sensor = PtySensor(tmp_path)
    soil = source(sensor.port)
    assert isinstance(soil, Reappearing)
    with pytest.raises(ConnectionError):
        await soil.connect()
    assert not await comes_back(soil, 0.1)
    async with sensor:
        assert await comes_back(soil, 5)
        await soil.connect()
        await soil.disconnect()


async def test_a_port_that_comes_back_as_another_terminal(tmp_path):
    async with PtySensor(tmp_path) as sensor:
        soil = source(sensor.port)
        await soil.connect()
        held = os.openpty()  # so that the number of the terminal is not given again
        await sensor.unplug()
        await sensor.plug()
        await soil.disconnect()
        assert await comes_back(soil, 5)
        for descriptor in held:
            os.close(descriptor)


async def test_a_port_that_is_there_and_cannot_be_opened_is_tried_again_in_its_time(tmp_path):
    port = tmp_path / "port"
    port.write_text("")
    soil = source(str(port))
    with pytest.raises(ConnectionError):
        await soil.connect()
    assert not await comes_back(soil, 0.1)
    Path(port).chmod(0o600)  # as udev does when it gives a port to its group
    assert await comes_back(soil, 5)


async def test_a_serial_server_does_not_reappear():
    assert not await comes_back(source("socket://127.0.0.1:1"), 0.05)
