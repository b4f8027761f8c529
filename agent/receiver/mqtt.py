"""Readings over MQTT: a persistent session at QoS 1, PUBACK only after the database commit (see `agent.receiver.intake`).

Several receivers share the work through a shared subscription: `$share/<name>/outstation/+/readings`. Each has a client id of its own,
and so a session of its own: what the broker has given to one that died waits in its session until it is back. With
`ack = "receiver"` the device sends it again before, and another takes it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pydantic_core import to_json

from agent.receiver.committer import Inflow
from agent.receiver.intake import Underway, acknowledgements, durable, taken_in
from agent.spine.backoff import Backoff, BackoffPolicy
from agent.spine.errors import describe
from agent.sync.acknowledgement import (
    LEDGER_FILTER,
    READINGS_FILTER,
    Acknowledgement,
    ack_topic,
    device_of,
)
from drivers.transport.mqtt import (
    RESUMED_TIMEOUT_S,
    InboundMessage,
    MqttConnection,
    MqttError,
    MqttOptions,
    MqttRefused,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from agent.receiver.committer import Committer
    from collectors.clock import Clock

_log = logging.getLogger(__name__)

RETRY = BackoffPolicy(first_s=1.0, base_s=0.5, cap_s=5.0, stable_s=10.0)
"""One receiver harms nobody by coming back soon, and a fleet waits for it."""
SESSION_EXPIRY_S = 7 * 86400
"""How long the broker keeps packs for a receiver that is away."""
RECEIVE_MAXIMUM = 100
"""Packs that the broker may leave unacknowledged on us."""
_GROUP_MAX = 64
"""Packs that are acknowledged together."""


class MqttReceiver:
    """Takes packs from one broker.

    Args:
        options: Which broker; the session must be a lasting one (see `session`).
        committer: Takes the packs.
        clock: Measures the back-off.
        rng: Chance for the back-off.
        share: The name under which receivers share the work; None takes all of it.
    """

    def __init__(
        self,
        options: MqttOptions,
        committer: Committer,
        clock: Clock,
        rng: random.Random,
        *,
        share: str | None = None,
    ) -> None:
        self._options = options
        self._shared = "" if share is None else f"$share/{share}/"
        self._committer = committer
        self._clock = clock
        self._backoff = Backoff(RETRY, rng)
        self._failing = False

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Receive until cancelled; connects again whenever the connection is lost.

        Args:
            ready: Called each time the subscription stands.
        """
        while True:
            try:
                async with MqttConnection(self._options, clock=self._clock) as connection:
                    await self._receive(connection, ready)
            except* (MqttError, OSError) as errors:
                if not self._failing:
                    _log.warning("receive: %s", describe(errors))
                self._failing = True
            await asyncio.sleep(self._backoff.delay_s(self._clock.monotonic_s()))

    async def _receive(self, connection: MqttConnection, ready: Callable[[], None]) -> None:
        """Take packs, also those of a resumed session, which come before the broker answers to SUBSCRIBE.

        Whoever waited for that answer would, on a slow link, give up and get the same again and again.
        """
        inflow = Inflow(self._committer)
        underway: asyncio.Queue[Underway[InboundMessage]] = asyncio.Queue(RECEIVE_MAXIMUM)
        async with asyncio.TaskGroup() as group:
            aside = (
                group.create_task(self._subscribe(connection, ready), name="receive-subscribe"),
                group.create_task(self._acknowledge(connection, underway), name="receive-acknowledge"),
            )
            async for message in connection.messages():
                item = await taken_in(
                    message,
                    message.topic,
                    device_of(message.topic),
                    message.payload,
                    inflow,
                    losses=message.topic.endswith("/ledger"),
                )
                await underway.put(item)
            for task in aside:
                task.cancel()

    async def _subscribe(self, connection: MqttConnection, ready: Callable[[], None]) -> None:
        timeout_s = RESUMED_TIMEOUT_S if connection.session_present else None
        for topic_filter in (READINGS_FILTER, LEDGER_FILTER):
            if self._shared:  # a session that once took all of it would go on doing so
                await connection.unsubscribe(topic_filter, timeout_s=timeout_s)
            await connection.subscribe(self._shared + topic_filter, 1, timeout_s=timeout_s)
        self._backoff.established(self._clock.monotonic_s())
        _log.info("receive: connected to %s", self._options.address)
        self._failing = False
        ready()

    async def _acknowledge(
        self, connection: MqttConnection, underway: asyncio.Queue[Underway[InboundMessage]]
    ) -> None:
        """In the order of arrival. A commit that failed ends the connection: only then do its messages come again."""
        while True:
            group = [await underway.get()]
            await durable(group[0], self._committer)
            while len(group) < _GROUP_MAX and not underway.empty():
                group.append(underway.get_nowait())
                await durable(group[-1], self._committer)
            await _publish(connection, group)
            for item in group:
                connection.acknowledge(item.message)


async def _publish(connection: MqttConnection, group: Sequence[Underway[InboundMessage]]) -> None:
    """Name what was committed or refused, one message a device."""
    async with asyncio.TaskGroup() as tasks:
        for device_id, said in acknowledgements(group).items():
            topic = ack_topic(device_id)
            tasks.create_task(_say(connection, topic, said), name=f"receive-say:{topic}")


async def _say(connection: MqttConnection, topic: str, said: Acknowledgement) -> None:
    try:
        await connection.publish(topic, to_json(said), content_type="application/json")
    except MqttRefused as error:
        # The readings are safe; the device will send them again until the broker's rules are mended.
        _log.error("receive: cannot acknowledge: %s", error)
