"""Whose records these are.

A store's random id is part of every record's key. A new one begins when the device's name or the
machine differs from the last opening: a card that was cloned, or moved to another machine, never
gives two records the same key. What it already held keeps the identity it was recorded under.
"""

from dataclasses import asdict, dataclass, replace
from secrets import token_hex

from buffer.errors import DiskFault
from buffer.journal import SmallTable


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose records these are, from `first_seq` up to the next identity."""

    first_seq: int
    device_id: str
    store_id: str
    machine: str


def identities_of(table: SmallTable) -> list[Identity]:
    """All identities of a store, ascending by first id. What a newer version adds to them is passed over."""
    fields = Identity.__dataclass_fields__
    known = [
        Identity(**{key: value for key, value in row.items() if key in fields}) for _, row in table.items()
    ]
    known.sort(key=lambda epoch: epoch.first_seq)
    if known:  # should the oldest be lost, what was recorded under it goes to the next: better than to nobody
        known[0] = replace(known[0], first_seq=1)
    return known


class Identities:
    """All identities of a store.

    Attributes:
        epochs: Ascending by first id; the last one is the present one.
        lost: There was none at opening: the store is new, or lost it.
    """

    def __init__(self, table: SmallTable, device_id: str, machine_id: str) -> None:
        self.epochs = identities_of(table)
        self._table = table
        self._device_id = device_id
        self._machine_id = machine_id
        self.lost = False
        self._unwritten: Identity | None = None

    @property
    def reached(self) -> int:
        """Ids up to here were handed out before the present identity began."""
        return self.epochs[-1].first_seq - 1 if self.epochs else 0

    def begin(self, next_id: int) -> None:
        """Begin a new identity where the old one is not ours.

        Args:
            next_id: The next record's.
        """
        present = self.epochs[-1] if self.epochs else None
        self.lost = present is None
        if present is None:
            self._begin(1)
        elif (present.device_id, present.machine) != (self._device_id, self._machine_id):
            self._begin(next_id)

    def begin_anew(self, next_id: int) -> None:
        """Begin a new identity in any case: nobody knows which ids were given out under the old one, if there is one.

        Args:
            next_id: The next record's.
        """
        if self.epochs:
            self._begin(next_id)

    def _begin(self, first: int) -> None:
        self._unwritten = Identity(first, self._device_id, token_hex(16), self._machine_id)
        self.epochs[:] = [each for each in self.epochs if each.first_seq < first] + [self._unwritten]
        try:
            self.write()
        except DiskFault:
            return  # nothing else can become durable either; `write` is called again before it does

    def of(self, record_id: int) -> Identity | None:
        """Whose record this is; None when nothing is known of that time."""
        return next((each for each in reversed(self.epochs) if each.first_seq <= record_id), None)

    def write(self) -> None:
        """Make the present identity durable, before any record of it is.

        Raises:
            DiskFault: The disk refused.
        """
        new = self._unwritten
        if new is not None:
            self._table.put(f"{new.first_seq}.{new.store_id}", asdict(new))
            self._unwritten = None
