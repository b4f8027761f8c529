"""What the buffer does with a disk, beside sqlite3, stock TinyDB and other libraries.

    python -m benchmarks.buffer [part] [--seconds S] [--directory FOLDER]

Parts: durable, waiting, latency, backlog, device, peers, footprint; `all` (the default) runs them one
after the other, in less than 12 minutes. `device` mounts file systems of its own, for which it must be root.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.buffer_backlog import backlog
from benchmarks.buffer_device import CannotMountError, device
from benchmarks.buffer_durable import durable
from benchmarks.buffer_footprint import footprint
from benchmarks.buffer_latency import latency
from benchmarks.buffer_peers import peers
from benchmarks.buffer_waiting import waiting
from benchmarks.buffer_workload import NoDiskError, disk
from benchmarks.machine import machine

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS: dict[str, tuple[Callable[[Path | None, float], None], float]] = {
    "durable": (durable, 60),
    "waiting": (waiting, 40),
    "latency": (latency, 30),
    "backlog": (backlog, 120),
    "device": (device, 125),
    "peers": (peers, 40),
    "footprint": (footprint, 10),
}
"""Each part, and for how many seconds it measures by default."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.buffer", description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", default="all", choices=["all", *PARTS])
    parser.add_argument("--seconds", type=float, help="how long a part measures (fewer for a look)")
    parser.add_argument(
        "--directory", type=Path, help="a folder on the disk to measure; the temporary one by default"
    )
    options = parser.parse_args(arguments)
    print(machine())
    chosen = PARTS if options.part == "all" else {options.part: PARTS[options.part]}
    status = 0
    try:
        print(disk(options.directory))
        for part, seconds in chosen.values():
            try:
                part(options.directory, options.seconds or seconds)
            except CannotMountError as error:
                status = _complain(error)
    except NoDiskError as error:
        status = _complain(error)
    return status


def _complain(error: Exception) -> int:
    print(f"python -m benchmarks.buffer: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
