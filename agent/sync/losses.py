"""The loss ledger on the wire: a device tells its receiver which readings will never come, and why.

    {"device": "greenhouse-3", "store": "9f..", "version": 17, "losses": [
      {"first": 1, "last": 20000, "count": 19950, "lane": "normal", "why": "full: oldest dropped",
       "since": 1790000000.0, "until": 1790003600.0}]}

Published to `outstation/<device>/ledger`, or posted to the readings' URL with a content type of its own;
acknowledged as a pack is, after the receiver's commit. Told at least once: a range that
contains an earlier one of the same lane and reason replaces it, so a repetition changes nothing. `count` is 0 for
ids that no reading ever had, `first` is 0 for readings that were lost before they had one.

On the same way goes how far the device is: `agent.sync.extent`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import BaseModel, ConfigDict, FailFast, Field
from pydantic_core import to_json

from agent.spine.errors import describe
from agent.sync.extent import Extent, ExtentTeller, ToldExtent
from agent.sync.upstream import Pack, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

_log = logging.getLogger(__name__)

CONTENT_TYPE = "application/vnd.outstation.ledger+json"
EVERY_S = 10.0
"""How often it is looked for news: a loss that goes on changes its entry all the time."""
RETRY_S = 60.0
ENTRIES_MAX = 200
"""In one message: some 30 KB."""

_Id = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Time = Annotated[float, Field(allow_inf_nan=False)]
"""What is no number is no time, and no database takes it."""


class ToldLoss(BaseModel):
    """One entry of a ledger, as a receiver gets it."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    first: _Id
    last: _Id
    count: _Id
    lane: str | None = None
    why: str
    since: _Time
    until: _Time


class ToldLosses(BaseModel):
    """One message."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    device: Annotated[str, Field(min_length=1)]
    store: Annotated[str, Field(min_length=1)]
    version: _Id
    losses: Annotated[list[ToldLoss], FailFast()]
    extent: ToldExtent | None = None
    """How far this upstream is, if that is what is told."""


class Entry(Protocol):
    """What is needed of an entry of the buffer's ledger."""

    @property
    def first(self) -> int:
        """The lowest id of it; 0 when they had none."""
        ...

    @property
    def last(self) -> int:
        """The highest."""
        ...

    @property
    def count(self) -> int:
        """How many readings; 0 when the ids were never given to any."""
        ...

    @property
    def lane(self) -> str | None:
        """Of this lane only; None: of either."""
        ...

    @property
    def why(self) -> str:
        """The reason."""
        ...

    @property
    def since(self) -> float:
        """When it was first noticed, seconds since 1970."""
        ...

    @property
    def until(self) -> float:
        """When it was last noticed."""
        ...

    @property
    def version(self) -> int:
        """Which change of the ledger this is."""
        ...


class LossFeed(Protocol):
    """The entries that one upstream's receiver does not know yet."""

    async def untold(self) -> Sequence[Entry]:
        """In the order of their versions. Raises RuntimeError when the disk refuses."""
        ...

    async def told(self, version: int) -> None:
        """The receiver has all up to this version. Raises RuntimeError when the disk refuses."""
        ...


def messages(entries: Sequence[Entry], identity_of: Callable[[int], tuple[str, str]]) -> list[Pack]:
    """Messages of these entries, each of one identity, in the order of their versions."""
    groups: list[tuple[tuple[str, str], list[Entry]]] = []
    for entry in entries:
        identity = identity_of(entry.first)
        if not groups or groups[-1][0] != identity or len(groups[-1][1]) >= ENTRIES_MAX:
            groups.append((identity, []))
        groups[-1][1].append(entry)
    return [_message(device, store, group) for (device, store), group in groups]


def extent_message(extent: Extent) -> Pack:
    """Says how far an upstream is."""
    newest = extent.told.newest
    said = ToldLosses(
        device=extent.device_id, store=extent.store_id, version=newest, losses=[], extent=extent.told
    )
    payload = to_json(said, exclude_none=True)
    return Pack(extent.device_id, extent.store_id, newest, newest, 0, payload, CONTENT_TYPE, None)


def _message(device_id: str, store_id: str, entries: Sequence[Entry]) -> Pack:
    version = entries[-1].version
    said = ToldLosses(
        device=device_id,
        store=store_id,
        version=version,
        losses=[
            ToldLoss(
                first=entry.first,
                last=entry.last,
                count=entry.count,
                lane=entry.lane,
                why=entry.why,
                since=entry.since,
                until=entry.until,
            )
            for entry in entries
        ],
    )
    payload = to_json(said, exclude_none=True)
    return Pack(device_id, store_id, version, version, 0, payload, CONTENT_TYPE, None)


@dataclass(slots=True)
class LossTeller:
    """Tells one upstream's receiver of losses, beside the readings and never in their way.

    Args:
        name: The upstream's.
        feed: What it does not know yet.
        identity_of: Device and store id of a record's id; 0 is the present one.
        extents: How far the upstream is; None: that is not told.
    """

    name: str
    feed: LossFeed
    identity_of: Callable[[int], tuple[str, str]]
    extents: ExtentTeller | None = None
    every_s: float = EVERY_S
    retry_s: float = RETRY_S
    _failing: bool = False
    _untaken: bool = False
    """What was sent last was not taken."""

    async def run(self, send: Callable[[Pack], Awaitable[None]]) -> None:
        """Tell over a connection until cancelled. What fails is told again later, and said once.

        Args:
            send: Delivers one message; raises UpstreamError.
        """
        if self.extents is not None:
            self.extents.linked()
        if self._untaken:  # perhaps that is what ended the last connection: readings go first
            await asyncio.sleep(self.retry_s)
        while True:
            try:
                # First how far it is, then what was lost by then: what is said to be settled is in the ledger, or has arrived.
                extents = [] if self.extents is None else self.extents.due()
                for message in messages(await self.feed.untold(), self.identity_of):
                    self._untaken = True
                    await send(message)
                    await self.feed.told(message.last)
                await self._tell_extents(extents, send)
            except (UpstreamError, RuntimeError) as error:
                if not self._failing:
                    _log.warning("sync: %s cannot be told of losses: %s", self.name, describe(error))
                self._failing = True
                await asyncio.sleep(self.retry_s)
            else:
                self._failing = self._untaken = False
                await asyncio.sleep(self.every_s)

    async def set_aside(self, store_id: str, first: int, last: int, count: int) -> None:
        """The other end would not take these, and they are dead letters: it shall not take them for lost.

        Raises:
            RuntimeError: The disk refuses.
        """
        if self.extents is not None and self.extents.aside is not None:
            await self.extents.aside.add(store_id, first, last, count)

    async def _tell_extents(self, extents: Sequence[Extent], send: Callable[[Pack], Awaitable[None]]) -> None:
        for extent in extents:
            self._untaken = True
            await send(extent_message(extent))
        if self.extents is not None:
            self.extents.told(extents)
