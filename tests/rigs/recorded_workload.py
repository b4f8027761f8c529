"""A buffer that is put through random steps, as a process of its own that ends without closing anything.

    python -m tests.rigs.recorded_workload STORE EVENTS SEED STEPS [unsynced]

Each promise is a line of EVENTS at the moment it is given. `unsynced`: it never syncs anything, so
that what is said to catch broken promises has some to catch.
"""

from __future__ import annotations

import json
import os
import random
import sys
from typing import TYPE_CHECKING, Any

from buffer import BufferDB
from buffer.filesystem import SystemFileSystem
from tests.rigs.crash_points import OPTIONS
from tests.rigs.promises import Event, Promises
from tests.rigs.workload import Workload, random_steps

if TYPE_CHECKING:
    from buffer.filesystem import FileSystem


class Unsynced(SystemFileSystem):
    """A file system whose syncs do nothing."""

    def sync(self, handle: int) -> None:
        pass

    def sync_directory(self, path: str) -> None:
        pass


def options_of(seed: int) -> dict[str, Any]:
    """How the buffer of a seed is opened."""
    rng = random.Random(seed)
    chosen = rng.choice(OPTIONS)
    # In small files most commits make their file longer; in large ones they write into what is there.
    size = rng.choice([4096, 65536]) if "quota_bytes" not in chosen else 4096
    return {"segment_bytes": size, "keep_delivered_s": 1e12, "device_id": "d", "machine_id": "m", **chosen}


def live(store: str, events: str, seed: int, steps: int, fs: FileSystem) -> None:
    """Carry out the steps of a seed; every other one beside the thread that commits by itself."""
    with open(events, "ab", buffering=0) as out:  # noqa: PTH123 (unbuffered)

        def tell(event: Event) -> None:
            out.write(json.dumps(event).encode() + b"\n")

        def opening() -> BufferDB:
            return BufferDB(store, fs=fs, threaded=bool(seed % 2), window_s=0.002, **options_of(seed))

        Workload(Promises(), opening, tell).run(random_steps(random.Random(seed), steps))
    os._exit(0)


if __name__ == "__main__":
    store, events, seed, steps, *how = sys.argv[1:]
    live(store, events, int(seed), int(steps), Unsynced() if how else SystemFileSystem())
