"""A subscription as a data source: each message is acknowledged only when it is safe."""

from __future__ import annotations

import asyncio
import logging
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from paho.mqtt.client import topic_matches_sub

from collectors.interfaces import IDataSource
from collectors.metadata_keys import ACK_TOKEN, NEW_SESSION, ORIGIN, REDELIVERED, TAGS, UP_NS
from collectors.models import CollectedData, Origin
from drivers.transport.mqtt import InboundMessage, MqttConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

    from collectors.clock import Clock
    from drivers.mqtt.config import MqttSourceConfig

logger = logging.getLogger(__name__)

HASH_BYTES: Final = 8
KNOWN_TOPICS_MAX: Final = 10_000
"""Topics whose match with the filters is remembered."""


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
            they were retained and not asked for.

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
        self._connection: MqttConnection | None = None
        self._tell_new_session = False
        self._known_topics: dict[str, bool] = {}

    def get_source_id(self) -> str:
        """The unique identifier of this source."""
        return self._source_id

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._connection is not None and self._connection.connected

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
        connection = MqttConnection(options, pending_max=self._config.pending_max, clock=self._clock)
        await connection.__aenter__()
        try:
            for topic_filter in self._config.topics:
                await self._subscribe(connection, topic_filter)
        except BaseException:
            await connection.__aexit__(None, None, None)
            raise
        self.session_present = connection.session_present
        if not connection.session_present:
            self._tell_new_session = True  # until a message tells it, over further connections if need be
        self._connection = connection

    async def _subscribe(self, connection: MqttConnection, topic_filter: str) -> None:
        asked = self._config.qos
        granted = await connection.subscribe(topic_filter, asked, retained=self._config.retained)
        if granted < asked:
            logger.warning(
                "%s: the broker grants QoS %d for %s: what comes while we are away is lost",
                self._source_id,
                granted,
                topic_filter,
            )

    async def disconnect(self) -> None:
        """End the connection; the session stays at the broker. Harmless when there is none."""
        connection, self._connection = self._connection, None
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
            message = await connection.receive()
            if message is None:
                raise ConnectionError(f"the MQTT source {self._source_id!r} was disconnected")
            if self._wanted(message):
                return self._collected(message)
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
            token.connection.acknowledge(token)

    def _wanted(self, message: InboundMessage) -> bool:
        if message.retain and not self._config.retained:
            return False
        known = self._known_topics.get(message.topic)
        if known is None:
            # A session remembers the subscriptions of an earlier configuration.
            known = any(_matches(topic_filter, message.topic) for topic_filter in self._config.topics)
            if len(self._known_topics) >= KNOWN_TOPICS_MAX:
                self._known_topics.clear()
            self._known_topics[message.topic] = known
        return known

    def _collected(self, message: InboundMessage) -> CollectedData:
        metadata: dict[str, Any] = {UP_NS: message.up_ns, TAGS: {"topic": message.topic}}
        if message.qos:
            digest = blake2b(message.topic.encode() + b"\0" + message.payload, digest_size=HASH_BYTES)
            metadata[ORIGIN] = Origin(
                client=self._client_id, packet=message.packet_id, payload_hash=digest.hexdigest()
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


def _matches(topic_filter: str, topic: str) -> bool:
    """Whether a topic belongs to a filter, which may be a shared subscription's."""
    if topic_filter.startswith("$share/"):
        topic_filter = topic_filter.split("/", 2)[-1]
    return topic_matches_sub(topic_filter, topic)
