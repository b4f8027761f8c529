"""How one source does, put together from what its link, its ears and the intake know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.status.report import SourceCondition, SourceStatus
from collectors.interfaces import Counting, Remarking

if TYPE_CHECKING:
    from agent.config import SourceConfig
    from agent.intake import Intake
    from agent.spine.collection_loop import SourceLink
    from agent.spine.hearing import Hearing
    from collectors.interfaces import IDataSource

SILENT_SENSORS_MAX: Final = 20
"""Silent sensors of a source that are named; the others are counted."""


def source_status(
    config: SourceConfig, source: IDataSource, link: SourceLink, hearing: Hearing, intake: Intake
) -> SourceStatus:
    """The status of one source."""
    silent_sensors = hearing.silent_sensors
    return SourceStatus(
        source_id=config.id,
        driver=config.driver,
        state=link.state,
        condition=condition_of(link, hearing),
        since=link.since,
        frames=link.frames,
        failures=link.failures,
        dead_letters=intake.dead_letters[config.id],
        second_deliveries=intake.recognised[config.id],
        last_data=link.last_data,
        last_error=link.last_error,
        garbage=hearing.garbage_reason if hearing.garbage else None,
        silent_sensors=silent_sensors[:SILENT_SENSORS_MAX],
        silent_sensors_count=len(silent_sensors),
        remarks=list(source.remarks) if isinstance(source, Remarking) else [],
        troubles=dict(source.troubles) if isinstance(source, Counting) else {},
    )


def condition_of(link: SourceLink, hearing: Hearing) -> SourceCondition:
    """What is wrong with a source, if anything is: the link before silence, silence before garbage."""
    if link.state == "failing":
        return "link_down"
    if link.state != "connected":
        return link.state
    if hearing.silent:
        return "silent"
    return "garbage" if hearing.garbage else "ok"
