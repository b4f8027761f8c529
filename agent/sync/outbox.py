"""What is on its way: in each lane, parcels in the order of their readings, and which batch each belongs to. Pure.

A batch that was cut has several parcels. It is acknowledged once, when the last of them is settled: its bounds
are those that the buffer gave out, so that exactly what was taken is acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic

from agent.sync.batches import B
from agent.sync.lanes import LANES, SendLane
from agent.sync.upstream import LinkBroken, LinkLost, Rejected, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.sync.frozen import Bounds
    from agent.sync.packing import Parcel
    from agent.sync.upstream import UpstreamError


LOSSES_MAX = 3
"""After so many broken connections a pack is cut."""
LOSSES_OF_ONE_MAX = 10
"""After so many a single reading is suspected; with the back-off's defaults that takes half an hour."""

SEARCHES_MAX: Final = 32
"""So often a batch that was refused is cut to find what is refused in it: enough for two readings of ten thousand."""
SEARCH_PAYS_READINGS: Final = 8
"""Once more for so many readings of it that arrived: a search goes on while it pays, and costs a quarter of a message for each. So all
others arrive where one reading in fifty is refused; nothing that is refused throughout is cut any further."""


@dataclass(eq=False, slots=True)
class _Taken(Generic[B]):
    batch: B
    readings: int
    parcels_left: int
    searches: int = 0
    """How often it was cut to find what is refused in it."""
    arrived: int = 0
    """Readings of it that got through."""


@dataclass(eq=False, slots=True)
class Item(Generic[B]):
    """One parcel on its way."""

    parcel: Parcel
    taken: _Taken[B]
    lane: SendLane
    is_piece: bool = False
    """It was cut from a parcel that the other end found too large."""
    in_flight: bool = False
    alone: bool = False
    """Nothing else was in flight with it."""
    sent_s: float = 0.0
    """When it was sent last, on the monotonic clock."""
    losses: int = 0
    """How often the other end broke the connection when it got it, alone."""
    suspect: bool = False
    """A single reading that may be what breaks it; or else the link is. Others are tried in its stead."""
    on_trial: bool = False
    """Another got through since: if the connection breaks once more at this one, it is the reason."""
    delivered: bool = False
    error: UpstreamError | None = None
    """What the last attempt came to, until it is dealt with."""
    letter_id: int | None = None
    """Its dead letter, once it has one: it is not sent any more, and gets no second one."""
    letter_reason: str = ""
    letter_awaited: bool = False
    letter_durable: bool = False

    @property
    def may_be_searched(self) -> bool:
        """Whether it may be cut to find what is refused in it."""
        searches_max = SEARCHES_MAX + self.taken.arrived // SEARCH_PAYS_READINGS
        return self.parcel.count > 1 and self.taken.searches < searches_max

    @property
    def has_outcome(self) -> bool:
        """Whether there is something to deal with before it may be sent (again)."""
        if self.letter_id is not None:
            return self.letter_durable
        return not self.in_flight and (self.delivered or self.error is not None or bool(self.parcel.fault))

    def link_lost(self) -> None:
        """The connection is gone: the parcel may be sent again, unless it is what broke it."""
        self.letter_awaited = False
        concerned = self.in_flight or isinstance(self.error, LinkLost)
        if not concerned or self.delivered:
            return
        broke = self.alone and isinstance(self.error, LinkBroken)
        self.in_flight, self.error = False, None
        if not broke:
            return
        self.losses += 1
        several = self.parcel.count > 1
        if self.losses < (LOSSES_MAX if several else LOSSES_OF_ONE_MAX):
            return
        said = f"the other end broke the connection {self.losses} times when it was sent"
        if several:
            self.error = TooLarge(said)
        elif self.on_trial:
            self.error = Rejected(f"{said}, and took others")
        else:
            self.suspect = True


class Outbox(Generic[B]):
    """The parcels that are not yet settled, lane by lane, oldest first."""

    def __init__(self) -> None:
        self._lanes: dict[SendLane, list[Item[B]]] = {lane: [] for lane in LANES}
        self.readings = 0
        """Readings of all batches that are in here, settled parcels of theirs included."""

    def __iter__(self) -> Iterator[Item[B]]:
        return iter([item for items in self._lanes.values() for item in items])

    def waiting(self, lane: SendLane) -> int:
        """How many parcels of a lane are in here."""
        return len(self._lanes[lane])

    @property
    def in_flight(self) -> int:
        """Parcels that are being sent now."""
        return sum(item.in_flight for items in self._lanes.values() for item in items)

    @property
    def has_delicate(self) -> bool:
        """Whether anything in here should go alone: it was cut, or is on trial."""
        return any(item.is_piece or item.on_trial for items in self._lanes.values() for item in items)

    def add(self, batch: B, parcels: Sequence[Parcel], lane: SendLane) -> None:
        """A batch was taken; its parcels go behind all others of the lane."""
        assert parcels
        taken = _Taken(batch, len(batch), len(parcels))
        self._lanes[lane] += [Item(parcel, taken, lane) for parcel in parcels]
        self.readings += taken.readings
        batch.forget_parsed()

    def link_lost(self) -> None:
        """The connection is gone, and with it what was in flight."""
        for item in self:
            item.link_lost()

    def first_waiting(self) -> dict[SendLane, Item[B]]:
        """In each lane, the oldest parcel that is not being sent or set aside, and has no outcome to be dealt with.

        Those that are suspected wait for others to be tried. When there are no others, the least suspected goes.
        """
        found: dict[SendLane, Item[B]] = {}
        suspects: list[Item[B]] = []
        for lane, items in self._lanes.items():
            for item in items:
                if item.in_flight or item.letter_id is not None or item.has_outcome:
                    continue
                if not item.suspect:
                    found[lane] = item
                    break
                suspects.append(item)
        if suspects and not found:
            least = min(suspects, key=lambda item: item.losses)
            return {least.lane: least}
        return found

    def got_through(self) -> None:
        """The link carries: those that are suspected are tried again, each alone."""
        for item in self:
            if item.suspect:
                item.suspect, item.on_trial = False, True

    def replace(self, item: Item[B], parcels: Sequence[Parcel]) -> None:
        """A parcel was cut: the pieces take its place."""
        items = self._lanes[item.lane]
        place = items.index(item)
        items[place : place + 1] = [Item(parcel, item.taken, item.lane, is_piece=True) for parcel in parcels]
        item.taken.parcels_left += len(parcels) - 1

    def settle(self, item: Item[B]) -> B | None:
        """A parcel is delivered or set aside; returns its batch when this was the last of it."""
        self._lanes[item.lane].remove(item)
        item.taken.parcels_left -= 1
        if item.taken.parcels_left:
            return None
        self.readings -= item.taken.readings
        return item.taken.batch

    def sent_bounds(self) -> list[Bounds]:
        """The batches of which something was sent and that are not settled, lane by lane, oldest first."""
        found = {
            id(item.taken): (item.lane, item.taken.batch.first, item.taken.batch.last)
            for item in self
            if item.sent_s > 0 and item.taken.batch.last  # a dead letter that is sent again has no bounds
        }
        return list(found.values())

    def empty(self) -> list[B]:
        """Forget everything; returns the batches that were not settled."""
        batches = list({id(item.taken): item.taken.batch for item in self}.values())
        for items in self._lanes.values():
            items.clear()
        self.readings = 0
        return batches
