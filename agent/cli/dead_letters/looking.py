"""The dead letters in a buffer's files, beside an agent that may be running."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.composition.dead_letters import REQUEUED
from agent.dead_letters import TABLE, Letter
from agent.held import TABLE as HELD
from agent.held import TAKEN_AGAIN
from buffer.inspection import Inspection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config import AgentConfig
    from agent.dead_letters import Selection


@dataclass(frozen=True, slots=True)
class Found:
    """A dead letter."""

    letter: Letter
    on_way_to: str | None
    """The upstream that it is being sent to again."""


def letters(config: AgentConfig, selection: Selection) -> Iterator[Found]:
    """Those that are meant, ascending.

    Raises:
        NoBuffer: There is no buffer.
        OSError: It cannot be read.
        DiskFault: Likewise.
    """
    inspection = Inspection(config.buffer.path)
    taken: dict[str, Any] = dict(inspection.small_table(HELD).items()).get(TAKEN_AGAIN) or {"ids": ()}
    gone = set(taken["ids"])
    sent = dict(inspection.small_table(REQUEUED).items())
    for letter_id, document in inspection.table(TABLE).stream():
        letter = Letter(letter_id, document)
        if letter_id not in gone and selection.matches(letter):
            yield Found(letter, sent.get(str(letter_id), {}).get("upstream"))


def whose(letter: Letter) -> str:
    """Its source, its sources, or the upstream that did not take it."""
    return letter.upstream or ", ".join(letter.sources) or "?"
