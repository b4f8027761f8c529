"""A TCP server that says just what a test tells it: for what no real broker does on request."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CONNACK = b"\x20\x02\x00\x00"
"""MQTT 3.1.1: accepted, no session."""
CONNACK_5 = b"\x20\x03\x00\x00\x00"
"""MQTT 5: accepted, no session, no properties."""
CONNACK_5_RESUMED = b"\x20\x03\x01\x00\x00"
"""MQTT 5: accepted, the session is taken up."""


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """First byte and body of the next packet; IncompleteReadError at the end."""
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return first, await reader.readexactly(length)


def publish(topic: str, payload: bytes, packet_id: int) -> bytes:
    """A short PUBLISH of MQTT 3.1.1 at QoS 1."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + packet_id.to_bytes(2, "big") + payload
    assert len(body) < 128
    return bytes((0x32, len(body))) + body


def publish_5(topic: str, payload: bytes, packet_id: int) -> bytes:
    """A short PUBLISH of MQTT 5 at QoS 1, without properties."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + packet_id.to_bytes(2, "big") + b"\0" + payload
    assert len(body) < 128
    return bytes((0x32, len(body))) + body


@asynccontextmanager
async def scripted_broker(script: Script) -> AsyncIterator[int]:
    """Runs `script` for each connection; gives the port. The connection ends with the script."""
    running: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running[task] = writer
        try:
            await script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone, as many a test wants it to
        finally:
            del running[task]
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in running.values():
            writer.transport.abort()  # whoever reads sees the end
        if running:
            _, stuck = await asyncio.wait(running, timeout=1)
            assert not stuck, "a script waits for something else than its client"
        await server.wait_closed()
