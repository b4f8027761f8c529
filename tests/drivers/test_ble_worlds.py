"""The Bluetooth sources on a fake bluetoothd in every run, and on the real one in a virtual machine in the slow one."""

import pytest
import pytest_asyncio

from drivers.ble import station
from tests.drivers.ble_scenarios import SCENARIOS
from tests.rigs.ble.fake_bluez import FakeBluez
from tests.rigs.ble.virtual_world import VirtualWorld

every_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)


@every_scenario
async def test_on_a_fake_bluetoothd(scenario, monkeypatch):
    monkeypatch.setattr(station, "BY_ITSELF_S", 0.1)
    async with FakeBluez() as world:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", world.bus_address)
        await scenario(world)


@pytest.fixture(scope="module")
def virtual_bus():
    """The address of the bus is the same for all: bleak keeps its connection for as long as the event loop lives."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def virtual(virtual_bus):
    async with VirtualWorld() as world:
        virtual_bus.setenv("DBUS_SYSTEM_BUS_ADDRESS", world.bus_address)
        yield world


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.asyncio(loop_scope="module")
@every_scenario
async def test_on_the_real_bluetoothd(scenario, virtual):
    await scenario(virtual)
