"""The status report: plain data, one line of it saying what is not being delivered and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, Field

from agent.status.clock import ClockStatus

_SILENT_SHOWN = 3
"""Sources that are named in the summary; one line has room for a few."""


class SourceStatus(BaseModel):
    """How one source does."""

    source_id: str
    driver: str
    state: str
    since: datetime | None = None
    frames: int = 0
    failures: int = 0
    """Attempts to connect that failed, connections that were lost, and frames that could not be taken."""
    dead_letters: int = 0
    second_deliveries: int = 0
    """Messages that came again after a cut or a kill, and were recognised as kept already."""
    last_data: datetime | None = None
    last_error: str | None = None
    remarks: list[str] = Field(default_factory=list)
    """What is not as it was asked for, though the source works: a topic that the broker refuses, a lower QoS."""
    troubles: dict[str, int] = Field(default_factory=dict)
    """How often each kind of trouble was met since the start: `wrong_crc`, `silent`, `busy` and so on."""


class UpstreamStatus(BaseModel):
    """How delivery to one upstream does."""

    name: str
    driver: str
    state: str
    backlog: int = 0
    in_flight: int = 0
    delivered: int = 0
    set_aside: int = 0
    """Readings that the other end will never take: they are dead letters now."""
    last_delivery: datetime | None = None
    oldest: datetime | None = None
    """When the oldest reading that is on its way was measured."""
    last_error: str | None = None
    holding_back: str | None = None
    """Why the backlog is not being delivered now, in one line; None while it is."""


class BufferStatus(BaseModel):
    """How the buffer does."""

    path: str
    store_id: str
    stored: int = 0
    usage_bytes: int = 0
    dead_letters: int = 0
    lost: dict[str, int] = Field(default_factory=dict)
    """How many records are gone, by reason: damaged, dropped at the quota."""
    fault: str | None = None


class StatusReport(BaseModel):
    """How the agent does."""

    version: str
    device_id: str
    pid: int
    started_at: datetime
    clock: ClockStatus
    sources: Sequence[SourceStatus]
    buffer: BufferStatus
    upstreams: Sequence[UpstreamStatus]
    errors: int = 0

    def summary(self) -> str:
        """One line: what is not being delivered, and why."""
        held = [
            f"{upstream.name}: {upstream.backlog} readings not delivered, {upstream.holding_back}"
            for upstream in self.upstreams
            if upstream.holding_back and upstream.backlog
        ]
        if self.buffer.fault:
            held.insert(0, f"buffer: {self.buffer.fault}")
        silent = [
            f"source {source.source_id}: {source.last_error or source.state}"
            for source in self.sources
            if source.state != "connected"
        ]
        silent += [
            f"source {source.source_id}: {remark}" for source in self.sources for remark in source.remarks
        ]
        if not self.upstreams:
            held.append("no upstream is configured: readings are kept here")
        if len(silent) > _SILENT_SHOWN:
            silent[_SILENT_SHOWN:] = [f"and {len(silent) - _SILENT_SHOWN} more sources"]
        if held or silent:
            return "; ".join(held + silent)
        backlog = sum(upstream.backlog for upstream in self.upstreams)
        gone = [f"{count} lost ({why})" for why, count in self.buffer.lost.items()]
        gone += [
            f"{upstream.set_aside} set aside as dead letters ({upstream.name})"
            for upstream in self.upstreams
            if upstream.set_aside
        ]
        apart = f", apart from {' and '.join(gone)}" if gone else ""
        return (
            f"delivering, {backlog} readings to go{apart}" if backlog else f"everything is delivered{apart}"
        )
