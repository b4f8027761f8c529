"""Readings over MQTT: a persistent session at QoS 1, PUBACK only after the database commit.

A pack's way: message -> decoded -> committed -> named on `outstation/<device>/ack` -> PUBACK. A receiver that is
killed anywhere on it gets the message again from the broker; the database takes it as a duplicate, and it is
named once more, so that an acknowledgement is never lost for good.

What is no pack is kept in `rejected`, told to the device by its digest, and acknowledged to the broker too:
else it would come again for ever and block those behind it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic_core import to_json

from agent.receiver.packs import (
    PackTooLarge,
    Received,
    ReceivedLosses,
    Refused,
    unpack_aside,
    unpack_losses,
)
from agent.spine.backoff import Backoff, BackoffPolicy
from agent.spine.errors import describe
from agent.sync.acknowledgement import (
    LEDGER_FILTER,
    READINGS_FILTER,
    Acknowledgement,
    ack_topic,
    device_of,
    digest,
)
from agent.sync.senml import NotSenML
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


@dataclass(frozen=True, slots=True)
class _Underway:
    message: InboundMessage
    pack: Received | ReceivedLosses | Refused
    committed: asyncio.Future[None]


class MqttReceiver:
    """Takes packs from one broker.

    Args:
        options: Which broker; the session must be a lasting one (see `session`).
        committer: Takes the packs.
        clock: Measures the back-off.
        rng: Chance for the back-off.
    """

    def __init__(self, options: MqttOptions, committer: Committer, clock: Clock, rng: random.Random) -> None:
        self._options = options
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
        underway: asyncio.Queue[_Underway] = asyncio.Queue(RECEIVE_MAXIMUM)
        async with asyncio.TaskGroup() as group:
            aside = (
                group.create_task(self._subscribe(connection, ready), name="receive-subscribe"),
                group.create_task(self._acknowledge(connection, underway), name="receive-acknowledge"),
            )
            async for message in connection.messages():
                pack = await _decoded(message)
                committed = await self._committer.submit(pack)
                await underway.put(_Underway(message, pack, committed))
            for task in aside:
                task.cancel()

    async def _subscribe(self, connection: MqttConnection, ready: Callable[[], None]) -> None:
        timeout_s = RESUMED_TIMEOUT_S if connection.session_present else None
        for topic_filter in (READINGS_FILTER, LEDGER_FILTER):
            await connection.subscribe(topic_filter, 1, timeout_s=timeout_s)
        self._backoff.established(self._clock.monotonic_s())
        _log.info("receive: connected to %s", self._options.address)
        self._failing = False
        ready()

    async def _acknowledge(self, connection: MqttConnection, underway: asyncio.Queue[_Underway]) -> None:
        """In the order of arrival. A commit that failed ends the connection: only then do its messages come again."""
        while True:
            group = [await underway.get()]
            await group[0].committed
            while len(group) < _GROUP_MAX and not underway.empty():
                group.append(underway.get_nowait())
                await group[-1].committed
            await _publish(connection, group)
            for item in group:
                connection.acknowledge(item.message)


async def _decoded(message: InboundMessage) -> Received | ReceivedLosses | Refused:
    pack: Received | ReceivedLosses
    try:
        if message.topic.endswith("/ledger"):
            pack = unpack_losses(message.payload)
        else:
            pack = await unpack_aside(message.payload)
    except (NotSenML, PackTooLarge) as error:
        return _refused(message, str(error))
    if pack.device_id != device_of(message.topic):
        # A broker's rules bind a device to its topic; the readings must not say otherwise.
        return _refused(message, f"it is of device {pack.device_id!r}, not of the topic's")
    return pack


def _refused(message: InboundMessage, reason: str) -> Refused:
    _log.warning("receive: no pack on %s: %s", message.topic, reason)
    return Refused(message.topic, message.payload, reason)


async def _publish(connection: MqttConnection, group: Sequence[_Underway]) -> None:
    """Name what was committed or refused, one message a device and store."""
    acknowledgements: dict[tuple[str, str], Acknowledgement] = defaultdict(Acknowledgement)
    for item in group:
        topic = ack_topic(device_of(item.message.topic))
        if isinstance(item.pack, Received | ReceivedLosses):
            said = acknowledgements[topic, item.pack.store_id]
            said.store = item.pack.store_id
            said.acked.append(item.pack.bounds)
        else:
            acknowledgements[topic, ""].rejected.append((digest(item.pack.payload), item.pack.reason))
    async with asyncio.TaskGroup() as tasks:
        for (topic, _), said in acknowledgements.items():
            tasks.create_task(_say(connection, topic, said), name=f"receive-say:{topic}")


async def _say(connection: MqttConnection, topic: str, said: Acknowledgement) -> None:
    try:
        await connection.publish(topic, to_json(said), content_type="application/json")
    except MqttRefused as error:
        # The readings are safe; the device will send them again until the broker's rules are mended.
        _log.error("receive: cannot acknowledge: %s", error)
