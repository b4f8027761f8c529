"""Power and heat, where the Pi tells: under-voltage is the commonest reason why cards die and adapters vanish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from drivers.examination import ok, problem, unknown, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.examination import Finding

_THROTTLED: Final = "sys/devices/platform/soc/soc:firmware/get_throttled"
_UNDER_VOLTAGE, _CAPPED, _THROTTLED_NOW, _HOT = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_SINCE_BOOT: Final = 16
"""The same bits, so much higher: at some time since the start (Raspberry Pi documentation, vcgencmd get_throttled)."""
_HOT_C: Final = 80.0
"""From here on a Pi runs slower."""
_SUPPLY: Final = "use the official power supply and a short, thick cable, or power USB devices through a hub"
_COOLING: Final = "cool it: a heat sink, a fan, or a larger housing out of the sun"


def findings(root: Path = Path("/")) -> Iterator[Finding]:
    """What it tells. Reads sysfs: blocks."""
    bits = _number(root / _THROTTLED, 16)
    told = list(_of_firmware(bits) if bits is not None else _of_monitor(root))
    told += _temperature(root)
    if told:
        yield from told
    else:
        yield unknown("power", "this machine does not tell about its power supply")


def _of_firmware(bits: int) -> Iterator[Finding]:
    before = bits >> _SINCE_BOOT
    if bits & _UNDER_VOLTAGE:
        yield problem("power", "under-voltage now: the card may be damaged, adapters may vanish", _SUPPLY)
    elif before & _UNDER_VOLTAGE:
        yield problem("power", "under-voltage since the start: the card may have been damaged", _SUPPLY)
    else:
        yield ok("power", "no under-voltage since the start")
    slow = _CAPPED | _THROTTLED_NOW | _HOT
    if bits & slow:
        yield warning("throttling", "the processor is slowed down now", _COOLING)
    elif before & slow:
        yield warning("throttling", "the processor was slowed down since the start", _COOLING)


def _of_monitor(root: Path) -> Iterator[Finding]:
    """The kernel's own monitor (rpi_volt), where the firmware's file is not there."""
    for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        try:
            is_it = (monitor / "name").read_text("ascii").strip() == "rpi_volt"
        except (OSError, UnicodeDecodeError):
            continue
        alarm = _number(monitor / "in0_lcrit_alarm", 10) if is_it else None
        if alarm:
            yield problem("power", "under-voltage: the card may be damaged, adapters may vanish", _SUPPLY)
        elif alarm is not None:
            yield ok("power", "no under-voltage")


def _temperature(root: Path) -> Iterator[Finding]:
    milli = _number(root / "sys/class/thermal/thermal_zone0/temp", 10)
    if milli is not None and milli / 1000 >= _HOT_C:
        yield warning("temperature", f"the processor has {milli / 1000:.0f} degrees Celsius", _COOLING)


def _number(file: Path, base: int) -> int | None:
    try:
        return int(file.read_text("ascii").strip(), base)
    except (OSError, UnicodeDecodeError, ValueError):
        return None
