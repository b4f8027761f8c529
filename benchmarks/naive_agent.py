"""The agent that many write first: aiomqtt in, stock TinyDB, aiomqtt out, one reading at a time.

    python -m benchmarks.naive_agent SOURCE_PORT UPSTREAM_PORT DATABASE

It is a friendly version of it: it does not lose its place when a step is slow, and since it delivers each
reading before it takes the next, its database never holds more than one, where TinyDB is at its quickest
(TinyDB rewrites its whole file, and calls fsync, at every change). What it does not do: the broker gets
its PUBACK before the reading is stored, a lost connection ends it, and nothing recognises a second delivery.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time

import aiomqtt
from tinydb import TinyDB


async def forward(source_port: int, upstream_port: int, database: TinyDB) -> None:
    """Take each message, store it, send it on, delete it."""
    async with (
        aiomqtt.Client("127.0.0.1", upstream_port, identifier="naive-up") as upstream,
        aiomqtt.Client(
            "127.0.0.1", source_port, identifier="naive-down", clean_session=False, max_inflight_messages=1000
        ) as source,
    ):
        await source.subscribe("sensors/#", qos=1)
        async for message in source.messages:
            reading = {
                "source": str(message.topic),
                "t": time.time(),
                "values": json.loads(bytes(message.payload)),  # type: ignore[arg-type]
            }
            document_id = database.insert(reading)
            await upstream.publish("cloud/readings", json.dumps(reading), qos=1)
            database.remove(doc_ids=[document_id])


async def main() -> None:
    source_port, upstream_port, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with TinyDB(path) as database, contextlib.suppress(asyncio.CancelledError):
        await forward(source_port, upstream_port, database)


if __name__ == "__main__":
    asyncio.run(main())
