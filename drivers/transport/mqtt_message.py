"""A message as a connection hands it over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from drivers.transport.mqtt import MqttConnection


@dataclass(slots=True, eq=False)
class InboundMessage:
    """A message as it came; hashable by identity, so that it serves as a token."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    """It was stored by the broker before we subscribed."""
    dup: bool
    """The broker may have delivered it before (on an earlier connection of this session)."""
    packet_id: int
    """0 at QoS 0."""
    content_type: str | None
    user_properties: tuple[tuple[str, str], ...]
    received_at: datetime
    """Wall clock at its arrival, UTC."""
    up_ns: int
    """CLOCK_BOOTTIME at its arrival."""
    connection: MqttConnection | None = field(repr=False)
    """Which connection brought it; None when there is nothing (more) to acknowledge."""
