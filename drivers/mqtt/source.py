"""A subscription as a data source: each message is acknowledged only when it is safe."""

from __future__ import annotations

import asyncio
import logging
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.interfaces import IDataSource
from collectors.metadata_keys import (
    ACK_TOKEN,
    METRIC,
    NEW_SESSION,
    ORIGIN,
    REDELIVERED,
    RETAINED,
    SENSOR,
    TAGS,
    UP_NS,
)
from collectors.models import CollectedData, Origin
from drivers.mqtt.retained import NewestTaken
from drivers.mqtt.subscription import Subscription
from drivers.mqtt.topics import METRIC as METRIC_LEVEL
from drivers.mqtt.topics import TOPIC
from drivers.transport.mqtt import InboundMessage, MqttConnection, MqttConnectionLost, MqttError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Sequence

    from collectors.clock import Clock
    from collectors.interfaces import Memory
    from drivers.mqtt.config import MqttSourceConfig

logger = logging.getLogger(__name__)

HASH_BYTES: Final = 8
KNOWN_TOPICS_MAX: Final = 10_000
"""Topics of which it is remembered what they say."""
SHORT_S: Final = 60.0
SHORT_LIVES_TOLD: Final = 3
"""After so many connections in a row that the broker closed without a word within `SHORT_S`, a cause is suggested."""


class _Topic(NamedTuple):
    """What a topic says about its messages."""

    tags: dict[str, str]
    metric: str | None


