"""Looks at bluetoothd and the adapter of a source: is it there, may this user speak with it, is it on. Changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from drivers.ble.bluez import Bluez
from drivers.ble.errors import BLOCKED, NO_BUS, NO_PERMISSION, NOT_RUNNING
from drivers.examination import ok, problem, warning
from drivers.transport.apart import run_apart

if TYPE_CHECKING:
    from drivers.examination import Examined, Finding

_RFKILL: Final = Path("/sys/class/rfkill")


async def examine(examined: Examined) -> list[Finding]:
    """Look at one source's adapter."""
    subject, wanted = examined.source_id, examined.options.adapter
    blocked = await run_apart("rfkill", _blocked)
    if blocked is not None:
        return [problem(subject, f"Bluetooth is blocked: {blocked}", _remedy(BLOCKED))]
    bluez = Bluez(lambda: None)
    try:
        await bluez.open()
        trouble = bluez.trouble(wanted)
        adapter = bluez.adapter(wanted)
    except ConnectionError as error:
        trouble, adapter = str(error), None
    finally:
        await bluez.close()
    if trouble is None:
        assert adapter is not None
        return [ok(subject, f"the adapter {adapter.name} ({adapter.address}) is on, and bluetoothd answers")]
    if adapter is not None and examined.options.manage_adapter:
        return [warning(subject, trouble, "the agent switches it on by itself when it runs")]
    return [problem(subject, trouble, _remedy(trouble))]


def _remedy(trouble: str) -> str:
    known = {
        NO_PERMISSION: "sudo usermod -aG bluetooth USER, then restart the service or log in again",
        NOT_RUNNING: "sudo systemctl enable --now bluetooth; `systemctl status bluetooth` says why it does not run",
        BLOCKED: "sudo rfkill unblock bluetooth",
    }
    if trouble.startswith(NO_BUS):
        return "sudo apt-get install dbus bluez"
    return known.get(trouble, "plug the adapter in, correct `adapter`, or: sudo systemctl restart bluetooth")


def _blocked(rfkill: Path = _RFKILL) -> str | None:
    """Who blocks Bluetooth; None when nobody does."""
    for switch in sorted(rfkill.glob("rfkill*")):
        try:
            if (switch / "type").read_text("ascii").strip() != "bluetooth":
                continue
            name = (switch / "name").read_text().strip()
            if (switch / "hard").read_text("ascii").strip() == "1":
                return f"{name} by a switch of the machine"
            if (switch / "soft").read_text("ascii").strip() == "1":
                return f"{name} by software"
        except (OSError, UnicodeDecodeError):
            continue
    return None
