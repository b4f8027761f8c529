"""How far one upstream of a device is: which numbers its receiver should have, so that it sees a loss at either end, too.

A message of the loss ledger (`agent.sync.losses`) may have, with no losses,

    "extent": {"upstream": "cloud", "begins": 1, "since": 0, "absent": 0, "settled": 4711, "newest": 4800, "routed": false}

- `begins`: from this number on readings are for this upstream. What had gone before it was made is not.
- `absent`: so many of the numbers from `begins` to `since`, the newest when it was made, had no reading then and are in no ledger.
- `settled`: up to here every reading has found its end: acknowledged, or in the ledger.
- `newest`: the highest number that a reading has.
- `routed`: only some readings go there, so that a number that does not come says nothing.
- `aside`: first, last and count of those that it would not take: they lie on the device as dead letters (`agent.sync.aside`).

It is told when a connection is made and then once a minute to once in ten, and only when it has changed: some 200 bytes. Losses
are told before it, so that what is said to be settled and has not come is in the receiver's ledger by then, or lost without a word.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.sync.aside import SetAside

EVERY_MIN_S = 60.0
"""Between two messages at least."""
EVERY_MAX_S = 600.0
"""Twice as long after each, up to this, as long as the connection lasts."""

ROUTED: Final = "routed"
"""The small table of upstreams that have, or had, a route: `{"now": true}`, or `{"before": <id>}`."""

_Id = Annotated[int, Field(ge=0, le=2**63 - 2)]


class ToldExtent(BaseModel):
    """How far an upstream is, as a receiver gets it."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    upstream: str
    begins: _Id
    since: _Id = 0
    absent: _Id = 0
    settled: _Id
    newest: _Id
    routed: bool = False
    aside: tuple[tuple[_Id, _Id, _Id], ...] = ()

    def row(self) -> tuple[object, ...]:
        """In the order of the receiver's table."""
        aside = to_json(self.aside).decode()
        return (
            self.upstream,
            self.begins,
            self.since,
            self.absent,
            self.settled,
            self.newest,
            self.routed,
            aside,
        )


class Reach(Protocol):
    """How far a consumer of the buffer is."""

    @property
    def begins(self) -> int:
        """The lowest id that is for it."""
        ...

    @property
    def since(self) -> int:
        """The highest id when it was made."""
        ...

    @property
    def absent(self) -> int:
        """How many ids between the two had no record then, and no entry in the ledger."""
        ...

    @property
    def settled(self) -> int:
        """Up to here it has acknowledged everything."""
        ...

    @property
    def newest(self) -> int:
        """The highest durable id."""
        ...


class Epoch(Protocol):
    """Whose readings are in the buffer from an id on."""

    @property
    def device_id(self) -> str:
        """The device."""
        ...

    @property
    def store_id(self) -> str:
        """The store that they count in."""
        ...

    @property
    def first_seq(self) -> int:
        """From this id on."""
        ...


@dataclass(frozen=True, slots=True)
class Extent:
    """What is to be told of one store."""

    device_id: str
    store_id: str
    told: ToldExtent


def extents_of(
    upstream: str,
    reach: Reach,
    epochs: Sequence[Epoch],
    *,
    routed: bool = False,
    begins: int = 0,
    aside: SetAside | None = None,
) -> list[Extent]:
    """What is to be told of each store that the upstream has, or had, readings of.

    Args:
        upstream: Its name.
        reach: How far its consumer is.
        epochs: The stores, ascending.
        routed: Only some readings go there.
        begins: Before this id only some went there.
        aside: What it would not take.
    """
    found = []
    begins = max(begins, reach.begins, 1)
    ends = [following.first_seq - 1 for _, following in pairwise(epochs)]
    for epoch, end in zip(epochs, [*ends, reach.newest], strict=True):
        first, newest = max(begins, epoch.first_seq), min(reach.newest, end)
        if newest < first:
            continue
        since = min(reach.since, newest)
        told = ToldExtent(
            upstream=upstream,
            begins=first,
            since=since if since >= first else 0,
            absent=min(reach.absent, max(0, since - first + 1)),
            settled=min(max(reach.settled, first - 1), newest),
            newest=newest,
            routed=routed,
            aside=() if aside is None else aside.of(epoch.store_id),
        )
        found.append(Extent(epoch.device_id, epoch.store_id, told))
    return found


class _Table(Protocol):
    def get(self, key: str) -> Any: ...

    async def put(self, key: str, value: Any) -> None: ...


async def whole_from(table: _Table, upstream: str, newest: int, *, routed: bool) -> int:
    """From which id on everything goes to an upstream: what a route kept from it earlier it never gets.

    It is durable on return, so that it is known before the route keeps anything back.

    Args:
        table: Remembers it.
        upstream: Its name.
        newest: The highest id that there is.
        routed: It has a route now.

    Raises:
        RuntimeError: The disk refuses.
    """
    row = table.get(upstream) or {}
    if routed is not row.get("now", False):
        row = {"now": True} if routed else {"before": newest + 1}
        await table.put(upstream, row)
    return int(row.get("before", 0))


@dataclass(slots=True)
class ExtentTeller:
    """Says when how far an upstream is is to be told.

    Args:
        look: Gives that, store by store.
        aside: Takes what the upstream would not.
    """

    look: Callable[[], Sequence[Extent]]
    aside: SetAside | None = None
    every_min_s: float = EVERY_MIN_S
    every_max_s: float = EVERY_MAX_S
    _told: dict[str, ToldExtent] = field(default_factory=dict)
    _at_s: float = -inf
    _every_s: float = 0.0

    def linked(self) -> None:
        """A connection was made."""
        self._every_s = self.every_min_s

    def due(self) -> list[Extent]:
        """What is to be told now; nothing, when nothing has changed or it was told a short while ago."""
        if asyncio.get_running_loop().time() < self._at_s + self._every_s:
            return []
        return [each for each in self.look() if self._told.get(each.store_id) != each.told]

    def told(self, extents: Sequence[Extent]) -> None:
        """These have arrived."""
        if not extents:
            return
        self._told |= {each.store_id: each.told for each in extents}
        first = self._at_s == -inf
        self._at_s = asyncio.get_running_loop().time()
        self._every_s = self.every_min_s if first else min(2 * self._every_s, self.every_max_s)
