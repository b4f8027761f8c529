"""What BlueZ means by its errors, in words, and what would help.

Everything that leaves this driver is a `ConnectionError`, as the contract's interfaces ask for.
"""

from __future__ import annotations

from typing import Final

from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakDeviceNotFoundError,
)

NOT_RUNNING: Final = "bluetoothd does not run: `systemctl status bluetooth` says why"
NO_BUS: Final = "there is no D-Bus system bus, over which bluetoothd is asked: is dbus installed and running?"
NO_PERMISSION: Final = (
    "this user may not speak with bluetoothd: it must be in the group bluetooth (then log in again)"
)
BLOCKED: Final = "it is blocked: `rfkill unblock bluetooth`"
NO_ANSWER: Final = "bluetoothd does not answer: `systemctl restart bluetooth` may help"

_BY_NAME: Final = {
    "org.freedesktop.DBus.Error.ServiceUnknown": NOT_RUNNING,
    "org.freedesktop.DBus.Error.NameHasNoOwner": NOT_RUNNING,
    "org.freedesktop.DBus.Error.NoReply": "bluetoothd ended or did not answer",
    "org.freedesktop.DBus.Error.AccessDenied": NO_PERMISSION,
    "org.freedesktop.DBus.Error.UnknownObject": "bluetoothd does not know it any more",
    "org.bluez.Error.NotReady": "the adapter is switched off",
    "org.bluez.Error.Blocked": BLOCKED,
    "org.bluez.Error.InProgress": "bluetoothd is still busy with an earlier request",
}

_BY_TYPE: Final = (
    (BleakDeviceNotFoundError, _BY_NAME["org.freedesktop.DBus.Error.UnknownObject"]),
    (TimeoutError, NO_ANSWER),
    (FileNotFoundError, NO_BUS),
    (ConnectionRefusedError, NO_BUS),
)


def explain(error: BaseException) -> str:
    """What went wrong, for a person."""
    if isinstance(error, BleakDBusError):
        return dbus_reason(error.dbus_error, error.dbus_error_details)
    if isinstance(error, BleakBluetoothNotAvailableError):
        denied = error.reason is BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM
        return NO_PERMISSION if denied else str(error.args[0])
    for kind, meaning in _BY_TYPE:
        if isinstance(error, kind):
            return meaning
    return str(error).strip() or type(error).__name__


def dbus_reason(name: str | None, details: object = None) -> str:
    """What a D-Bus error means."""
    known = _BY_NAME.get(name or "")
    if known is None and details == "Blocked through rfkill":
        known = BLOCKED
    if known is not None:
        return known
    return f"{details} ({name})" if details else str(name)
