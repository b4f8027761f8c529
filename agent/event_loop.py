"""The event loop of a running agent: asyncio's, apart from looking up names.

asyncio looks names up in its pool of threads, where a name server that hangs would hold up everything else.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any

from drivers.transport.apart import run_apart


class EventLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop, with each look-up in a thread of its own."""

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 (asyncio's)
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """As `socket.getaddrinfo`."""
        name = host.decode("utf-8", "replace") if isinstance(host, bytes) else host
        return await run_apart(
            f"lookup {name}", partial(socket.getaddrinfo, host, port, family, type, proto, flags)
        )
