"""MQTT through a Mosquitto on the same machine: messages a second, and CPU time of this process a message.

    python benchmarks/mqtt_throughput.py [messages]

Publishing is one message a call at QoS 1 with 100 calls outstanding; receiving is `MqttSource` with QoS 1, each message made
into a `CollectedData` and acknowledged by itself.
"""

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from collectors.clock import SystemClock
from collectors.metadata_keys import ACK_TOKEN
from drivers.mqtt.config import MqttSourceConfig
from drivers.mqtt.source import MqttSource
from drivers.transport.mqtt import MqttConnection, options_from_url
from tests.rigs.mosquitto import BrokerSettings, Mosquitto


def report(what: str, count: int, wall_s: float, cpu_s: float) -> None:
    print(f"  {what}: {count / wall_s:,.0f}/s, {cpu_s / count * 1e6:.1f} us of CPU each")


async def measure(url: str, protocol: str, count: int) -> None:
    config = MqttSourceConfig(url=url, topics=["sensors/#"], client_id="benchmark", protocol=protocol)
    source = MqttSource("s", config, data_format="json", clock=SystemClock())
    await source.connect()
    await source.disconnect()
    wall, cpu = time.perf_counter(), time.process_time()
    async with MqttConnection(options_from_url(url, protocol=5 if protocol == "5" else 4)) as publisher:
        numbers = iter(range(count))

        async def publish_some() -> None:
            for number in numbers:
                await publisher.publish("sensors/a", b'{"temperature":21.53,"humidity":40.2,"n":%d}' % number)

        async with asyncio.TaskGroup() as group:
            for index in range(100):
                group.create_task(publish_some(), name=f"publisher-{index}")
    report("published", count, time.perf_counter() - wall, time.process_time() - cpu)
    await source.connect()
    wall, cpu = time.perf_counter(), time.process_time()
    left = count
    async for item in source.collect_stream():
        source.acknowledge(item.metadata[ACK_TOKEN])
        left -= 1
        if not left:
            break
    report("received and acknowledged", count, time.perf_counter() - wall, time.process_time() - cpu)
    await source.disconnect()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000
    for in_flight in (20, 1000):
        for protocol in ("5", "3.1.1"):
            print(f"MQTT {protocol}, max_inflight_messages {in_flight}, {count:,} messages")
            with Mosquitto(BrokerSettings(max_inflight_messages=in_flight)) as broker:
                asyncio.run(measure(broker.url, protocol, count))


if __name__ == "__main__":
    main()
