"""Every source, mock and real, with the world that it measures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from collectors import IDataSource, SystemClock
from collectors.examples import Thermometer
from collectors.mocks import MockDataSource
from drivers.ble.config import BleConfig, GattConfig
from drivers.ble.gatt_source import GattSource
from drivers.ble.source import BleSource
from drivers.mqtt.config import MqttSourceConfig
from drivers.mqtt.source import MqttSource
from drivers.registry import load_config_class, load_source_class
from drivers.serial.config import SerialConfig
from drivers.serial.poll_config import PollConfig
from drivers.serial.source import SerialSource
from drivers.simulated.config import SimulatedConfig
from drivers.simulated.source import SimulatedSource
from drivers.transport.mqtt import MqttConnection
from drivers.transport.mqtt_options import options_from_url
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
from tests.rigs.example_driver import installed
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.polled_sensor import PolledSensor
from tests.rigs.pty import PtySensor, SocketSensor

SAMPLE = b'{"temperature": 21.5}'


@dataclass
class SourceRig:
    """A source that is not connected yet, and the world that it measures."""

    source: IDataSource
    deliver: Callable[[], Awaitable[None]]
    """Make the world send something, once the source is connected."""


async def _nothing() -> None:
    pass


@asynccontextmanager
async def _mock() -> AsyncIterator[SourceRig]:
    yield SourceRig(MockDataSource("sensor", SAMPLE, data_format="json"), _nothing)


@asynccontextmanager
async def _example() -> AsyncIterator[SourceRig]:
    yield SourceRig(Thermometer("sensor", [21.5] * 100), _nothing)


@asynccontextmanager
async def _simulated() -> AsyncIterator[SourceRig]:
    config = SimulatedConfig(rate=1000)
    yield SourceRig(SimulatedSource("sensor", config, data_format="json", clock=SystemClock()), _nothing)


@asynccontextmanager
async def _serial() -> AsyncIterator[SourceRig]:
    with TemporaryDirectory() as directory:
        async with PtySensor(Path(directory)) as sensor:
            config = SerialConfig(port=sensor.port)
            source = SerialSource("sensor", config, data_format="json", clock=SystemClock())
            yield SourceRig(source, lambda: sensor.write(SAMPLE + b"\n"))


@asynccontextmanager
async def _serial_polled() -> AsyncIterator[SourceRig]:
    with TemporaryDirectory() as directory:
        async with PtySensor(Path(directory)) as sensor, PolledSensor(sensor, lambda *_: SAMPLE + b"\n"):
            config = SerialConfig(port=sensor.port, poll=PollConfig(request="?\n", interval=0.01))
            yield SourceRig(SerialSource("sensor", config, data_format="json", clock=SystemClock()), _nothing)


@asynccontextmanager
async def _serial_server() -> AsyncIterator[SourceRig]:
    async with SocketSensor() as sensor:
        config = SerialConfig(port=sensor.port)
        source = SerialSource("sensor", config, data_format="json", clock=SystemClock())
        yield SourceRig(source, lambda: sensor.write(SAMPLE + b"\n"))


@asynccontextmanager
async def _mqtt() -> AsyncIterator[SourceRig]:
    with Mosquitto() as broker:
        config = MqttSourceConfig(url=broker.url, topics=["sensors/#"], client_id="device")
        source = MqttSource("sensor", config, data_format="json", clock=SystemClock())
        async with MqttConnection(options_from_url(broker.url, client_id="sensor")) as sensor:
            yield SourceRig(source, lambda: sensor.publish("sensors/soil", SAMPLE))


@asynccontextmanager
async def _ble() -> AsyncIterator[SourceRig]:
    async with FakeBluez() as bluez:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluez.bus_address)
            sensor = await bluez.sensor("C4:4F:33:00:00:01")
            numbers = count()

            async def deliver() -> None:
                await sensor.advertise(Advertisement(service_data={BTHOME: bthome(next(numbers), 2150)}))

            config = BleConfig(address=[sensor.address])
            yield SourceRig(BleSource("sensor", config, data_format="bthome", clock=SystemClock()), deliver)


@asynccontextmanager
async def _gatt() -> AsyncIterator[SourceRig]:
    async with FakeBluez() as bluez:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluez.bus_address)
            temperature = Characteristic(TEMPERATURE, centidegrees(2150))
            sensor = await bluez.sensor("C4:4F:33:00:00:01", {ENVIRONMENTAL_SENSING: [temperature]})
            await sensor.advertise(Advertisement(name="sensor"))

            async def deliver() -> None:
                await sensor.notify(TEMPERATURE, centidegrees(2150))

            config = GattConfig(address=sensor.address, notify=["temperature"])
            yield SourceRig(GattSource("sensor", config, data_format="gatt", clock=SystemClock()), deliver)


@asynccontextmanager
async def _template() -> AsyncIterator[SourceRig]:
    await asyncio.to_thread(installed)
    config_class = await asyncio.to_thread(load_config_class, "sysfs")
    source_class = await asyncio.to_thread(load_source_class, "sysfs")
    with TemporaryDirectory() as directory:
        path = Path(directory) / "temp"
        path.write_text("21500\n")
        config = config_class.model_validate({"path": path, "interval": 0.01})
        yield SourceRig(source_class("sensor", config, data_format="scaled", clock=SystemClock()), _nothing)


SOURCES: dict[str, Callable[[], AbstractAsyncContextManager[SourceRig]]] = {
    "MockDataSource": _mock,
    "Thermometer": _example,
    "SimulatedSource": _simulated,
    "SerialSource on a pseudo-terminal": _serial,
    "SerialSource behind a socket": _serial_server,
    "MqttSource": _mqtt,
    "BleSource": _ble,
    "GattSource": _gatt,
    "the template of a driver": _template,
    "SerialSource, polled": _serial_polled,
}
