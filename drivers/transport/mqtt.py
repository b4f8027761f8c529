"""One MQTT connection that says what happened: every publish, subscription and loss.

    async with MqttConnection(options_from_url("mqtt://localhost")) as connection:
        await connection.subscribe("sensors/#", 1)
        async for message in connection.messages():
            ...                                  # make it durable, then:
            connection.acknowledge(message)

Guarantees:

- `publish` returns when the broker has acknowledged, and raises when it refused or when the connection ended
  before: it neither hangs nor reports success for a refusal. Publishes leave in the order of the calls. At most
  min(the broker's Receive Maximum, 100) are outstanding; further ones wait in the order of the calls. Nothing is kept
  for a later connection.
- A message is acknowledged only by `acknowledge`, and only on the connection that brought it. PUBACKs leave in the order
  in which the messages came, as MQTT demands (4.6.0-2), whatever the order of the calls.
- Once `pending_max` received messages, or 16 MiB of them, wait to be taken, the socket is not read, and the broker waits; except
  while a reply is awaited, which comes on the same stream (`replies_first`): then more may wait, up to a bound at which the connection
  is given up. The Receive Maximum is no bound for that: Mosquitto 2.0 sends all that it has kept when a session is taken up.
- A new connection is a new object: none can be entered twice.

QoS 2 is refused, because its subscriptions lose messages on a drop between PUBREC and PUBREL.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from collectors.clock import Clock, SystemClock
from drivers.transport.credentials import TlsFiles
from drivers.transport.mqtt_client import PahoClient, Reply
from drivers.transport.mqtt_errors import (
    PACKET_TOO_LARGE,
    MqttConnectionLost,
    MqttConnectRefused,
    MqttError,
    MqttRefused,
    MqttUnreachable,
)
from drivers.transport.mqtt_flight import Flight
from drivers.transport.mqtt_message import InboundMessage
from drivers.transport.mqtt_options import FLIGHT_MAX, MqttOptions, options_from_url
from drivers.transport.mqtt_packets import encode_puback
from drivers.transport.mqtt_reasons import in_words

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from drivers.transport.mqtt_packets import Publish

__all__ = [
    "RESUMED_TIMEOUT_S",
    "InboundMessage",
    "MessageStream",
    "MqttConnectRefused",
    "MqttConnection",
    "MqttConnectionLost",
    "MqttError",
    "MqttOptions",
    "MqttRefused",
    "MqttUnreachable",
    "TlsFiles",
    "options_from_url",
]

PENDING_MAX: Final = 1000
PENDING_BYTES_MAX: Final = 16 << 20
"""Of their payloads: messages may be large, and the machine small."""
FLOOD_MAX: Final = 65535
"""So many beyond `pending_max`, more than any Receive Maximum allows, and the connection is given up."""
FLOOD_BYTES_MAX: Final = 64 << 20
"""Likewise, of their payloads."""
RESUMED_TIMEOUT_S: Final = 600.0
"""For an answer behind all that a resumed session brings, on a slow link; a dead one is noticed by its silence."""
HEADER_BYTES_MAX: Final = 16
"""Fixed header, topic length, packet id, length of the properties and of the content type, rounded up."""


class MessageStream:
    """The messages of a connection, as an asynchronous iterator."""

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> InboundMessage:
        message = await self._connection.receive()
        if message is None:
            raise StopAsyncIteration
        return message


class MqttConnection:
    """One connection to one broker: an asynchronous context manager, used once.

    Args:
        options: Which broker, and how.
        pending_max: How many received messages may wait to be taken.
        clock: Stamps arrivals.

    Attributes:
        session_present: The broker took up an earlier session: what was not acknowledged comes again. False means
            that it knows nothing of us, and that packet ids begin anew.
        receive_maximum: How many publishes the broker takes unacknowledged.
        maximum_packet_size: The largest packet that the broker takes in bytes, None when it does not say.
        replies_first: Whether to read on, beyond `pending_max`, while a reply is awaited. False is for who takes messages
            whatever replies it waits for: then the reply comes in its turn.
    """

    def __init__(
        self, options: MqttOptions, *, pending_max: int = PENDING_MAX, clock: Clock | None = None
    ) -> None:
        self.options = options
        self.session_present = False
        self.receive_maximum = 0
        self.maximum_packet_size: int | None = None
        self.replies_first = True
        self._clock = clock or SystemClock()
        self._pending_max = pending_max
        self._client: PahoClient | None = None
        self._open = False
        self._loss: MqttConnectionLost | None = None
        # Towards us: to be taken; taken or not, but not acknowledged; acknowledgements of this turn of the loop.
        self._pending: deque[InboundMessage] = deque()
        self._pending_bytes = 0
        self._taker: asyncio.Future[None] | None = None
        self._unacknowledged: deque[InboundMessage] = deque()
        self._pubacks = bytearray()
        # Towards the broker: who waits for which answer, and who may send.
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._flight = Flight(FLIGHT_MAX)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            MqttUnreachable: No broker answered.
            MqttConnectRefused: It said no.
        """
        if self._client is not None:
            raise RuntimeError("a connection is used once: make a new object for a new one")
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client = client = PahoClient(self.options, self)
        await client.open()
        self.session_present = client.session_present
        self.receive_maximum = client.receive_maximum
        self.maximum_packet_size = client.maximum_packet_size
        self._flight = Flight(min(client.receive_maximum, FLIGHT_MAX))
        self._open = not self._ended.done()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what is acknowledged and DISCONNECT, within a second; the session stays as agreed."""
        assert self._client is not None
        if self._open:
            self._flush_pubacks()
        await self._client.close()

    def abort(self) -> None:
        """End it at once and without a word; what was received and not taken is dropped."""
        if self._client is not None:
            self._client.abort()

    @property
    def connected(self) -> bool:
        """Whether it is open, as far as we know."""
        return self._open

    @property
    def in_flight(self) -> int:
        """Publishes sent and not yet answered."""
        return len(self._flight)

    @property
    def unacknowledged(self) -> int:
        """Messages received whose PUBACK has not been sent."""
        return len(self._unacknowledged)

    @property
    def paused(self) -> bool:
        """Whether the socket is not read, since too many messages wait to be taken."""
        return self._client is not None and self._client.paused

    async def lost(self) -> None:
        """Wait until the connection has ended, by a loss or by our own close."""
        await asyncio.shield(self._ended)

    # Receiving

    async def subscribe(
        self, topic_filter: str, qos: int = 1, *, retained: bool = True, timeout_s: float | None = None
    ) -> int:
        """Subscribe; returns the QoS that the broker grants, which may be less.

        Args:
            topic_filter: May hold `+` and `#`.
            qos: 0 or 1.
            retained: Whether the broker may send what it stored before. On MQTT 5 it does so once a session, when the
                subscription is new to it; on 3.1.1 always, and at each subscription.
            timeout_s: How long the answer may take in seconds; None is as long as connecting. It comes behind all that the
                broker sends of a resumed session.

        Raises:
            MqttRefused: The broker refuses.
            MqttConnectionLost: The connection ended first.
            MqttUnreachable: The broker did not answer in time.
            ValueError: The filter or the QoS is invalid.
        """
        if qos not in (0, 1):
            raise ValueError(
                "QoS must be 0 or 1: subscriptions at QoS 2 lose messages when a connection drops"
            )
        client = self._usable()
        packet_id = client.send_subscribe(topic_filter, qos, retained=retained)
        reply = await self._reply_in_time(packet_id, "SUBSCRIBE", timeout_s)
        for code in reply.codes:
            if code.is_failure:
                raise self._refusal(code.value, reply.said, f"the subscription to {topic_filter}")
            qos = min(qos, code.value)
        return qos

    async def unsubscribe(self, topic_filter: str, *, timeout_s: float | None = None) -> None:
        """Let the session forget a subscription; harmless when it does not know it.

        Raises:
            MqttRefused: The broker refuses.
            MqttConnectionLost: The connection ended first.
            MqttUnreachable: The broker did not answer in time (as for `subscribe`).
        """
        packet_id = self._usable().send_unsubscribe(topic_filter)
        reply = await self._reply_in_time(packet_id, "UNSUBSCRIBE", timeout_s)
        for code in reply.codes:
            if code.is_failure:
                raise self._refusal(code.value, reply.said, f"to end the subscription to {topic_filter}")

    def _refusal(self, code: int, said: str, subject: str) -> MqttRefused:
        return MqttRefused(code, in_words(code, client_id=self.options.client_id, said=said), subject)

    def messages(self) -> MessageStream:
        """The messages as they come: `async for message in connection.messages()`.

        Iterating raises MqttConnectionLost when the connection was lost and everything received was taken; it ends
        after our own close.
        """
        return MessageStream(self)

    async def arrival(self) -> None:
        """Wait until there is a message to take, or the connection has ended.

        Raises:
            RuntimeError: Another task is waiting for a message.
        """
        if self._pending or self._ended.done():
            return
        if self._taker is not None:
            raise RuntimeError("another task is waiting for a message of this connection")
        self._taker = asyncio.get_running_loop().create_future()
        try:
            await self._taker
        finally:
            self._taker = None

    async def receive(self) -> InboundMessage | None:
        """The next message; None when the connection was closed by us. Cancelling loses none.

        Raises:
            MqttConnectionLost: The connection was lost, and everything received was taken.
            RuntimeError: Another task is waiting for a message.
        """
        while not self._pending:
            if self._ended.done():
                if self._loss is not None:
                    raise self._loss.again()
                return None
            await self.arrival()
        message = self._pending.popleft()
        self._pending_bytes -= len(message.payload)
        if self._client is not None and self._client.paused:
            self._control_flow()
        return message

    def acknowledge(self, message: InboundMessage) -> None:
        """Send PUBACK, in this turn of the event loop, once all earlier messages are acknowledged too.

        Does nothing for QoS 0, the second time, for a message of another connection, and when this one has ended.
        """
        if message.connection is not self:
            return
        message.connection = None
        if not self._open:
            return
        waiting = self._unacknowledged
        if not self._pubacks and waiting[0].connection is None:
            asyncio.get_running_loop().call_soon(self._flush_pubacks)
        while waiting and waiting[0].connection is None:
            self._pubacks += encode_puback(waiting.popleft().packet_id)

    def _flush_pubacks(self) -> None:
        if self._pubacks and self._open and self._client is not None:
            self._client.send_pubacks(bytes(self._pubacks))
        self._pubacks.clear()

    def _control_flow(self) -> None:
        """Read from the socket, or let the broker wait."""
        client, waiting, size = self._client, len(self._pending), self._pending_bytes
        if client is None or self._ended.done():
            return
        roomy = waiting <= self._pending_max // 2 and size <= PENDING_BYTES_MAX // 2
        if (self._replies and self.replies_first) or roomy:
            client.resume()
        elif waiting >= self._pending_max or size >= PENDING_BYTES_MAX:
            client.pause()

    # Sending

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        content_type: str | None = None,
        user_properties: Iterable[tuple[str, str]] = (),
    ) -> int:
        """Publish; returns at the broker's PUBACK (at QoS 0, when it is written to the socket).

        A broker's PUBACK is not yet a durable one. Some brokers answer nothing when they throttle: limit the time. When
        cancelled, the message may arrive none the less.

        Args:
            topic: Without wildcards.
            payload: As it is to arrive.
            qos: 0 or 1.
            retain: The broker keeps it for later subscribers.
            content_type: MIME type (MQTT 5; left out on 3.1.1).
            user_properties: Names and values (MQTT 5; left out on 3.1.1).

        Returns:
            The broker's reason code: 0, or 0x10 when it has no subscriber for it and says so (MQTT 5).

        Raises:
            MqttRefused: The broker refused it (MQTT 5), or it is larger than the broker takes.
            MqttConnectionLost: The connection ended first; it may or may not have arrived.
            ValueError: The topic or the QoS is invalid.
        """
        if qos not in (0, 1):
            raise ValueError("QoS must be 0 or 1")
        if not topic:
            raise ValueError("the topic is empty")  # paho lets it pass in MQTT 5, for topic aliases
        properties = None
        if self.options.protocol == 5 and (content_type is not None or user_properties):  # noqa: PLR2004 (MQTT 5)
            properties = _publish_properties(content_type, user_properties)
        self._usable()
        self._check_size(topic, payload, properties)
        if qos:
            await self._flight.acquire()
        try:
            client = self._usable()
            packet_id = client.send_publish(topic, payload, qos, retain=retain, properties=properties)
        except BaseException:
            if qos:
                self._flight.release()
            raise
        if qos:
            self._flight.departed(packet_id)
        reply = await self._reply(packet_id)
        (code,) = reply.codes
        if code.is_failure:
            raise self._refusal(code.value, reply.said, f"a message to {topic}")
        return int(code.value)

    def _check_size(self, topic: str, payload: bytes, properties: Properties | None) -> None:
        """A packet beyond the broker's limit makes it end the connection, so it must not leave."""
        limit = self.maximum_packet_size
        if limit is None:
            return
        size = HEADER_BYTES_MAX + len(topic.encode()) + len(payload)
        if properties is not None:
            size += len(properties.pack())  # type: ignore[no-untyped-call] # paho's
        if size > limit:
            subject = f"a message of {size} bytes to {topic}, beyond its limit of {limit}"
            raise self._refusal(PACKET_TOO_LARGE, "", subject)

    async def _reply(self, packet_id: int) -> Reply:
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies[packet_id] = reply
        self._control_flow()
        try:
            return await reply
        finally:
            self._replies.pop(packet_id, None)
            self._control_flow()

    async def _reply_in_time(self, packet_id: int, packet: str, timeout_s: float | None) -> Reply:
        try:
            async with asyncio.timeout(self.options.connect_timeout_s if timeout_s is None else timeout_s):
                return await self._reply(packet_id)
        except TimeoutError as error:
            raise MqttUnreachable(f"{self.options.address} does not answer to {packet}") from error

    def _usable(self) -> PahoClient:
        if not self._open or self._client is None:
            raise self._loss.again() if self._loss else MqttConnectionLost("the connection is not open")
        return self._client

    # What the plumbing tells

    def on_message(self, message: Publish) -> None:
        """A message came (called by `PahoClient`)."""
        inbound = InboundMessage(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            message.dup,
            message.packet_id,
            message.content_type,
            message.user_properties,
            self._clock.now(),
            self._clock.boottime_ns(),
            self if message.qos else None,
        )
        if message.qos:
            self._unacknowledged.append(inbound)
        self._pending.append(inbound)
        self._pending_bytes += len(inbound.payload)
        waiting, size = len(self._pending), self._pending_bytes
        if waiting >= self._pending_max or size >= PENDING_BYTES_MAX:
            self._control_flow()
            if waiting > self._pending_max + FLOOD_MAX or size > PENDING_BYTES_MAX + FLOOD_BYTES_MAX:
                raise ValueError("the broker sends more messages than it may")
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

    def on_reply(self, packet_id: int, reply: Reply) -> None:
        """PUBACK, SUBACK or UNSUBACK came, or a QoS 0 message was written (called by `PahoClient`)."""
        self._flight.answered(packet_id)
        waiting = self._replies.get(packet_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def on_end(self, error: MqttConnectionLost | None) -> None:
        """The connection is over (called by `PahoClient`)."""
        self._open = False
        self._loss = error
        if not self._ended.done():
            self._ended.set_result(None)
        loss = error or MqttConnectionLost("the connection was closed")
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(loss.again())
        self._flight.fail(loss.again())
        self._unacknowledged.clear()
        if error is None:
            self._pending.clear()  # nobody takes them; QoS 1 comes again
            self._pending_bytes = 0
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)


def _publish_properties(content_type: str | None, user: Iterable[tuple[str, str]]) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho's
    if content_type is not None:
        properties.ContentType = content_type
    pairs = list(user)
    if pairs:
        properties.UserProperty = pairs
    return properties
