"""The wall clock: is it right, and who keeps it so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from agent.timekeeping.synchronisation import clock_ran_on_battery, probe, time_is_kept
from drivers.examination import ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.examination import Finding

_EARLIEST_T: Final = 1_767_225_600.0
"""2026-01-01: this program is not older."""


def findings() -> Iterator[Finding]:
    """What is known. Asks the system: blocks."""
    said = probe()
    if said.good:
        yield ok("clock", f"synchronised ({said.by}), good to {said.error_s:.3f} s")
    elif time.time() < _EARLIEST_T:
        yield problem(
            "clock",
            f"it shows {time.strftime('%Y-%m-%d', time.gmtime())}: TLS fails until it is set",
            "let the device reach a time server once, or set it: sudo date -s ...",
        )
    else:
        worse = "" if said.error_s is None else f": it may be {said.error_s:.1f} s off"
        yield warning(
            "clock",
            f"not synchronised ({said.by}){worse}; times are estimated, and corrected when it is",
            "see that UDP port 123 is open to a time server: `timedatectl timesync-status`",
        )
    if not time_is_kept():
        remedy = "sudo apt-get install systemd-timesyncd, or chrony"
        yield warning(
            "time sync", "neither timesyncd nor chrony nor ntpd runs: nobody sets the clock", remedy
        )
    if clock_ran_on_battery():
        yield ok("real-time clock", "the system clock was set from it at boot")
