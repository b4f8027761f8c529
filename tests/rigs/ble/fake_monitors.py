"""Advertisement monitors: passive scanning, as bluetoothd offers it.

A client registers the path of an object of its own; bluetoothd asks that object for its patterns, and from then on reports
the advertisements in which one of the patterns is found. It answers before it has asked the kernel, and then calls the object:
Activate, or Release when the kernel refuses.

The kernel (6.1) refuses when the adapter is switched off, and has from then on a request that never ends: it is busy for every
later one, until the adapter is switched off once more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dbus_fast import Message, MessageFlag, MessageType

from tests.rigs.ble.fake_objects import PROPERTIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dbus_fast.aio import MessageBus

    from tests.rigs.ble.world import Advertisement

_FLAGS, _SERVICES, _TX_POWER, _SERVICE_DATA, _MANUFACTURER = 0x01, 0x03, 0x0A, 0x16, 0xFF
_ASKED_TIMES = 50
_MONITOR = "org.bluez.AdvertisementMonitor1"


def structures(advertisement: Advertisement) -> Iterator[tuple[int, bytes]]:
    """What is on the air, as types and data; the name comes only when an active scan asks for it."""
    yield _FLAGS, b"\x06"
    if advertisement.services:
        yield _SERVICES, b"".join(short.to_bytes(2, "little") for short in advertisement.services)
    if advertisement.tx_power is not None:
        yield _TX_POWER, advertisement.tx_power.to_bytes(1, "little", signed=True)
    for short, data in advertisement.service_data.items():
        yield _SERVICE_DATA, short.to_bytes(2, "little") + data
    for company, data in advertisement.manufacturer_data.items():
        yield _MANUFACTURER, company.to_bytes(2, "little") + data


class Monitors:
    """The monitors of all clients.

    Args:
        bus: Where the clients are asked for their patterns.

    Attributes:
        busy: The kernel refuses.
        mute: Nothing is said about what the kernel answers.
    """

    def __init__(self, bus: MessageBus) -> None:
        self.busy = False
        self.mute = False
        self._bus = bus
        self._patterns: dict[tuple[str, str], Sequence[tuple[int, int, bytes]]] = {}

    def __bool__(self) -> bool:
        return bool(self._patterns)

    async def register(self, client: str, path: str, *, powered: bool) -> None:
        """Take up a monitor, once the client shows it."""
        question = Message(
            destination=client,
            path=path,
            interface=PROPERTIES,
            member="Get",
            signature="ss",
            body=[_MONITOR, "Patterns"],
        )
        for _ in range(_ASKED_TIMES):
            answer = await self._bus.call(question)
            question.serial = 0  # each call needs its own
            if answer is not None and answer.message_type is MessageType.METHOD_RETURN:
                self.busy = self.busy or not powered
                if not self.busy:
                    self._patterns[client, path] = [tuple(pattern) for pattern in answer.body[0].value]
                self._call(client, path, "Release" if self.busy else "Activate")
                return
            await asyncio.sleep(0.01)

    def release_all(self) -> None:
        """The kernel ends them."""
        for client, path in self._patterns:
            self._call(client, path, "Release")
        self._patterns.clear()

    def _call(self, client: str, path: str, member: str) -> None:
        if self.mute:
            return
        call = Message(
            destination=client,
            path=path,
            interface=_MONITOR,
            member=member,
            flags=MessageFlag.NO_REPLY_EXPECTED,
        )
        self._bus.send(call)

    def unregister(self, client: str, path: str) -> None:
        """Drop a monitor."""
        self._patterns.pop((client, path), None)

    def forget(self, client: str) -> None:
        """A client has left the bus."""
        for key in [key for key in self._patterns if key[0] == client]:
            del self._patterns[key]

    def match(self, advertisement: Advertisement) -> bool:
        """Whether a monitor wants it."""
        there = list(structures(advertisement))
        return any(
            kind == wanted and data[start : start + len(content)] == bytes(content)
            for patterns in self._patterns.values()
            for start, wanted, content in patterns
            for kind, data in there
        )
