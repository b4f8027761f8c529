"""Who looks around for sensors, driver by driver; what is not used is not imported."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from drivers import registry as drivers
from drivers.discovery import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from drivers.discovery import Scout


def scouts(
    *,
    brokers: Sequence[str],
    ports: Sequence[str] | None,
    adapter: str | None,
    username: str | None,
    password_file: Path | None,
) -> list[Scout]:
    """The scouts for these places.

    Args:
        brokers: URLs of MQTT brokers.
        ports: Serial ports; None for all that there are.
        adapter: The Bluetooth adapter; None for none. Without the library for it, its scout says that it is missing.
        username: Who logs in at the brokers.
        password_file: Holds the password.
    """
    found: list[Scout] = []
    if brokers:
        mqtt = drivers.load_scout("mqtt", "MqttScout")
        found += [mqtt(url, username, password_file) for url in brokers]
    if ports is None or ports:
        serial = drivers.load_scout("serial", "SerialScout")
        every = drivers.load_scout("serial", "ports")
        found += [serial(port) for port in (every() if ports is None else ports)]
    if adapter is not None:
        has_library = find_spec("bleak") is not None
        found.append(drivers.load_scout("ble", "BleScout")(adapter) if has_library else _NoBluetooth())
    return found


def serial_ports() -> list[str]:
    """The serial ports that sensors may hang on; reads the disk."""
    found: list[str] = drivers.load_scout("serial", "ports")()
    return found


class _NoBluetooth:
    """Says that the air was not listened to."""

    place = "Bluetooth"

    async def look(self, seconds: float) -> list[Finding]:  # noqa: ARG002 (it looks nowhere)
        """What is missing."""
        return [Finding("Bluetooth was not listened to: that needs pip install 'outstation[ble]'")]

    def enough(self) -> None:
        """It looks nowhere."""
