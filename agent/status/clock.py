"""What the agent knows about time, for the status report and `outstation clock`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from agent.timekeeping import Chronicle, ClockWatch

_BOOTS_SHOWN = 10


class StepStatus(BaseModel):
    """A time at which somebody set the wall clock."""

    at: datetime
    by_s: float


class BootStatus(BaseModel):
    """What is known of the time in one boot."""

    boot: int
    lasted_s: float
    """At least."""
    synchronised: Sequence[tuple[datetime, datetime]]
    """From when to when the wall clock was right."""


class ClockStatus(BaseModel):
    """What the agent knows about time."""

    quality: str
    """Of a reading that is taken now."""
    by: str
    """Whose word that is."""
    error_s: float | None
    """How far the wall clock may be off."""
    boot: int
    boots: Sequence[BootStatus]
    """The latest ones, ascending."""
    boots_known: int
    steps: Sequence[StepStatus]


def clock_status(watch: ClockWatch, chronicle: Chronicle) -> ClockStatus:
    """What is known now."""
    boots = chronicle.timeline.boots
    said = watch.said
    return ClockStatus(
        quality=watch.quality().value,
        by=said.by if said else "nobody",
        error_s=said.error_s if said else None,
        boot=chronicle.boot,
        boots=[
            BootStatus(
                boot=number,
                lasted_s=boots[number].alive_ns * 1e-9,
                synchronised=[
                    (_time(stretch.first.t), _time(stretch.last.t)) for stretch in boots[number].stretches
                ],
            )
            for number in sorted(boots)[-_BOOTS_SHOWN:]
        ],
        boots_known=len(boots),
        steps=[StepStatus(at=step.at, by_s=step.by_s) for step in watch.steps],
    )


def _time(t: float) -> datetime:
    return datetime.fromtimestamp(t, UTC)


def clock_lines(status: ClockStatus) -> Iterator[str]:
    """The same for a person."""
    if status.error_s is None:
        yield f"the wall clock is not synchronised ({status.by}): times are estimated until it is"
    elif status.quality != "synced":
        yield f"the wall clock may be {status.error_s:.1f} s off ({status.by}): too much; times are estimated"
    else:
        yield f"the wall clock is synchronised ({status.by}), good to {status.error_s:.3f} s"
    for step in status.steps:
        yield f"the wall clock was set by {step.by_s:+.1f} s, to {step.at:%Y-%m-%d %H:%M:%S} UTC"
    yield ""
    yield "boot   lasted (at least)   the wall clock was right (UTC)"
    for boot in status.boots:
        running = " *" if boot.boot == status.boot else "  "
        times = "; ".join(
            f"{low:%Y-%m-%d %H:%M:%S} to {high:%Y-%m-%d %H:%M:%S}" for low, high in boot.synchronised[-3:]
        )
        yield f"{boot.boot:>4}{running} {_duration(boot.lasted_s):>17}   {times or 'never'}"
    if status.boots_known > len(status.boots):
        yield f"and {status.boots_known - len(status.boots)} boots before"


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 100:  # noqa: PLR2004 (two digits)
        return f"{minutes:.1f} min"
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:.1f} days"  # noqa: PLR2004 (likewise)
