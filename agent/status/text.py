"""The status report as lines for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from agent.status.report import BufferStatus, SourceStatus, StatusReport, UpstreamStatus

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def ago(when: datetime | None, now: datetime) -> str:
    """`12 s ago`, or `never`."""
    if when is None:
        return "never"
    seconds = max(0, round((now - when).total_seconds()))
    if seconds < 2 * _MINUTE_S:
        return f"{seconds} s ago"
    if seconds < 2 * _HOUR_S:
        return f"{seconds // _MINUTE_S} min ago"
    if seconds < 2 * _DAY_S:
        return f"{seconds // _HOUR_S} h ago"
    return f"{seconds // _DAY_S} days ago"


def size(count: int) -> str:
    """`1.2 MB`."""
    number = float(count)
    for unit in ("B", "kB", "MB"):
        if number < 1000:  # noqa: PLR2004 (SI prefixes)
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def span(seconds: float) -> str:
    """`12 days`."""
    for unit_s, unit in ((_DAY_S, "days"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def counted(count: int, noun: str) -> str:
    """`1 segment`, `2,000 segments`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _room(buffer: BufferStatus) -> Iterator[str]:
    """How long room and card last."""
    if buffer.left_s is not None and buffer.bytes_per_s is not None and buffer.bound_bytes is not None:
        yield (
            f"room for {span(buffer.left_s)} at this rate ({size(round(buffer.bytes_per_s * _DAY_S))} a day,"
            f" {size(buffer.undelivered_bytes or 0)} of {size(buffer.bound_bytes)} not delivered)"
        )
    if buffer.written_bytes_per_day is not None:
        life = f": a new card lasts {buffer.card_life_years:.0f} years" if buffer.card_life_years else ""
        yield f"{size(round(buffer.written_bytes_per_day))} a day written to the card{life}"


def lines(report: StatusReport, now: datetime) -> Iterator[str]:
    """The report, line by line; the first says how delivery does."""
    yield report.summary()
    yield ""
    yield (
        f"device    {report.device_id}  (outstation {report.version}, pid {report.pid}, started"
        f" {ago(report.started_at, now)}, boot {report.clock.boot}, clock {report.clock.quality})"
    )
    if report.configuration.refused:
        yield f"config    as of {ago(report.configuration.loaded_at, now)}; what came later was refused:"
        for problem in report.configuration.refused.splitlines():
            yield f"          {problem}"
    count = report.buffer.dead_letters
    letters = f"; {counted(count, 'dead letter')}: see outstation dead-letters list" if count else ""
    yield (
        f"buffer    {counted(report.buffer.stored, 'reading')}, {size(report.buffer.usage_bytes)}"
        f" in {report.buffer.path}{letters}"
    )
    for line in _room(report.buffer):
        yield f"          {line}"
    if report.buffer.fault:
        yield f"          FAULT: {report.buffer.fault}"
    for source in report.sources:
        yield from _source_lines(source, now)
    for upstream in report.upstreams:
        yield from _upstream_lines(upstream, now)


def _source_lines(source: SourceStatus, now: datetime) -> Iterator[str]:
    garbage = f", {counted(source.dead_letters, 'dead letter')}" if source.dead_letters else ""
    failures = f", {counted(source.failures, 'failure')}" if source.failures else ""
    state = source.state if source.condition == "ok" else source.condition.replace("_", " ")
    yield (
        f"source    {source.source_id:<16} {source.driver:<10} {state:<10}"
        f" {counted(source.frames, 'frame')}, last {ago(source.last_data, now)}{garbage}{failures}"
    )
    for complaint in source.complaints():
        yield f"          {complaint}"
    if source.last_error and source.condition != "link_down":
        yield f"          last error: {source.last_error}"
    if source.troubles:
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(source.troubles.items()))
        yield f"          since the start: {counts}"


def _upstream_lines(upstream: UpstreamStatus, now: datetime) -> Iterator[str]:
    oldest = f" (oldest measured {ago(upstream.oldest, now)})" if upstream.oldest else ""
    set_aside = f", {upstream.set_aside} set aside" if upstream.set_aside else ""
    yield (
        f"upstream  {upstream.name:<16} {upstream.driver:<10} {upstream.state:<10}"
        f" {upstream.delivered:,} delivered, {upstream.backlog:,} waiting{oldest}, {upstream.in_flight} in flight"
        f"{set_aside}"
    )
    if upstream.holding_back:
        yield f"          {upstream.holding_back}"
    elif upstream.set_aside and upstream.last_error:
        yield f"          last error: {upstream.last_error}"
