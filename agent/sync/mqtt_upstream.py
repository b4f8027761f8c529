"""Delivery over MQTT: packs to `outstation/<device>/readings`, acknowledged by the broker or by a receiver.

With `ack = "receiver"` the broker's PUBACK only says that the pack is on its way; it is acknowledged when the
receiver names it on `outstation/<device>/ack`, after its database commit. One that is not named in time is sent
again on the same connection.

The content type and encoding travel as MQTT 5 properties. On 3.1.1 there are none: gzip is told by its magic
bytes, which no JSON begins with.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.config.sessions import upstream_client_id
from agent.sync.acknowledgement import ack_topic, ledger_topic, readings_topic, topic_level
from agent.sync.awaiting import AwaitedPacks
from agent.sync.certificates import certificate_error
from agent.sync.discretion import discreetly
from agent.sync.losses import CONTENT_TYPE as LOSSES
from agent.sync.upstream import (
    LinkBroken,
    LinkLost,
    Pack,
    Paused,
    Rejected,
    RetryLater,
    TooLarge,
    Unanswered,
    UpstreamError,
)
from drivers.transport.mqtt import (
    MqttConnection,
    MqttConnectionLost,
    MqttConnectRefused,
    MqttError,
    MqttOptions,
    MqttRefused,
    MqttUnreachable,
    options_from_url,
)
from drivers.transport.secrecy import Secrecy

if TYPE_CHECKING:
    from agent.sync.config import MqttUpstreamOptions
    from collectors.clock import Clock

_log = logging.getLogger(__name__)

_NO_MATCHING_SUBSCRIBERS = 0x10
_TOPIC_NAME_INVALID = 0x90
_PAYLOAD_FORMAT_INVALID = 0x99
_PERHAPS_THE_MESSAGE = frozenset({0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x95, 0x99})
"""With these a broker ends a connection because of what it got: unspecified error, malformed packet, protocol error, specific to the
implementation, topic name, receive maximum, packet too large, payload format. Others are about the broker, or the client."""


class MqttUpstream:
    """One broker, and perhaps a receiver behind it.

    Args:
        options: As configured.
        device_id: Names the topics.
        clock: Stamps what arrives.
    """

    lasting = True

    def __init__(self, options: MqttUpstreamOptions, device_id: str, clock: Clock) -> None:
        parts = urlsplit(options.url)
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self.max_payload_bytes = options.message_size
        self._options = options
        self._device_id = device_id
        self._topic = (
            readings_topic(device_id)
            if options.topic is None
            else options.topic.replace("{device}", topic_level(device_id))
        )
        self._ledger_topic = ledger_topic(device_id)
        self._clock = clock
        self._connection: MqttConnection | None = None
        self._told_unheard = False
        self._secrecy = Secrecy()
        self._awaited = AwaitedPacks(self.name)

    @property
    def max_in_flight(self) -> int:
        """As configured, and no more than the broker said it takes."""
        connection = self._connection
        return min(self._options.in_flight, connection.receive_maximum or 1) if connection else 1

    async def connect(self) -> None:
        """Connect, and subscribe to the receiver's acknowledgements.

        Raises:
            UpstreamError: There is no connection.
        """
        await self.disconnect()
        with discreetly(self._secrecy):
            await self._connect()

    async def _connect(self) -> None:
        try:
            options = await asyncio.to_thread(broker_options, self._options, self._device_id, self._secrecy)
            connection = MqttConnection(options, clock=self._clock)
            await connection.__aenter__()
        except MqttError as error:
            raise self._connect_error(error) from error
        except (OSError, ValueError) as error:
            raise Paused(f"credentials cannot be read: {error}") from error
        self._connection = connection
        if self._options.ack == "receiver":
            try:
                async with asyncio.timeout(self._options.ack_timeout):
                    await connection.subscribe(ack_topic(self._device_id), 1)
            except MqttRefused as error:
                raise Paused(f"{self.name}: {error}") from error
            except (MqttError, TimeoutError) as error:
                raise LinkLost(f"{self.name}: {str(error) or 'no answer to SUBSCRIBE'}") from error

    async def disconnect(self) -> None:
        """Close the connection within a second; what waits for an acknowledgement gets LinkLost."""
        connection, self._connection = self._connection, None
        self._awaited.link_lost()
        if connection is not None:
            try:
                await connection.__aexit__(None, None, None)
            except MqttError as error:
                _log.debug("sync: closing the connection to %s: %s", self.name, error)

    async def lost(self) -> None:
        """Read the receiver's acknowledgements until the connection is lost."""
        connection = self._connection
        if connection is None:
            return
        try:
            async for message in connection.messages():
                self._awaited.heard(message.payload)
                connection.acknowledge(message)
        except MqttConnectionLost as error:
            _log.debug("sync: %s", error)
        self._awaited.link_lost()

    async def send(self, pack: Pack) -> None:
        """Publish one pack; returns when it is acknowledged.

        Raises:
            UpstreamError: It is not; the class says what is to be done.
        """
        with discreetly(self._secrecy):
            await self._send(pack)

    async def _send(self, pack: Pack) -> None:
        connection = self._connection
        if connection is None:
            raise LinkLost(f"{self.name}: not connected")
        if self._options.ack == "broker":
            await self._publish(connection, pack)
            return
        with self._awaited.awaited(pack) as named:
            await self._publish(connection, pack)
            try:
                async with asyncio.timeout(self._options.ack_timeout):
                    await named
            except TimeoutError as error:
                raise RetryLater(
                    f"{self.name}: the broker has it, but no receiver acknowledged within"
                    f' {self._options.ack_timeout:g} s: is `outstation receive` running? Without one, set ack = "broker"'
                ) from error

    async def _publish(self, connection: MqttConnection, pack: Pack) -> None:
        encoding = pack.content_encoding
        was_open = connection.connected
        try:
            async with asyncio.timeout(self._options.ack_timeout):
                code = await connection.publish(
                    self._ledger_topic if pack.content_type == LOSSES else self._topic,
                    pack.payload,
                    content_type=pack.content_type,
                    user_properties=[("content-encoding", encoding)] if encoding else (),
                )
        except MqttRefused as error:
            raise self._refusal(error) from error
        except MqttConnectionLost as error:
            kind = LinkBroken if was_open and _perhaps_for_the_message(error) else LinkLost
            raise kind(f"{self.name}: {error}") from error
        except TimeoutError as error:
            # Overloaded, throttling or far away: nothing of this says that the pack is bad.
            raise Unanswered(f"{self.name}: no PUBACK within {self._options.ack_timeout:g} s") from error

        if code == _NO_MATCHING_SUBSCRIBERS and self._options.ack == "broker" and not self._told_unheard:
            self._told_unheard = True
            _log.warning(
                "sync: %s acknowledges, but says that nobody subscribes to %s: unless it passes readings on by"
                " rules of its own, it throws them away",
                self.name,
                self._topic,
            )

    def _refusal(self, error: MqttRefused) -> UpstreamError:
        """What a refusing PUBACK means."""
        said = f"{self.name}: {error}"
        if error.too_large:
            return TooLarge(said)
        if error.authorisation or error.reason_code == _TOPIC_NAME_INVALID:
            return Paused(said)
        return Rejected(said) if error.reason_code == _PAYLOAD_FORMAT_INVALID else RetryLater(said)

    def _connect_error(self, error: MqttError) -> UpstreamError:
        said = f"{self.name}: {error}"
        if isinstance(error, MqttConnectRefused):
            return RetryLater(said) if error.retryable else Paused(said)
        if isinstance(error, MqttUnreachable) and error.certificate:
            return certificate_error(self.name, error.__cause__)
        return RetryLater(said)


def _perhaps_for_the_message(loss: MqttConnectionLost) -> bool:
    """Whether a broker may have ended the connection because of what it got."""
    if loss.reason_code is None:
        return not loss.fell_silent
    return loss.reason_code in _PERHAPS_THE_MESSAGE


def broker_options(options: MqttUpstreamOptions, device_id: str, secrecy: Secrecy) -> MqttOptions:
    """How to reach the broker. Reads the password: blocks.

    Raises:
        SecretError: It cannot be read.
    """
    token = secrecy.read(options.token)
    return options_from_url(
        options.url,
        client_id=options.client_id or upstream_client_id(device_id),
        protocol=5 if options.protocol == "5" else 4,
        username=options.username if token is None else token,
        password=secrecy.read(options.password),
        secrecy=secrecy,
        keepalive_s=options.keepalive,
        tls=options.certificates() if options.tls_files else None,
    )