class MqttSource(IDataSource):
    """Messages of one subscription, as an `Acknowledging` source.

    The broker keeps our session, and with it every message of QoS 1 until `acknowledge` is called with its token: over
    lost connections, restarts and power cuts of this device, as far as the broker itself is durable. What was not
    acknowledged comes again after the next `connect`, marked as redelivered, with the same origin.

    A connection that is lost is not opened again here: whoever collects decides when to connect anew. One task collects.

    Args:
        source_id: The unique identifier of this source.
        config: The broker and the topics. Its `client_id` must be set.
        data_format: The codec that can decode a payload.
        clock: Stamps arrivals.

    Attributes:
        session_present: The broker had kept our session at the last connect; None before the first. When False, nothing
            comes a second time, and packet ids begin anew: the first message then carries `NEW_SESSION`.
        unwanted: Messages dropped because their topic is not subscribed to any more (an earlier configuration was), or because
            they were retained and not asked for, or came before.

    Raises:
        ValueError: The configuration has no client identifier.
    """

    def __init__(self, source_id: str, config: MqttSourceConfig, *, data_format: str, clock: Clock) -> None:
        if config.client_id is None:
            raise ValueError(f"the MQTT source {source_id!r} needs a client_id that stays the same")
        self.session_present: bool | None = None
        self.unwanted = 0
        self._source_id = source_id
        self._config = config
        self._client_id = config.client_id
        self._data_format = data_format
        self._clock = clock
        self._templates = config.templates
        self._subscription = Subscription(self._client_id, self._templates, config.qos, config.retained)
        self._connection: MqttConnection | None = None
        self._subscribing: asyncio.Task[None] | None = None
        self._failure: MqttError | None = None
        """Why the subscription that was under way did not come about."""
        self._connected_s = 0.0
        self._short_lives = 0
        self._tell_new_session = False
        self._known_topics: dict[str, _Topic | None] = {}
        self._newest = NewestTaken() if config.retained == "store" else None

    def get_source_id(self) -> str:
        """The unique identifier of this source."""
        return self._source_id

    def use_memory(self, memory: Memory) -> None:
        """Remember over restarts which topics the session at the broker holds."""
        self._subscription.memory = memory

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._connection is not None and self._connection.connected

    @property
    def remarks(self) -> Sequence[str]:
        """Topics that the broker refuses, or grants a lower QoS than asked for, on the present connection."""
        return self._subscription.remarks if self.connected else ()

    def usual_silence_s(self) -> float | None:
        """Unknown: what is usual differs from sensor to sensor."""
        return None

    def explain_silence(self) -> str:
        """What may be behind it: most brokers do not say that their rules hide a topic."""
        topics = ", ".join(self._config.topics)
        reader = self._config.user or "an anonymous client"
        return f"does anything publish to {topics}, and do the broker's rules (ACL) let {reader} read it?"

    async def connect(self) -> None:
        """Connect, take up the session and subscribe. Harmless when connected.

        Raises:
            ConnectionError: The broker cannot be reached, or refuses (`drivers.transport.mqtt_errors`).
        """
        if self.connected:
            return
        await self.disconnect()
        try:
            options = await asyncio.to_thread(self._config.options)
        except OSError as error:
            raise ConnectionError(f"the password cannot be read: {error}") from error
        self._failure = None
        connection = MqttConnection(options, pending_max=self._config.pending_max, clock=self._clock)
        await connection.__aenter__()
        try:
            await self._subscribe(connection)
        except BaseException:
            await self._end_subscribing()
            await connection.__aexit__(None, None, None)
            raise
        self.session_present = connection.session_present
        if not connection.session_present:
            self._tell_new_session = True  # until a message tells it, over further connections if need be
        self._connected_s = self._clock.monotonic_s()
        self._connection = connection

    async def _subscribe(self, connection: MqttConnection) -> None:
        """Subscribe, or be about to: what a resumed session brings is taken meanwhile.

        The broker sends it before it answers, and it may be more than memory holds. On a slow link, or one that is cut
        often, whoever waited for the answer would acknowledge nothing, and get the same again and again.
        """
        connection.replies_first = not connection.session_present
        subscribing = asyncio.create_task(self._take_up(connection), name=f"subscribe:{self._source_id}")
        self._subscribing = subscribing
        arriving = asyncio.create_task(connection.arrival(), name=f"arrival:{self._source_id}")
        try:
            await asyncio.wait({subscribing, arriving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            arriving.cancel()
        await asyncio.wait({arriving})  # who collects waits for messages next, and only one may
        if subscribing.done():
            await subscribing

    async def _end_subscribing(self) -> None:
        subscribing, self._subscribing = self._subscribing, None
        if subscribing is not None:
            subscribing.cancel()
            await asyncio.wait({subscribing})
            if not subscribing.cancelled():
                subscribing.exception()  # seen: whoever connects or collects was told

    async def _take_up(self, connection: MqttConnection) -> None:
        try:
            remarks = await self._subscription.take_up(connection)
        except MqttError as error:
            self._failure = error
            connection.abort()
            raise
        for remark in remarks:
            logger.warning("%s: %s", self._source_id, remark)

    async def disconnect(self) -> None:
        """End the connection; the session stays at the broker. Harmless when there is none."""
        connection, self._connection = self._connection, None
        await self._end_subscribing()
        if connection is not None:
            await connection.__aexit__(None, None, None)

    async def collect(self) -> CollectedData:
        """Wait for one message. Cancelling loses none.

        Raises:
            ConnectionError: The source is not connected, or the connection was lost.
        """
        while True:
            connection = self._connection
            if connection is None:
                raise ConnectionError(f"the MQTT source {self._source_id!r} is not connected")
            try:
                message = await connection.receive()
            except MqttConnectionLost as loss:
                raise self._explained(loss) from loss
            if message is None:
                raise self._failure or ConnectionError(
                    f"the MQTT source {self._source_id!r} was disconnected"
                )
            topic = self._topic(message.topic)
            if topic is not None and self._is_news(message, connection):
                return self._collected(message, topic)
            self.unwanted += 1
            connection.acknowledge(message)

    async def collect_stream(self) -> AsyncIterator[CollectedData]:
        """Messages as they come.

        Raises:
            ConnectionError: The source is not connected, or the connection was lost.
        """
        while True:
            yield await self.collect()

    def acknowledge(self, token: Hashable) -> None:
        """Let the broker forget a message. Does nothing when the connection that brought it has ended."""
        if isinstance(token, InboundMessage) and token.connection is not None:
            if self._newest is not None:
                self._newest.acknowledge(token)
            token.connection.acknowledge(token)

    def _explained(self, loss: MqttConnectionLost) -> MqttConnectionLost:
        """A loss, and what may be behind it when it repeats. MQTT 3.1.1 knows no reasons."""
        if not loss.without_a_word or self._clock.monotonic_s() - self._connected_s > SHORT_S:
            self._short_lives = 0
            return loss
        self._short_lives += 1
        if self._short_lives < SHORT_LIVES_TOLD:
            return loss
        return MqttConnectionLost(
            f"{loss}, again soon after connecting: does another client use the client id {self._client_id!r}? The"
            " broker's log says why it closes connections"
        )

    def _topic(self, topic: str) -> _Topic | None:
        """What a topic says; None for one that is not subscribed to."""
        try:
            return self._known_topics[topic]
        except KeyError:
            known = self._read_topic(topic)
        if len(self._known_topics) >= KNOWN_TOPICS_MAX:
            self._known_topics.clear()
        self._known_topics[topic] = known
        return known

    def _read_topic(self, topic: str) -> _Topic | None:
        # None: a session may still hold what an earlier configuration subscribed to.
        for template in self._templates:
            names = template.match(topic)
            if names is not None:
                metric = names.pop(METRIC_LEVEL, None)
                return _Topic({TOPIC: topic, **names}, metric)
        return None

    def _is_news(self, message: InboundMessage, connection: MqttConnection) -> bool:
        """Whether it is a live message, or a stored one that is wanted and was not taken before."""
        if self._newest is None:
            return not message.retain
        digest = _digest(message)
        if message.retain and self._newest.has(message, digest, connection):
            return False
        self._newest.take(message, digest)
        return True

    def _collected(self, message: InboundMessage, topic: _Topic) -> CollectedData:
        metadata: dict[str, Any] = {UP_NS: message.up_ns, TAGS: topic.tags, SENSOR: message.topic}
        if topic.metric is not None:
            metadata[METRIC] = topic.metric
        if message.retain:
            metadata[RETAINED] = True
        if message.qos:
            metadata[ORIGIN] = Origin(
                client=self._client_id, packet=message.packet_id, payload_hash=_digest(message).hex()
            )
            metadata[ACK_TOKEN] = message
            if message.dup:
                metadata[REDELIVERED] = True
            if self._tell_new_session:
                self._tell_new_session = False
                metadata[NEW_SESSION] = True
        return CollectedData(
            source_id=self._source_id,
            timestamp=message.received_at,
            data_format=self._data_format,
            collection_method="mqtt",
            raw_data=message.payload,
            metadata=metadata,
        )


def _digest(message: InboundMessage) -> bytes:
    """Of topic and content."""
    return blake2b(message.topic.encode() + b"\0" + message.payload, digest_size=HASH_BYTES).digest()
