"""Times and numbers, as people say and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from collectors.units import parse_duration


def moment(text: str | None, now: datetime) -> float | None:
    """A point in time, in seconds since 1970.

    Args:
        text: ISO 8601, in local time when it names no zone, or how long ago: `2 days`.
        now: The present.

    Raises:
        ValueError: It is neither.
    """
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except ValueError:
        pass
    try:
        return (now - timedelta(seconds=parse_duration(text))).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time; write it like 2026-07-01T12:00:00Z, 2026-07-01, or '2 days' for so long ago"
        ) from None


def short_time(time: str | None) -> str:
    """A time in ISO 8601 to the second, which is what people look for; empty when there is none."""
    return "" if time is None else f"{time[:19]}Z"
