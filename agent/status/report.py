"""The status report: plain data, one line of it saying what is not being delivered and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from agent.status.clock import ClockStatus
from agent.status.text import counted

_COMPLAINTS_SHOWN = 3
"""Of sources, in the summary; one line has room for a few."""


SourceCondition = Literal["ok", "connecting", "stopped", "link_down", "silent", "garbage"]
"""Link down, silent and garbage are three different things: no connection; a connection over which nothing comes for longer
than is normal; and samples of which none can be decoded."""


class SourceStatus(BaseModel):
    """How one source does."""

    source_id: str
    driver: str
    state: str
    """Of its link: connecting, connected, failing or stopped."""
    condition: SourceCondition = "ok"
    """What is wrong with it, if anything is."""
    since: datetime | None = None
    """When its link came into this state."""
    frames: int = 0
    failures: int = 0
    """Attempts to connect that failed, connections that were lost, and frames that could not be taken."""
    dead_letters: int = 0
    second_deliveries: int = 0
    """Messages that came again after a cut or a kill, and were recognised as kept already."""
    last_data: datetime | None = None
    last_error: str | None = None
    garbage: str | None = None
    """What is wrong with what it says, while it says nothing else."""
    silent_sensors: list[str] = Field(default_factory=list)
    """Sensors behind it that were heard and say nothing now, some of them."""
    silent_sensors_count: int = 0
    """All of them."""
    remarks: list[str] = Field(default_factory=list)
    """What is not as it was asked for, though the source works: a topic that the broker refuses, a lower QoS."""
    troubles: dict[str, int] = Field(default_factory=dict)
    """How often each kind of trouble was met since the start: `wrong_crc`, `silent`, `busy` and so on."""

    def complaints(self) -> list[str]:
        """What is not as it should be, in words; the gravest first."""
        words = {
            "connecting": "connecting",
            "stopped": "stopped",
            "link_down": f"link down: {self.last_error or 'no connection'}",
            "silent": "silent: nothing comes, though the link is up",
            "garbage": f"nothing but garbage: {self.garbage}",
        }
        found = [words[self.condition]] if self.condition in words else []
        if self.silent_sensors:
            more = self.silent_sensors_count - len(self.silent_sensors)
            names = ", ".join(self.silent_sensors) + (f" and {more} more" if more else "")
            found.append(f"{self.silent_sensors_count} silent sensors: {names}")
        return found + self.remarks


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
    bound_bytes: int | None = None
    """What readings may take in all, by quota and reserve."""
    undelivered_bytes: int | None = None
    """What those take that were not delivered."""
    bytes_per_s: float | None = None
    """At which rate they come in: over the last hour."""
    left_s: float | None = None
    """How long the room lasts at that rate, were nothing delivered."""
    written_bytes: int | None = None
    """What was written to the disk since the buffer was made."""
    written_bytes_per_day: float | None = None
    card_life_years: float | None = None
    """How long a new card of the stated endurance lasts at that."""
    lost: dict[str, int] = Field(default_factory=dict)
    """How many records are gone, by reason: damaged, dropped at the quota."""
    fault: str | None = None


class ConfigurationStatus(BaseModel):
    """The configuration that the agent runs with."""

    loaded_at: datetime
    refused: str | None = None
    """Why a later one was not taken."""
    needs_restart: list[str] = Field(default_factory=list)
    """The keys of it that a running agent cannot change, if that is why."""


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
    configuration: ConfigurationStatus
    errors: int = 0

    def summary(self) -> str:
        """One line: what is not being delivered, and why."""
        held = [
            f"{upstream.name}: {counted(upstream.backlog, 'reading')} not delivered, {upstream.holding_back}"
            for upstream in self.upstreams
            if upstream.holding_back and upstream.backlog
        ]
        if self.buffer.fault:
            held.insert(0, f"buffer: {self.buffer.fault}")
        complaints = [
            f"source {source.source_id}: {complaint}"
            for source in self.sources
            for complaint in source.complaints()
        ]
        if self.configuration.needs_restart:
            keys = " and ".join(self.configuration.needs_restart)
            complaints.append(f"the changed configuration needs a restart: {keys}")
        elif self.configuration.refused:
            complaints.append("the changed configuration was refused: the last good one is in use")
        if not self.upstreams:
            held.append("no upstream is configured: readings are kept here")
        if len(complaints) > _COMPLAINTS_SHOWN:
            complaints[_COMPLAINTS_SHOWN:] = [f"and {len(complaints) - _COMPLAINTS_SHOWN} more"]
        if held or complaints:
            return "; ".join(held + complaints)
        backlog = sum(upstream.backlog for upstream in self.upstreams)
        gone = [f"{count:,} lost ({why})" for why, count in self.buffer.lost.items()]
        gone += [
            f"{upstream.set_aside:,} set aside as dead letters ({upstream.name})"
            for upstream in self.upstreams
            if upstream.set_aside
        ]
        apart = f", apart from {' and '.join(gone)}" if gone else ""
        return (
            f"delivering, {counted(backlog, 'reading')} to go{apart}"
            if backlog
            else f"everything is delivered{apart}"
        )
