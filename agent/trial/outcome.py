"""What became of one thing that a dry run was fed with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.trial.inputs import Item
    from agent.trial.trace import Passage


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item; or, without one, what came because time had passed."""

    item: Item | None
    t: float
    """When: seconds UTC."""
    passages: Sequence[Passage] = ()
    letters: Sequence[dict[str, Any]] = ()
    """The dead letters that would be kept."""
    is_end: bool = False
    """It came because the input had ended."""
