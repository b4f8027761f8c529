"""What a receiver says once readings are in its database: exactly which packs, and which it will never take.

    {"store": "9f..", "acked": [[17, 116, 100]], "rejected": [["<sha256 of the payload>", "why"]]}

`acked` holds first and last sequence number and count of each pack: a pack is named exactly, so that one that
lies between the readings of another is never taken for acknowledged. A pack that cannot be read has no such
names, so it is told by the digest of its payload. A message of the loss ledger (`agent.sync.losses`) is named by its
version, twice, and a count of 0. Published to `outstation/<device>/ack`; over HTTP it is the answer.
"""

from __future__ import annotations

import hashlib
from typing import Annotated
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field

Seq = Annotated[int, Field(ge=0)]


class Acknowledgement(BaseModel):
    """Packs that a receiver has committed or refused for good."""

    model_config = ConfigDict(extra="ignore", defer_build=True)

    store: str = ""
    acked: list[tuple[Seq, Seq, Seq]] = Field(default_factory=list)
    rejected: list[tuple[str, str]] = Field(default_factory=list)

    def names(self, store_id: str, first: int, last: int, count: int) -> bool:
        """Whether this pack is among those acknowledged."""
        return self.store == store_id and (first, last, count) in self.acked


def digest(payload: bytes) -> str:
    """How a pack that cannot be read is told."""
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
