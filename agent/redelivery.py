"""Recognises what a source delivers a second time.

An MQTT broker redelivers what it has no PUBACK for: after a cut, or after a kill between our commit
and our PUBACK. Such a message comes with DUP set and the packet identifier it had before (MQTT 5,
sections 3.3.1.1 and 4.4). The last reading of each message carries its origin, so the index can be made
again from the newest records of the buffer after a restart.

How much can come again is the broker's business, not ours: what it has sent may exceed the Receive
Maximum, and PUBACKs that wait in its socket are lost when our process is killed (Mosquitto that saves its
state at each change was seen to redeliver 7,900 messages, most of them acknowledged long before).
But packet identifiers are 16 bits, and one is not used again before its PUBACK was seen, so the newest
message of each identifier is all there is to know. That is kept in flat arrays: 1.3 MB a client.

An identifier that is used again, by a message of the same topic and content whose first delivery never
arrived, would be taken for a redelivery of the old one. Brokers that count identifiers up come round after
65,535 messages; so entries are good for half of that, and only a delivery that says it may be a second one
is looked up. When a broker has no session for us, nothing can come a second time: its client's entries are
forgotten.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collectors.models import Origin

CAPACITY = 32_768
"""For so many further deliveries of its client an origin is remembered."""
_PACKET_IDS = 65_536
_HASH_BITS = 64
_TABLE_BITS = 4
_COUNT_BITS = 32


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the first delivery is kept: its last record in a table of the buffer."""

    table: str
    last_id: int


class _Client:
    """The newest delivery of each packet identifier of one MQTT client."""

    def __init__(self) -> None:
        self.delivered = 0
        self.hashes = array("Q", bytes(8 * _PACKET_IDS))
        self.places = array("Q", bytes(8 * _PACKET_IDS))
        """Record id and, in the low bits, table number from 1; 0 where there was no delivery."""
        self.counts = array("I", bytes(4 * _PACKET_IDS))
        """How many deliveries there were by then, modulo 2**32."""


class RedeliveryIndex:
    """The newest origins, and where what came from them is kept."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._clients: dict[str, _Client] = {}
        self._tables: list[str] = []

    def remember(self, origin: Origin, table: str, last_id: int) -> None:
        """Note where a delivery is kept; replaces what used the same packet identifier before."""
        client = self._clients.get(origin.client)
        if client is None:
            client = self._clients[origin.client] = _Client()
        if table not in self._tables:
            self._tables.append(table)
            assert len(self._tables) < 1 << _TABLE_BITS
        client.delivered += 1
        client.hashes[origin.packet] = _bits(origin.payload_hash)
        client.places[origin.packet] = last_id << _TABLE_BITS | self._tables.index(table) + 1
        client.counts[origin.packet] = client.delivered % (1 << _COUNT_BITS)

    def find(self, origin: Origin) -> Kept | None:
        """Where the first delivery of the same message is kept, if this is its second."""
        client = self._clients.get(origin.client)
        if client is None:
            return None
        place = client.places[origin.packet]
        age = (client.delivered - client.counts[origin.packet]) % (1 << _COUNT_BITS)
        if not place or age >= self.capacity or client.hashes[origin.packet] != _bits(origin.payload_hash):
            return None
        return Kept(self._tables[place % (1 << _TABLE_BITS) - 1], place >> _TABLE_BITS)

    def forget(self, client: str) -> None:
        """Forget a client whose session the broker has lost."""
        self._clients.pop(client, None)


def _bits(payload_hash: str) -> int:
    return int(payload_hash, 16) % (1 << _HASH_BITS)
