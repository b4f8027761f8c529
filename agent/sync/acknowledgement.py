"""What a receiver says once readings are in its database: exactly which packs, and which it will never take.

    {"acked": ["<sha256 of the payload>"], "rejected": [["<sha256 of the payload>", "why"]], "rejected_in_part": ...}

A pack is named by the SHA-256 of its payload, as it was sent (compressed, if it was), in hexadecimal digits: whatever else
a device sends, also another upstream of it, at the same time, over the same broker, from the same readings, is never taken
for acknowledged. A pack that cannot be read has this name, too, and so has a message of the loss ledger
(`agent.sync.losses`). What is rejected in part is sent again in pieces, so that only the reading at fault is set aside. Published to `outstation/<device>/ack`; over HTTP it is the answer.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field


class Acknowledgement(BaseModel):
    """Packs that a receiver has committed or refused for good."""

    model_config = ConfigDict(extra="ignore", defer_build=True)

    acked: list[str] = Field(default_factory=list)
    rejected: list[tuple[str, str]] = Field(default_factory=list)
    rejected_in_part: list[tuple[str, str]] = Field(default_factory=list)

    @property
    def refusals(self) -> list[tuple[str, str, bool]]:
        """What is refused, why, and whether in part."""
        whole = [(name, why, False) for name, why in self.rejected]
        return whole + [(name, why, True) for name, why in self.rejected_in_part]


def digest(payload: bytes) -> str:
    """How a pack, or what should be one, is named."""
    return hashlib.sha256(payload).hexdigest()


def topic_level(device_id: str) -> str:
    """The id as one topic level: what MQTT gives a meaning (`/`, `+`, `#`) is percent-encoded."""
    return quote(device_id, safe=" !$&'()*,:;=@")


def readings_topic(device_id: str) -> str:
    """Where a device's packs go."""
    return f"outstation/{topic_level(device_id)}/readings"


def ack_topic(device_id: str) -> str:
    """Where the receiver acknowledges them."""
    return f"outstation/{topic_level(device_id)}/ack"


def ledger_topic(device_id: str) -> str:
    """Where a device tells of its losses."""
    return f"outstation/{topic_level(device_id)}/ledger"


READINGS_FILTER = "outstation/+/readings"
LEDGER_FILTER = "outstation/+/ledger"


def device_of(topic: str) -> str:
    """The device that a topic belongs to; of an empty level, which anybody may publish to, nobody's: the empty text.

    Raises:
        ValueError: It is not one of ours.
    """
    match topic.split("/"):
        case ["outstation", level, _]:
            return unquote(level)
    raise ValueError(f"not a topic of an Outstation: {topic!r}")
