"""A bluetoothd of our own: the `org.bluez` that bleak uses, on a real dbus-daemon, with the faults that tests ask for.

Of bluetoothd it has what a central needs: discovery, advertisement monitors, connections, GATT reads and notifications, power.
It behaves as bluetoothd 5.66 was seen to behave; `VirtualWorld` runs the same tests on the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Self

from dbus_fast import Message, MessageType, RequestNameReply, Variant
from dbus_fast.aio import MessageBus

from tests.rigs.ble.fake_monitors import Monitors
from tests.rigs.ble.fake_objects import (
    ADAPTER,
    CHARACTERISTIC,
    DEVICE,
    MONITORS,
    OBJECT_MANAGER,
    BluezError,
    ObjectTree,
)
from tests.rigs.ble.fake_sensor import FakeSensor
from tests.rigs.ble.private_bus import PrivateBus

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from tests.rigs.ble.world import Advertisement, Characteristic

BLUEZ = "org.bluez"
_OF_BLUETOOTHD = "bluetoothd:"
"""Begins the names of tasks that end with it."""
_LOSSES = "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'"


class FakeBluez:
    """A bus, bluetoothd on it, and sensors; running within the `async with` block.

    Args:
        experimental: Whether bluetoothd was started with -E, which 5.66 needs for passive scanning.

    Attributes:
        bus_address: What DBUS_SYSTEM_BUS_ADDRESS must say.
        adapter: The object path of the adapter.
        errors: What the next calls of a method meet: `errors["StartDiscovery"] = [BluezError("InProgress")]`.
        hanging: Methods that are not answered.
        deaf: The controller reports nothing, though it says that it scans; a power cycle mends that.
        blocked: The adapter cannot be switched on: rfkill.
        calls: The methods that were called.
        monitors: The passive scans.
    """

    def __init__(self, *, experimental: bool = True) -> None:
        self.private_bus = PrivateBus()
        self.bus_address = self.private_bus.address
        self.adapter = "/org/bluez/hci0"
        self.experimental = experimental
        self.errors: dict[str, list[BluezError]] = {}
        self.hanging: set[str] = set()
        self.deaf = False
        self.blocked = False
        self.calls: list[str] = []
        self._sensors: dict[str, FakeSensor] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    async def __aenter__(self) -> Self:
        self.private_bus.__enter__()
        await self.start_bluetoothd()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill_bluetoothd()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.private_bus.__exit__(None, None, None)
        assert not self._failures, self._failures

    def run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something beside the test, until it ends or this does. (A fixture ends in another task than it began in, so
        there is no task group.)
        """
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    # The world

    async def sensor(
        self, address: str, gatt: Mapping[int, Sequence[Characteristic]] | None = None
    ) -> FakeSensor:
        """Put a sensor on the air."""
        sensor = self._sensors[address] = FakeSensor(self, address, gatt)
        self.run(sensor.live(), f"sensor:{address}")
        return sensor

    async def start_bluetoothd(self) -> None:
        """Start it, with nothing remembered."""
        self.bus = await MessageBus(bus_address=self.bus_address).connect()
        self.tree = ObjectTree(self.bus)
        self._discovering: set[str] = set()
        self.monitors = Monitors(self.bus)
        self.bus.add_message_handler(self._handle)
        await self.bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="AddMatch",
                signature="s",
                body=[_LOSSES],
            )
        )
        assert await self.bus.request_name(BLUEZ) is RequestNameReply.PRIMARY_OWNER
        self.tree.add("/org/bluez", {"org.bluez.AgentManager1": {}})
        await self.plug_adapter()

    async def kill_bluetoothd(self) -> None:
        """SIGKILL: its connection to the bus ends, and nothing is said."""
        for sensor in self._sensors.values():
            sensor.subscriptions.clear()
        for task in self._tasks:
            if task.get_name().startswith(_OF_BLUETOOTHD):
                task.cancel()
        self.tree.objects.clear()
        self.bus.disconnect()
        with contextlib.suppress(EOFError):  # of a bus that has gone before
            await self.bus.wait_for_disconnect()

    async def plug_adapter(self, *, powered: bool = True) -> None:
        """An adapter comes."""
        adapter = {
            "Address": Variant("s", "00:11:22:33:44:55"),
            "Name": Variant("s", "fake"),
            "Alias": Variant("s", "fake"),
            "Powered": Variant("b", powered),
            "Discovering": Variant("b", False),  # noqa: FBT003 (a D-Bus value)
            "Roles": Variant("as", ["central", "peripheral"]),
        }
        monitors = {MONITORS: {"SupportedMonitorTypes": Variant("as", ["or_patterns"])}}
        self.tree.add(self.adapter, {ADAPTER: adapter, **(monitors if self.experimental else {})})

    async def unplug_adapter(self) -> None:
        """The adapter goes."""
        self._drop_connections()
        self._discovering.clear()
        self.tree.remove(self.adapter)

    async def power(self, *, on: bool) -> None:
        """Switch the adapter."""
        if not on:
            self._drop_connections()
            self._discovering.clear()
            self.monitors.busy = False
        self.deaf = self.deaf and on
        properties = {"Powered": Variant("b", on), "Discovering": Variant("b", False)}  # noqa: FBT003 (a D-Bus value)
        self.tree.change(self.adapter, ADAPTER, properties)

    def deafen(self) -> None:
        """The controller reports nothing any more, until it is switched off and on."""
        self.deaf = True

    def _drop_connections(self) -> None:
        for sensor in self._sensors.values():
            sensor.go_down()

    @property
    def discovering(self) -> bool:
        """Whether somebody scans actively."""
        return bool(self._discovering)

    @property
    def monitoring(self) -> bool:
        """Whether somebody scans passively."""
        return bool(self.monitors)

    def hears(self, advertisement: Advertisement) -> bool | None:
        """Whether an advertisement is reported: True with what an active scan adds, False without, None not at all."""
        if self.deaf or self.adapter not in self.tree or not self.tree.get(self.adapter, ADAPTER, "Powered"):
            return None
        if self._discovering:
            return True
        return False if self.monitors.match(advertisement) else None

    # The bus

    def _handle(self, message: Message) -> bool | None:
        if message.message_type is MessageType.SIGNAL and message.member == "NameOwnerChanged":
            name, _, owner = message.body
            if not owner:
                self._forget_client(name)
            return None
        if message.message_type is not MessageType.METHOD_CALL or not str(message.path).startswith(
            ("/org/bluez", "/")
        ):
            return None
        self.calls.append(str(message.member))
        self.run(self._reply(self.bus, message), f"{_OF_BLUETOOTHD}{message.member}")
        return True

    def _forget_client(self, name: str) -> None:
        self._discovering.discard(name)
        self.monitors.forget(name)
        for sensor in self._sensors.values():
            sensor.subscriptions = {(who, path) for who, path in sensor.subscriptions if who != name}

    async def _reply(self, bus: MessageBus, message: Message) -> None:
        member = str(message.member)
        if member in self.hanging:
            return
        try:
            if self.errors.get(member):
                raise self.errors[member].pop(0)
            signature, body = await self._call(message) or ("", [])
            reply = Message.new_method_return(message, signature, body)
        except BluezError as error:
            reply = Message.new_error(message, error.name, error.text)
        if bus.connected:
            bus.send(reply)

    async def _call(self, message: Message) -> tuple[str, list[Any]] | None:
        path, body, sender = str(message.path), message.body, str(message.sender)
        if message.member == "GetManagedObjects" and message.interface == OBJECT_MANAGER:
            return "a{oa{sa{sv}}}", [self.tree.objects]
        if path not in self.tree or (message.member == "RegisterMonitor" and not self.experimental):
            text = f'Method "{message.member}" on interface "{message.interface}" doesn\'t exist'
            name = "UnknownObject" if path not in self.tree else "UnknownMethod"
            raise BluezError(f"org.freedesktop.DBus.Error.{name}", text)
        if message.interface in {ADAPTER, MONITORS}:
            return self._call_adapter(str(message.member), sender, body)
        if message.interface == "org.freedesktop.DBus.Properties":
            return await self._call_properties(str(message.member), path, body)
        return await self._call_device(message)

    def _call_adapter(self, member: str, sender: str, body: list[Any]) -> None:
        calls = {
            "StartDiscovery": self._start_discovery,
            "StopDiscovery": self._stop_discovery,
            "RegisterMonitor": self._register_monitor,
            "UnregisterMonitor": self.monitors.unregister,
            "RemoveDevice": self._remove_device,
        }
        if member in calls:
            calls[member](sender, *body)
        if self.adapter in self.tree:
            discovering = {"Discovering": Variant("b", bool(self._discovering))}
            self.tree.change(self.adapter, ADAPTER, discovering)

    def _check_powered(self) -> None:
        if not self.tree.get(self.adapter, ADAPTER, "Powered"):
            raise BluezError("NotReady", "Resource Not Ready")

    def _start_discovery(self, sender: str) -> None:
        self._check_powered()
        if sender in self._discovering:
            raise BluezError("InProgress", "Operation already in progress")
        self._discovering.add(sender)

    def _stop_discovery(self, sender: str) -> None:
        self._check_powered()
        if sender not in self._discovering:
            raise BluezError("Failed", "No discovery started")
        self._discovering.discard(sender)
        if not self._discovering:
            self._forget_signals()

    def _register_monitor(self, sender: str, path: str) -> None:
        powered = self.tree.get(self.adapter, ADAPTER, "Powered")
        self.run(self.monitors.register(sender, path, powered=powered), f"{_OF_BLUETOOTHD}monitor")

    def _remove_device(self, _sender: str, path: str) -> None:
        for sensor in self._sensors.values():
            if sensor.path == path:
                sensor.forget()

    def _forget_signals(self) -> None:
        """When the last scan ends, the signal strengths go."""
        for sensor in self._sensors.values():
            if sensor.path in self.tree:
                self.tree.change(sensor.path, DEVICE, {}, ["RSSI", "TxPower"])

    async def _call_properties(self, member: str, path: str, body: list[Any]) -> tuple[str, list[Any]] | None:
        if member == "Get":
            return "v", [self.tree.objects[path][body[0]][body[1]]]
        if member == "GetAll":
            return "a{sv}", [self.tree.objects[path][body[0]]]
        if body[1] == "Powered":
            if body[2].value and self.blocked:
                raise BluezError("Blocked", "Blocked through rfkill")
            await self.power(on=body[2].value)
        else:
            self.tree.change(path, body[0], {body[1]: body[2]})
        return None

    async def _call_device(self, message: Message) -> tuple[str, list[Any]] | None:
        path, sender = str(message.path), str(message.sender)
        sensor = next(s for s in self._sensors.values() if path == s.path or path.startswith(f"{s.path}/"))
        match message.member:
            case "Connect":
                await sensor.connect()
            case "Disconnect":
                await asyncio.sleep(sensor.disconnect_takes_s)
                sensor.go_down()
            case "Pair":
                self.tree.change(path, DEVICE, {"Paired": Variant("b", True), "Bonded": Variant("b", True)})  # noqa: FBT003
            case "ReadValue":
                return "ay", [sensor.read(path)]
            case "StartNotify":
                sensor.subscribe(sender, path)
            case "StopNotify":
                sensor.subscriptions.discard((sender, path))
                self.tree.change(path, CHARACTERISTIC, {"Notifying": Variant("b", False)})  # noqa: FBT003
            case _:
                raise BluezError("org.freedesktop.DBus.Error.UnknownMethod", str(message.member))
        return None
