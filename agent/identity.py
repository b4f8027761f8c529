"""Which machine this is: the default device id, and a fingerprint that a cloned SD card does not share.

Neither gives away the machine id itself, which systemd asks to keep confidential (machine-id(5)):
both are keyed digests of it.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

_KEY = b"outstation machine identity 1"
_MACHINE_ID_FILES = ("etc/machine-id", "var/lib/dbus/machine-id")
_SERIAL_NUMBER_FILE = "sys/firmware/devicetree/base/serial-number"
"""A Raspberry Pi's serial number, burnt into its processor."""
_PERMANENT_ADDRESS = "0"
"""NET_ADDR_PERM in addr_assign_type: the address came with the hardware (linux/if_link.h)."""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip().strip("\0")
    except OSError:
        return ""


def _machine_id(root: Path) -> str:
    return next((text for name in _MACHINE_ID_FILES if (text := _text(root / name))), "")


def _network_addresses(root: Path) -> list[str]:
    """Addresses of built-in network adapters; those that are random or plugged in come and go."""
    addresses = []
    for adapter in sorted((root / "sys/class/net").glob("*")):
        device = adapter / "device"
        if not device.exists() or "/usb" in str(device.resolve()):
            continue
        if _text(adapter / "addr_assign_type") == _PERMANENT_ADDRESS:
            addresses.append(_text(adapter / "address"))
    return addresses


def _digest(*parts: str) -> str:
    return hmac.new(_KEY, "\0".join(parts).encode(), hashlib.sha256).hexdigest()


def default_device_id(root: Path = Path("/")) -> str:
    """`outstation-` and 12 hexadecimal digits: the same on this machine for ever."""
    identity = _text(root / _SERIAL_NUMBER_FILE) or _machine_id(root)
    return f"outstation-{_digest('device', identity)[:12]}"


def machine_fingerprint(root: Path = Path("/")) -> str:
    """32 hexadecimal digits that differ between machines even when one card is a copy of the other's."""
    hardware = _text(root / _SERIAL_NUMBER_FILE) or "\0".join(_network_addresses(root))
    return _digest("machine", _machine_id(root), hardware)[:32]
