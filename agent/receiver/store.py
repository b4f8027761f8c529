"""The receiver's database, as a protocol: each reading once, durable before anybody is told.

The key (device_id, store_id, seq) is unique, so that a resend inserts nothing. Errors are split by who must act.
All are `StoreError`; anything else that escapes a store is a bug.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from agent.receiver.packs import Received, Refused
    from agent.sync.losses import ToldLosses
    from collectors.clock import Clock

REJECTED_MAX = 10_000
"""Rejected packs that are kept; older ones go."""
REJECTED_BYTES_MAX = 64 * 1024
"""Of a rejected payload; the rest is cut off."""


class StoreError(OSError):
    """The database cannot be opened, or did not commit."""


class StoreUnavailable(StoreError):
    """Time mends it: the database is not reached, is starting, is full."""


class Unstorable(StoreError):
    """The database will never take what it was given."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a commit came to."""

    inserted: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """What a store did since it was opened, and what it holds."""

    readings: int
    """In a large database, its own estimate."""
    inserted: int
    duplicates: int
    rejected: int


@dataclass(frozen=True, slots=True)
class KnownLoss:
    """One entry of a device's loss ledger, as it was told."""

    first: int
    last: int
    count: int
    why: str


@dataclass(frozen=True, slots=True)
class KnownExtent:
    """How far one upstream of a device is, as it was told last (`agent.sync.extent`)."""

    upstream: str
    begins: int
    """From this number on readings are for this receiver."""
    since: int
    """The newest number when the upstream was made."""
    absent: int
    """How many numbers between the two had no reading then, and no entry in the ledger."""
    settled: int
    """Up to here all have found their end."""
    newest: int
    """The highest that was issued."""
    routed: bool
    """Only some of them are for this receiver."""
    aside: tuple[tuple[int, int, int], ...]
    """First, last and count of what it would not take: dead letters on the device."""
    told_at: float
    """When that came, seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Part:
    """How many of the numbers from `first` to `last` have come."""

    first: int
    last: int
    came: int


@dataclass(slots=True)
class Coverage:
    """Which sequence numbers of one buffer have come."""

    device_id: str
    store_id: str
    first: int
    """The lowest that came; 0 when none did."""
    last: int
    """The highest."""
    readings: int
    """How many came."""
    losses: list[KnownLoss] = field(default_factory=list)
    extents: list[KnownExtent] = field(default_factory=list)
    """Of each upstream that told."""
    parts: list[Part] = field(default_factory=list)
    """As `agent.receiver.gaps.cuts` says; ascending."""


class ReadingStore(Protocol):
    """Where a receiver keeps readings; an asynchronous context manager."""

    async def __aenter__(self) -> Self:
        """Open it. Raises StoreError."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        ...

    async def write(
        self,
        packs: Sequence[Received],
        refused: Sequence[Refused] = (),
        losses: Sequence[ToldLosses] = (),
    ) -> Stored:
        """Commit all of these at once; durable on return.

        After StoreUnavailable nothing, or all of it, was stored: the answer may have been lost. The same again does
        no harm. After any other StoreError nothing was.
        """
        ...

    async def statistics(self) -> StoreStatistics:
        """What it did and holds. Raises StoreError."""
        ...

    async def coverage(self, device_id: str | None = None) -> list[Coverage]:
        """What came of each buffer, of one device or of all, by device and store.

        Reads the whole index, and that of buffers with gaps twice. Raises StoreError.
        """
        ...

    async def holes(
        self, device_id: str, store_id: str, within: Sequence[tuple[int, int]], most: int
    ) -> list[tuple[int, int]]:
        """The first and last number of each run in these ranges that has not come; ascending, and at most so many.

        Raises StoreError.
        """
        ...


def store_for(url: str, clock: Clock) -> ReadingStore:
    """The store that a URL names: `sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://host/database`.

    Raises:
        ValueError: There is no such kind of store.
        ImportError: What it needs is not installed.
    """
    parts = urlsplit(url)
    if parts.scheme in {"postgresql", "postgres"}:
        return _postgres(url, clock)
    if parts.scheme != "sqlite":
        shown = parts.scheme or repr(url)
        raise ValueError(
            f"cannot write into {shown}: it should be sqlite:///file.db or postgresql://host/database"
        )
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path:
        raise ValueError("it should be sqlite:///file.db, or sqlite:////absolute/file.db")
    from agent.receiver.sqlite_store import SqliteStore

    return SqliteStore(path, clock)


def _postgres(url: str, clock: Clock) -> ReadingStore:
    try:
        from agent.receiver.postgres_store import PostgresStore
    except ImportError as error:
        raise ImportError(
            'writing into PostgreSQL needs psycopg: pip install "outstation[postgresql]"'
        ) from error
    return PostgresStore(url, clock)
