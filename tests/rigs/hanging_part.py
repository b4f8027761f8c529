"""Runs `outstation` with a part that hangs.

python hanging_part.py PART run --config ...
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from typing import NoReturn

from agent.cli import main
from agent.timekeeping import ClockWatch
from buffer import BufferDB


async def _never_ends(_watch: ClockWatch) -> None:
    """A task that goes on when it is cancelled."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


def _hang(*_: object) -> NoReturn:
    """A disk that does not answer."""
    print("the disk hangs", file=sys.stderr, flush=True)  # noqa: T201 (the test waits for it)
    while True:
        threading.Event().wait()


def let_hang(part: str) -> None:
    """Let the part hang: `task`, `opening` or `closing`."""
    if part == "task":
        ClockWatch.run = _never_ends  # type: ignore[method-assign]
    elif part == "opening":
        BufferDB.log = _hang  # type: ignore[method-assign]
    elif part == "closing":
        BufferDB.close = _hang  # type: ignore[method-assign]
    else:
        raise ValueError(part)


if __name__ == "__main__":
    let_hang(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
