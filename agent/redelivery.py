"""Recognises what a source delivers a second time.

An MQTT broker redelivers what it has no PUBACK for: after a cut, or after a kill between our commit
and our PUBACK. Such a message comes with DUP set and the packet identifier it had before (MQTT 5,
sections 3.3.1.1 and 4.4). The last reading of each message carries its origin, so the index can be made
again from the newest records of the buffer after a restart.

How much can come again is the broker's business, not ours: what it has sent may exceed the Receive
Maximum, and PUBACKs that wait in its socket are lost when our process is killed (Mosquitto that saves its
state at each change was seen to redeliver 7,900 messages, most of them acknowledged long before).
But packet identifiers are 16 bits, and one is not used again before its PUBACK was seen, so the newest
message of each identifier is all there is to know. That is kept in flat arrays, of which a client that has said little takes
little: 0.7 MB after 32,768 messages.

An identifier that is used again, by a message of the same topic and content whose first delivery never
arrived, would be taken for a redelivery of the old one. Brokers that count identifiers up come round after
65,535 messages; so entries are good for half of that, and only a delivery that says it may be a second one
is looked up. A broker that gives the lowest free identifier instead is noticed by the first one that it uses
again: from then on nothing of its client is taken for a redelivery, since a second copy is better than a loss.
When a broker has no session for us, nothing can come a second time: its client's entries are forgotten.
Both findings are durable (`SessionNotes`), since a restart reads the origins of former sessions again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collectors.models import Origin

_log = logging.getLogger(__name__)

CAPACITY = 32_768
"""For so many further deliveries of its client an origin is remembered; 65,536 at most."""
_PACKET_IDS = 65_536
_HASH_BITS = 64
_TABLE_BITS = 4


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the first delivery is kept: its last record in a table of the buffer."""

    table: str
    last_id: int


class _Client:
    """The newest deliveries of one MQTT client, in a ring; of each packet identifier, where its newest one is.

    Attributes:
        delivered: How many there were.
        restored: So many of them are known from the buffer only, with gaps.
        hashes: Of what was delivered, by place in the ring.
        kept: Record id and, in the low bits, table number from 1, by place in the ring; 0 while it is not known.
    """

    def __init__(self, capacity: int) -> None:
        self.delivered = 0
        self.restored = 0
        self._capacity = capacity
        words = 2 * 8 * capacity
        memory = mmap(-1, words + 2 * capacity + 2 * _PACKET_IDS, MAP_PRIVATE | MAP_ANONYMOUS)
        view = memoryview(memory)  # takes no memory before it is written to
        self.hashes = view[: words // 2].cast("Q")
        self.kept = view[words // 2 : words].cast("Q")
        self._packets = view[words : words + 2 * capacity].cast("H")
        self._places = view[words + 2 * capacity :].cast("H")

    def place(self, packet: int) -> int | None:
        """Where the newest delivery with this identifier is, if it is among the newest of all."""
        place = self._places[packet]
        return place if self._packets[place] == packet else None

    def number(self, place: int) -> int:
        """Which delivery is at a place, counted from 1."""
        return self.delivered - (self.delivered - 1 - place) % self._capacity

    def add(self, packet: int) -> None:
        """A delivery."""
        place = self.delivered % self._capacity
        self.delivered += 1
        self._packets[place] = packet
        self._places[packet] = place
        self.kept[place] = 0


class RedeliveryIndex:
    """The newest origins, and where what came from them is kept."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._clients: dict[str, _Client] = {}
        self._reusing: set[str] = set()
        """Clients whose broker uses identifiers again too soon to tell a redelivery by them."""
        self._tables: list[str] = []

    def distrust(self, client: str) -> None:
        """Take nothing of this client for a redelivery: its broker uses identifiers again too soon."""
        self._reusing.add(client)

    def deliver(self, origin: Origin, *, again: bool) -> bool:
        """Count a delivery that is none of what is kept; what used its packet identifier before is over.

        Args:
            origin: The delivery's.
            again: Whether the broker says that it may be the second one.

        Returns:
            Whether this showed, for the first time, that the client has to be distrusted.
        """
        client = self._clients.get(origin.client)
        if client is None:
            client = self._clients[origin.client] = _Client(self.capacity)
        place = client.place(origin.packet)
        reused = place is not None and not again and client.number(place) > client.restored
        client.add(origin.packet)
        if not reused or origin.client in self._reusing:
            return False
        self.distrust(origin.client)
        _log.warning(
            "the broker of %s uses packet identifiers again at once: what it delivers twice is stored twice",
            origin.client,
        )
        return True

    def remember(self, origin: Origin, table: str, last_id: int) -> None:
        """Note where what was delivered just now is kept."""
        if table not in self._tables:
            self._tables.append(table)
            assert len(self._tables) < 1 << _TABLE_BITS
        client = self._clients[origin.client]
        place = client.place(origin.packet)
        if place is not None:
            client.hashes[place] = _bits(origin.payload_hash)
            client.kept[place] = last_id << _TABLE_BITS | self._tables.index(table) + 1

    def restore(self, origin: Origin, table: str, last_id: int) -> None:
        """Note what the buffer holds from before; oldest first."""
        self.deliver(origin, again=True)
        self.remember(origin, table, last_id)
        client = self._clients[origin.client]
        client.restored = client.delivered

    def find(self, origin: Origin) -> Kept | None:
        """Where the first delivery of the same message is kept, if this is its second."""
        client = self._clients.get(origin.client)
        if client is None or origin.client in self._reusing:
            return None
        place = client.place(origin.packet)
        if place is None or not client.kept[place] or client.hashes[place] != _bits(origin.payload_hash):
            return None
        kept = client.kept[place]
        return Kept(self._tables[kept % (1 << _TABLE_BITS) - 1], kept >> _TABLE_BITS)

    def forget(self, client: str) -> None:
        """Forget a client whose session the broker has lost."""
        self._clients.pop(client, None)


class StateTable(Protocol):
    """A small durable table (the buffer's)."""

    def items(self) -> list[tuple[str, Any]]:
        """All rows."""
        ...

    def get(self, key: str) -> Any:
        """One row, or None."""
        ...

    async def put(self, key: str, value: Any) -> None:
        """Write a row; durable on return."""
        ...


class SessionNotes:
    """What must be known of each client's session after a restart.

    A row a client: `since`, the first record id of its present session in each table, and `reuses`, whether
    its broker uses identifiers again too soon.
    """

    _PREFIX = "session:"

    def __init__(self, table: StateTable) -> None:
        self._table = table

    def since(self, client: str, table: str) -> int:
        """The first id of a table that the present session may have brought."""
        return int(self._row(client)["since"].get(table, 0))

    def distrusted(self) -> list[str]:
        """Clients whose broker uses identifiers again too soon."""
        names = [(key, row) for key, row in self._table.items() if key.startswith(self._PREFIX)]
        return [key.removeprefix(self._PREFIX) for key, row in names if row["reuses"]]

    async def begin(self, client: str, since: Mapping[str, int]) -> None:
        """A new session: nothing from before these ids can come again."""
        await self._table.put(self._PREFIX + client, self._row(client) | {"since": dict(since)})

    async def distrust(self, client: str) -> None:
        """The client's broker uses identifiers again too soon."""
        await self._table.put(self._PREFIX + client, self._row(client) | {"reuses": True})

    def _row(self, client: str) -> dict[str, Any]:
        row = self._table.get(self._PREFIX + client)
        return row if isinstance(row, dict) else {"since": {}, "reuses": False}


def _bits(payload_hash: str) -> int:
    return int(payload_hash, 16) % (1 << _HASH_BITS)
