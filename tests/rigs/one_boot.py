"""Runs `outstation` as if in a boot of its own, on a machine whose wall clock the test holds in its hand.

    python one_boot.py FOLDER BOOT_ID run --config ...

CLOCK_BOOTTIME begins up to a second ago (a time namespace, unshare(1)); the wall clock is off by
what `FOLDER/wall` says (`-1d`, `+0`; libfaketime), and synchronised when `FOLDER/synchronized` is there.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


def enter(folder: Path) -> None:
    """Become the same program in a time namespace, with the wall clock replaced."""
    if not FAKETIME:
        raise SystemExit("libfaketime is not installed: apt-get install faketime")
    os.environ |= {
        "OUTSTATION_IN_BOOT": "1",
        "LD_PRELOAD": str(FAKETIME[0]),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "wall"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    offset_s = -int(time.clock_gettime(time.CLOCK_BOOTTIME))
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *as_root, "--time", "--boottime", str(offset_s), sys.executable, *sys.argv]
    os.execvp(command[0], command)


def run(folder: Path, boot_id: str, arguments: list[str]) -> int:
    """Run it."""
    from agent.cli import main
    from agent.timekeeping import Synchronisation, boots, synchronisation

    name = folder / "boot_id"
    name.write_text(boot_id)
    boots._BOOT_ID = name
    ask_flag = synchronisation.ask_flag
    synchronisation.ask_kernel = lambda: None
    synchronisation.ask_flag = lambda _: ask_flag(folder / "synchronized")
    synchronisation.ask_timedated = lambda: Synchronisation("nobody", None)
    synchronisation.time_is_kept.__defaults__ = ((folder,),)
    return main(arguments)


if __name__ == "__main__":
    folder, boot_id, *arguments = sys.argv[1:]
    if "OUTSTATION_IN_BOOT" not in os.environ:
        enter(Path(folder))
    sys.exit(run(Path(folder), boot_id, arguments))
