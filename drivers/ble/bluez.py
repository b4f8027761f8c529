"""bluetoothd and its adapters, as far as bleak does not watch them.

bleak says nothing when bluetoothd is killed: its scanner stays 'running' and its clients stay 'connected'. So its name on the
bus is watched here, and with it which adapters there are and whether they are switched on. Changes arrive as signals; nobody
polls. One connection to the bus serves every source of the process.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError

from drivers.ble.errors import NO_ANSWER, NO_BUS, NO_PERMISSION, NOT_RUNNING, dbus_reason

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

BLUEZ: Final = "org.bluez"
ADAPTER: Final = "org.bluez.Adapter1"
DEVICE: Final = "org.bluez.Device1"
_OBJECT_MANAGER: Final = "org.freedesktop.DBus.ObjectManager"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_DBUS: Final = "org.freedesktop.DBus"
_RULES: Final = (
    f"type='signal',sender='{_DBUS}',member='NameOwnerChanged',arg0='{BLUEZ}'",
    f"type='signal',sender='{BLUEZ}',member='InterfacesAdded',arg0path='/org/bluez/'",
    f"type='signal',sender='{BLUEZ}',member='InterfacesRemoved',arg0path='/org/bluez/'",
    f"type='signal',sender='{BLUEZ}',member='PropertiesChanged',path_namespace='/org/bluez',arg0='{ADAPTER}'",
)

CALL_TIMEOUT_S: Final = 10.0
"""bluetoothd answers in milliseconds, but for switching an adapter on or off, which takes a second or two."""


@dataclass(slots=True)
class AdapterState:
    """What is known about an adapter."""

    path: str
    address: str
    powered: bool

    @property
    def name(self) -> str:
        """Such as hci0."""
        return self.path.rpartition("/")[2]


class Bluez:
    """The watch over bluetoothd.

    Args:
        changed: Called after every change.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._bus: MessageBus | None = None
        self._running = False
        self._adapters: dict[str, AdapterState] = {}
        self._watching: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._changes = 0
        """Signals so far of bluetoothd itself or of adapters."""

    async def open(self) -> None:
        """Begin to watch. Harmless when it does already.

        Raises:
            ConnectionError: The bus cannot be reached.
        """
        if self._bus is not None and self._bus.connected:
            return
        await self.close()
        bus = MessageBus(bus_type=BusType.SYSTEM)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await bus.connect()
                bus.add_message_handler(self._handle)
                self._bus = bus
                for rule in _RULES:
                    await self._ask(_DBUS, "/org/freedesktop/DBus", _DBUS, "AddMatch", "s", [rule])
                await self._learn()
        except AuthError as error:
            await self._drop(bus)
            raise ConnectionError(NO_PERMISSION) from error
        except TimeoutError as error:
            await self._drop(bus)
            raise ConnectionError(NO_ANSWER) from error
        except ConnectionError:
            await self._drop(bus)
            raise
        except OSError as error:
            await self._drop(bus)
            raise ConnectionError(f"{NO_BUS} ({error})") from error
        except BaseException:
            await self._drop(bus)
            raise
        self._watching = asyncio.create_task(self._watch(bus), name="ble:bus")

    async def close(self) -> None:
        """Stop watching. Harmless when it does not."""
        watching, self._watching = self._watching, None
        bus, self._bus = self._bus, None
        if bus is not None:
            await self._drop(bus)
        if watching is not None:
            await asyncio.wait({watching})

    async def _drop(self, bus: MessageBus) -> None:
        self._bus = None
        self._forget()
        bus.disconnect()
        await asyncio.sleep(0)  # lets it close its socket

    async def _watch(self, bus: MessageBus) -> None:
        """Notice when the bus itself ends."""
        try:
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call] # it says no types
        except Exception as error:  # noqa: BLE001 (of whatever it ended, it has: it is logged, and all sources are told)
            logger.warning(
                "the connection to the D-Bus system bus ended: %s", str(error) or type(error).__name__
            )
        if self._bus is bus:
            self._forget()
            self._tell()

    # What is known

    @property
    def running(self) -> bool:
        """Whether bluetoothd is there."""
        return self._running

    def adapter(self, wanted: str) -> AdapterState | None:
        """The adapter with this name or address, if it is there."""
        return next((one for one in self._adapters.values() if wanted in {one.name, one.address}), None)

    def trouble(self, wanted: str) -> str | None:
        """Why an adapter cannot be used; None when it can."""
        if self._bus is None or not self._bus.connected:
            return NO_BUS
        if not self._running:
            return NOT_RUNNING
        found = self.adapter(wanted)
        if found is None:
            there = ", ".join(f"{one.name} ({one.address})" for one in self._adapters.values())
            return f"there is no Bluetooth adapter {wanted}: {f'there is {there}' if there else 'is it plugged in? There is none at all'}"
        return None if found.powered else f"the Bluetooth adapter {found.name} is switched off"

    async def news(self, timeout_s: float) -> bool:
        """Wait until something changes; False when nothing did within the time."""
        self._news.clear()
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    # What is asked for

    async def set_power(self, adapter: AdapterState, *, on: bool) -> None:
        """Switch an adapter.

        Raises:
            ConnectionError: It does not let itself be switched; says why.
        """
        body = [ADAPTER, "Powered", Variant("b", on)]
        try:
            await self._ask(BLUEZ, adapter.path, _PROPERTIES, "Set", "ssv", body)
        except ConnectionError as error:
            switched = "on" if on else "off"
            raise ConnectionError(
                f"the Bluetooth adapter {adapter.name} cannot be switched {switched}: {error}"
            ) from error
        adapter.powered = on  # the signal that says so may come after the answer

    async def connected_device(self, adapter_path: str, address: str) -> dict[str, Any] | None:
        """The properties of a device that bluetoothd is connected to already; None when it is not.

        A connection outlives the program that asked for it, if that one is killed; and a device that is connected does not
        advertise.

        Raises:
            ConnectionError: bluetoothd does not answer.
        """
        path = f"{adapter_path}/dev_{address.replace(':', '_')}"
        (objects,) = await self._ask(BLUEZ, "/", _OBJECT_MANAGER, "GetManagedObjects")
        device = objects.get(path, {}).get(DEVICE)
        if device is None or not device["Connected"].value:
            return None
        return {"path": path, "props": {name: variant.value for name, variant in device.items()}}

    async def _ask(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", body: Any = ()
    ) -> list[Any]:
        """Call a method; its answer.

        Raises:
            ConnectionError: There is none, or it is an error.
        """
        if self._bus is None:
            raise ConnectionError(NO_BUS)
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                answer = await self._bus.call(message)
        except TimeoutError:
            raise ConnectionError(NO_ANSWER) from None
        except (EOFError, OSError) as error:
            raise ConnectionError(f"{NO_BUS} ({error})") from error
        if answer.message_type is MessageType.ERROR:
            raise ConnectionError(dbus_reason(answer.error_name, *answer.body[:1]))
        return answer.body

    # What the bus tells

    async def _learn(self) -> None:
        """Ask how things are, until nothing has changed meanwhile.

        Signals are handled as they arrive, and an answer only when whoever asked has its turn: what a signal said behind it would
        be taken back, for ever.
        """
        while True:
            changes = self._changes
            objects: dict[str, dict[str, dict[str, Variant]]] = {}
            (running,) = await self._ask(_DBUS, "/org/freedesktop/DBus", _DBUS, "NameHasOwner", "s", [BLUEZ])
            if running:
                (objects,) = await self._ask(BLUEZ, "/", _OBJECT_MANAGER, "GetManagedObjects")
            if self._changes == changes:
                break
        self._running, self._adapters = running, {}
        for path, interfaces in objects.items():
            self._note(path, interfaces)

    def _note(self, path: str, interfaces: dict[str, dict[str, Variant]]) -> None:
        if (found := interfaces.get(ADAPTER)) is not None:
            self._adapters[path] = AdapterState(path, found["Address"].value, found["Powered"].value)

    def _forget(self) -> None:
        self._running = False
        self._adapters.clear()

    def _handle(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL or not _is_news(message):
            return
        self._changes += 1
        if message.member == "NameOwnerChanged":
            self._adapters.clear()
            self._running = bool(message.body[2])  # its adapters are told one by one as they come
            self._tell()
        elif message.member == "InterfacesAdded":
            self._note(*message.body)
            self._tell()
        elif message.member == "InterfacesRemoved":
            self._adapters.pop(message.body[0], None)
            self._tell()
        else:
            state = self._adapters.get(str(message.path))
            if state is not None:
                state.powered = message.body[1]["Powered"].value
                self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._changed()


def _is_news(message: Message) -> bool:
    """Whether it is of bluetoothd itself or of an adapter: of devices, which are told as well, there may be hundreds a second."""
    if message.member == "NameOwnerChanged":
        return bool(message.body[0] == BLUEZ)
    if message.member in {"InterfacesAdded", "InterfacesRemoved"}:
        return ADAPTER in message.body[1]
    return bool(
        message.member == "PropertiesChanged" and message.body[0] == ADAPTER and "Powered" in message.body[1]
    )
