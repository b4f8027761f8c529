"""Runs `outstation` with a part that hangs.

python hanging_part.py PART run --config ...
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from agent import runtime
from agent.cli import main
from agent.timekeeping import ClockWatch
from buffer import BufferDB

if TYPE_CHECKING:
    from collections.abc import Callable


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


def _unless_example(getaddrinfo: Callable[..., Any]) -> Callable[..., Any]:
    def resolve(host: str | bytes | None, *arguments: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        while name is not None and name.endswith(".example"):
            threading.Event().wait()
        return getaddrinfo(host, *arguments, **more)

    return resolve


def let_hang(part: str) -> None:
    """Let the part hang: `task`, `opening`, `closing` or `resolver` (for names below .example)."""
    if part == "task":
        ClockWatch.run = _never_ends  # type: ignore[method-assign]
    elif part == "opening":
        runtime._ANSWERS_S = 0.2
        BufferDB.log = _hang  # type: ignore[method-assign]
    elif part == "closing":
        BufferDB.close = _hang  # type: ignore[method-assign]
    elif part == "resolver":
        socket.getaddrinfo = _unless_example(socket.getaddrinfo)
    else:
        raise ValueError(part)


if __name__ == "__main__":
    let_hang(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
