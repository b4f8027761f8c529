"""Tells a copy that the broker stored from a message that was taken already. Pure bookkeeping.

A broker sends the copy that it stored of a topic with each new subscription (MQTT 3.1.1: also when the session has the
subscription already). It is the newest message of its topic: when that was taken before, as a live message or as an
earlier copy, it is no new reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from drivers.transport.mqtt import InboundMessage, MqttConnection

TOPICS_MAX: Final = 10_000


class _Taken(NamedTuple):
    digest: bytes
    connection: MqttConnection | None
    """Which brought it, until it is safe."""
    packet_id: int


class NewestTaken:
    """The newest message that was taken of each topic, by its digest.

    A message of QoS 1 that was not acknowledged counts on the connection that brought it only.
    """

    def __init__(self) -> None:
        self._newest: dict[str, _Taken] = {}

    def take(self, message: InboundMessage, digest: bytes) -> None:
        """Note a message that is taken now."""
        if len(self._newest) >= TOPICS_MAX:
            self._newest.clear()  # a copy too many is better than memory without bound
        self._newest[message.topic] = _Taken(digest, message.connection, message.packet_id)

    def acknowledge(self, message: InboundMessage) -> None:
        """Note that a message is safe; before its connection is told."""
        newest = self._newest.get(message.topic)
        if (
            newest is not None
            and newest.connection is message.connection
            and newest.packet_id == message.packet_id
        ):
            self._newest[message.topic] = newest._replace(connection=None)

    def has(self, message: InboundMessage, digest: bytes, connection: MqttConnection) -> bool:
        """Whether the message, which came on this connection, was taken before."""
        newest = self._newest.get(message.topic)
        return newest is not None and newest.digest == digest and newest.connection in {None, connection}
