"""The other end, as a protocol: what every upstream can do, and how it says that it cannot.

Errors are split by who must act. All are `UpstreamError`; anything else that escapes an upstream is a bug.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from agent.sync.acknowledgement import digest
from agent.sync.limits import Load


@dataclass(frozen=True, slots=True)
class Pack:
    """Some readings as they go over the wire. A resend is the same pack, byte for byte.

    Its bounds do not name it: two upstreams that want different readings have packs of the same bounds, and so has what is cut
    or sent again with others. The digest of what is sent does.
    """

    device_id: str
    store_id: str
    first: int
    """Sequence number of its first reading."""
    last: int
    """Sequence number of its last reading."""
    count: int
    payload: bytes
    content_type: str
    content_encoding: str | None
    points: int = 0
    """Values in it."""
    plain_bytes: int = 0
    """Its size before it was compressed."""
    digest: str = field(init=False)
    """Of the payload: how a receiver names it (`agent.sync.acknowledgement`)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest(self.payload))

    @property
    def load(self) -> Load:
        """What it takes of the other end's limits."""
        return Load(len(self.payload), self.points)

    @property
    def key(self) -> str:
        """Names exactly this pack, the same at every resend, to servers that tell repetitions by a message's key.

        With the bounds, too, since a format may leave out the numbers of the readings.
        """
        return f"{self.device_id}/{self.store_id}/{self.first}-{self.last}-{self.count}/{self.digest}"


class UpstreamError(ConnectionError):
    """A pack was not acknowledged, or there is no connection. The text is for the operator."""


class RetryLater(UpstreamError):
    """Time mends it: time-out, lost connection, 408, 429, 5xx. `retry_after_s` is what the server asked for."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LinkLost(RetryLater):
    """The connection has ended; nothing can be sent before `connect` is called again."""


class Unanswered(LinkLost):
    """There was no answer in time, and the connection is given up: the other end or the link cannot keep up."""


class LinkBroken(LinkLost):
    """The other end ended the connection when it got this pack, and had not taken it: perhaps because of it.

    Not what happens to be on its way when a link falls silent, or when nobody answers in time, or waits for a receiver
    after the broker has taken it.
    """


class Paused(UpstreamError):
    """The operator must act: credentials, authorisation, certificate, address. Trying often is no use."""


class TooLarge(UpstreamError):
    """The other end takes it in smaller pieces."""


class Rejected(UpstreamError):
    """The other end will never take this pack; `in_part`: perhaps because of some readings in it only."""

    def __init__(self, message: str, *, in_part: bool = False) -> None:
        super().__init__(message)
        self.in_part = in_part


class Upstream(Protocol):
    """One place that readings are delivered to.

    `connect` and `send` raise `UpstreamError` only. `disconnect` never raises and is harmless at any time.
    """

    @property
    def name(self) -> str:
        """Where it goes, for messages; holds no secret."""
        ...

    @property
    def lasting(self) -> bool:
        """Whether `connect` reaches the other end and the connection lasts; HTTP's does not."""
        ...

    @property
    def max_in_flight(self) -> int:
        """How many `send` calls may be under way at once; calls go out in the order they were made."""
        ...

    @property
    def max_payload_bytes(self) -> int:
        """The largest payload that the other end takes."""
        ...

    async def connect(self) -> None:
        """Establish the connection."""
        ...

    async def disconnect(self) -> None:
        """End it; `send` calls under way raise `LinkLost`."""
        ...

    async def send(self, pack: Pack) -> None:
        """Deliver one pack; returns once it is acknowledged, as the `ack` policy says."""
        ...

    async def lost(self) -> None:
        """Return when the connection is lost; never, when there is none that lasts. Then `send` calls under way end soon.

        The sender awaits it from connection to disconnection, so an upstream may do its reading in it.
        """
        ...
