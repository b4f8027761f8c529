"""A subscriber that does nothing with its messages: aiomqtt alone.

    python -m benchmarks.bare_subscriber PORT COUNT

paho acknowledges each message when it has read it. With COUNT 0 it only subscribes, so that the broker keeps
messages for its session. Prints messages a second and microseconds of CPU a message, from connecting on: aiomqtt
reads without bound while it waits for anything, and so much of the work is done before the first message is asked for.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

CLIENT_ID = "bare"
RECEIVE_MAXIMUM = 100
"""The quickest for it of 20, 100, 1,000 and no limit: Mosquitto slows down with what is outstanding."""


async def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's
    properties.SessionExpiryInterval = 3600
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    client = aiomqtt.Client(
        "127.0.0.1",
        port,
        identifier=CLIENT_ID,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=properties,
    )
    wall, cpu = time.perf_counter(), time.process_time()
    async with client:
        await client.subscribe("sensors/#", qos=1)
        if not count:
            return
        messages = aiter(client.messages)
        for _ in range(count):
            await anext(messages)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"rate": count / wall, "cpu_us": cpu / count * 1e6}))


if __name__ == "__main__":
    asyncio.run(main())
