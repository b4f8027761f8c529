"""Memory: what the C library would hold for nothing, and what the garbage collector need not look at."""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""mallopt(3)."""
_LARGE_BYTES = 64 * 1024


def hold_little() -> None:
    """Let all threads allocate from one arena, and give back what is large as soon as it is free.

    Call before there are threads. glibc gives each thread an arena of its own, so that threads need not wait for each other; under Python's
    lock they do not anyway, and each arena keeps what was freed in it: 1.5 to 2 MB for ours. Blocks of some 100 kB
    (batches, packs) that come and go leave holes in the heap, which grows with each that fits in none: another
    megabyte under load. Does nothing where the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)


def spare_what_is_loaded() -> None:
    """Let the garbage collector pass over everything there is now. Call when the program has started.

    Modules, models and configuration live as long as the program. Looking through them stopped everything else
    for 32 to 38 ms every second or two under load (8 to 18 without, on a server's core; a Pi is several times slower).
    """
    gc.collect()
    gc.freeze()
