"""Whether the wall clock can be trusted now, and by whose word.

- The kernel. Whoever disciplines its clock (timesyncd, chrony, ntpd; so also a GPS receiver that feeds one of
  them) clears its 'unsynchronised' flag and tells it how far off the clock may be; from then on the kernel lets
  that bound grow by 500 ppm, until the next synchronisation (adjtimex(2), `maxerror`). So the bound is honest
  whether or not the link is still there.
- A sandbox may forbid even to ask (systemd's ProtectClock=). Then timesyncd's flag file tells, which is touched at
  each synchronisation; and where there is none, timedated is asked over D-Bus (it knows about chrony).
"""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

TIMESYNCD_FLAG: Final = Path("/run/systemd/timesync/synchronized")
KEEPERS: Final = tuple(
    map(Path, ("/run/systemd/timesync", "/run/chrony", "/run/ntpd.pid", "/run/ntpd", "/run/ntpsec"))
)
"""What timesyncd, chrony, ntpd and ntpsec leave there while they run."""
_TIMEDATECTL: Final = "/usr/bin/timedatectl"
_RTC_CLASS: Final = Path("/sys/class/rtc")

ERROR_MAX_S: Final = 2.0
"""A clock that may be further off is not synchronised. timesyncd asks every 34 min at most: the bound is 1.02 s by then."""
_TIMEDATED_ERROR_S: Final = 1.0
"""What is assumed when all we hear is 'yes'."""
_FLAG_ERROR_S: Final = 0.1
"""What is assumed of a synchronisation that only a flag tells of: NTP over a mobile network is as good as that."""
_GROWTH: Final = 500e-6
"""As the kernel does it: MAXFREQ of include/linux/timex.h."""
_TIME_ERROR: Final = 5
"""adjtimex(2): the clock is not synchronised."""
_TIMEDATECTL_TIMEOUT_S: Final = 5.0


class _Timex(ctypes.Structure):
    """The beginning of `struct timex`, and room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("rest", ctypes.c_char * 512),
    )


@dataclass(frozen=True, slots=True)
class Synchronisation:
    """What is said about the wall clock."""

    by: str
    """Who says so."""
    error_s: float | None
    """How far it may be off; None: it is not synchronised, so nobody knows."""

    @property
    def good(self) -> bool:
        """Whether a time stamped now can be taken as it is."""
        return self.error_s is not None and self.error_s <= ERROR_MAX_S


def probe(flag: Path = TIMESYNCD_FLAG) -> Synchronisation:
    """Ask the kernel; else timesyncd's flag; else timedated, which may take a while. Blocks."""
    asked = ask_kernel()
    if asked is None:
        asked = ask_flag(flag)
    return asked if asked is not None else ask_timedated()


def ask_kernel() -> Synchronisation | None:
    """What adjtimex(2) says; None where a sandbox forbids to ask."""
    timex = _Timex()  # modes = 0 only asks
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0:
        return None
    if state == _TIME_ERROR:
        return Synchronisation("kernel", None)
    return Synchronisation("kernel", timex.maxerror * 1e-6)


def ask_flag(flag: Path) -> Synchronisation | None:
    """What timesyncd's flag says; None where there is none: it may be chrony that keeps the time."""
    try:
        touched = flag.stat().st_mtime
    except OSError:
        return None
    return Synchronisation("systemd-timesyncd", _FLAG_ERROR_S + abs(time.time() - touched) * _GROWTH)


def ask_timedated() -> Synchronisation:
    """What timedated says."""
    import subprocess  # nobody else needs it

    try:
        answer = subprocess.run(  # noqa: S603 (a fixed command)
            [_TIMEDATECTL, "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=_TIMEDATECTL_TIMEOUT_S,
            check=False,
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return Synchronisation("nobody", None)
    return Synchronisation("systemd-timedated", _TIMEDATED_ERROR_S if answer == "yes" else None)


def time_is_kept(keepers: Iterable[Path] = KEEPERS) -> bool:
    """Whether somebody on this machine would synchronise the clock, given a network."""
    return any(keeper.exists() for keeper in keepers)


def clock_ran_on_battery(rtc_class: Path = _RTC_CLASS) -> bool:
    """Whether the kernel set the wall clock from a real-time clock when it started."""
    try:
        return any(path.read_text("ascii").strip() == "1" for path in rtc_class.glob("rtc*/hctosys"))
    except (OSError, UnicodeDecodeError):
        return False
