"""What a JetStream stream's refusal of a message means. Pure.

A stream looks at no payload: beyond its size, nothing about some readings can displease it. So it never refuses for good; what it refuses,
it refuses because of itself, and the readings wait. By its error codes (`server/errors.json` of nats-server 2.15):

| error | what is to be done |
| --- | --- |
| 10054 message size exceeds maximum; 10077 store failed: message too large | cut |
| 10002, 10023, 10028, 10047 resources of the account or server; 10077 store failed: maximum bytes or messages, a disk that is full | retry: whoever takes from it makes room |
| 10063, 10071, 10118, 10158, 10164, 10167, 10194, other 404, 408, 409, 429, 5xx: a leader is elected, a repetition is being stored, it is overloaded | retry |
| 401, 403 | pause: the account's rights |
| any other 4xx: sealed, a mirror, counters, schedules, names that do not match | pause: that stream is not for readings |
"""

from __future__ import annotations

from typing import Final

from agent.sync.upstream import Paused, RetryLater, TooLarge, UpstreamError

_MESSAGE_TOO_LARGE: Final = 10054
_STORE_FAILED: Final = 10077
_NO_ROOM: Final = frozenset({10002, 10023, 10028, 10047})
_PASSING: Final = frozenset({10063, 10071, 10118, 10158, 10164, 10167, 10194})
_PASSING_STATUS: Final = frozenset({404, 408, 409, 429})
_RIGHTS: Final = frozenset({401, 403})


def refusal(name: str, status: int | None, err_code: int | None, description: str | None) -> UpstreamError:
    """What is to be done about it.

    Args:
        name: The upstream.
        status: Of the kind that HTTP has.
        err_code: JetStream's own.
        description: In its words.
    """
    status = status or 500
    said = f"{name}: the stream refuses: {description or 'it does not say why'} ({err_code or status})"
    if err_code == _MESSAGE_TOO_LARGE or (
        err_code == _STORE_FAILED and "too large" in (description or "").lower()
    ):
        return TooLarge(said)
    if err_code in _NO_ROOM or err_code == _STORE_FAILED:
        return RetryLater(
            f"{said}: it has no room; is `outstation receive` taking from it, and are the limits of stream, account and disk"
            " large enough?"
        )
    if err_code in _PASSING or status in _PASSING_STATUS or status >= 500:  # noqa: PLR2004 (as HTTP's)
        return RetryLater(said)
    if status in _RIGHTS:
        return Paused(f"{said}: check the rights of this user")
    return Paused(f"{said}: is this stream one for readings? `outstation receive` makes one that is")
