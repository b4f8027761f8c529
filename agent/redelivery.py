"""Recognises what a source delivers a second time.

An MQTT broker redelivers what it has no PUBACK for: after a cut, or after a kill between our commit
and our PUBACK. Such a message comes with DUP set and the packet identifier it had before (MQTT 5,
sections 3.3.1.1 and 4.4). Every stored reading carries its origin, so the index can be made again
from the newest records of the buffer after a restart.

Packet identifiers are used again, so only a recent origin proves anything: the index holds the newest
few thousand, which is more than a broker has in flight, and only a delivery that says it may be a
second one is looked up. When a broker has no session for us, nothing can come a second time: its
client's entries are forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collectors.models import Origin

CAPACITY = 8192
"""Origins kept; a broker has at most 65,535 messages in flight, and asks us for a few hundred."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the first delivery is kept: its last record in a table of the buffer."""

    table: str
    last_id: int


class RedeliveryIndex:
    """The newest origins, and where what came from them is kept."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[tuple[str, int], tuple[str, Kept]] = OrderedDict()

    def remember(self, origin: Origin, table: str, last_id: int) -> None:
        """Note where a delivery is kept; replaces what used the same packet identifier before."""
        key = (origin.client, origin.packet)
        self._kept[key] = (origin.payload_hash, Kept(table, last_id))
        self._kept.move_to_end(key)
        if len(self._kept) > self.capacity:
            self._kept.popitem(last=False)

    def find(self, origin: Origin) -> Kept | None:
        """Where the first delivery of the same message is kept, if this is its second."""
        found = self._kept.get((origin.client, origin.packet))
        return found[1] if found is not None and found[0] == origin.payload_hash else None

    def forget(self, client: str) -> None:
        """Forget a client whose session the broker has lost."""
        for key in [key for key in self._kept if key[0] == client]:
            del self._kept[key]

    def __len__(self) -> int:
        return len(self._kept)
