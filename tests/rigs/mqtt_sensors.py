"""MQTT sensors: each publishes a counter at QoS 1 and notes what the broker acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiomqtt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OUTSTANDING_MAX = 20


@dataclass
class MqttSensor:
    """One sensor with a connection of its own, independent of the program's own MQTT code.

    Args:
        name: Its client id and the last level of its topic.
        port: The broker's, on loopback.
        rate_hz: Messages a second.
    """

    name: str
    port: int
    rate_hz: float
    username: str | None = None
    password: str | None = None
    published: int = 0
    acknowledged: set[int] = field(default_factory=set)
    """Counters of the messages for which a PUBACK came."""

    @property
    def topic(self) -> str:
        """Where it publishes."""
        return f"sensors/{self.name}"

    async def speak(self) -> None:
        """Publish on a schedule that does not drift until cancelled; what is outstanding then is awaited."""
        loop = asyncio.get_running_loop()
        async with aiomqtt.Client(
            "127.0.0.1",
            self.port,
            identifier=self.name,
            username=self.username,
            password=self.password,
            protocol=aiomqtt.ProtocolVersion.V5,
        ) as client:
            client.pending_calls_threshold = OUTSTANDING_MAX  # else it warns at each publish above ten
            due = loop.time()
            async with asyncio.TaskGroup() as group:
                slots = asyncio.Semaphore(OUTSTANDING_MAX)
                with contextlib.suppress(asyncio.CancelledError):
                    while True:
                        await slots.acquire()
                        group.create_task(self._publish(client, self.published, slots))
                        self.published += 1
                        due += 1 / self.rate_hz
                        await asyncio.sleep(max(0.0, due - loop.time()))

    async def _publish(self, client: aiomqtt.Client, number: int, slots: asyncio.Semaphore) -> None:
        payload = json.dumps({"n": number, "level": number % 97 / 10})
        await client.publish(self.topic, payload, qos=1)
        self.acknowledged.add(number)
        slots.release()


@contextlib.asynccontextmanager
async def speaking(sensors: list[MqttSensor]) -> AsyncIterator[None]:
    """The sensors speak while the block runs; on leaving, everything they published is acknowledged."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(sensor.speak(), name=sensor.name) for sensor in sensors]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
