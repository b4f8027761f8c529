"""Which dead letters are meant, and what became of them: what a command and the running agent say to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from agent.dead_letters.letter import Letter

_Id = Annotated[int, Field(ge=0)]


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Selection(_Said):
    """Dead letters that meet all of these."""

    ids: tuple[tuple[_Id, _Id], ...] = ()
    """Within one of these ranges, the last ones included; empty: any."""
    source: str | None = None
    upstream: str | None = None
    stage: str | None = None
    reason: str | None = None
    """Part of the reason, whatever its case."""
    since_s: float | None = None
    """Came then or later: seconds since 1970."""
    until_s: float | None = None
    """Came before."""

    def matches(self, letter: Letter) -> bool:
        """Whether a dead letter is meant."""
        if self.ids and not any(low <= letter.letter_id <= high for low, high in self.ids):
            return False
        if self.source is not None and self.source not in letter.sources:
            return False
        if (self.upstream, self.stage) != (
            self.upstream and letter.upstream,
            self.stage and letter.stage,
        ):
            return False
        if self.reason is not None and self.reason.casefold() not in letter.reason.casefold():
            return False
        if self.since_s is not None and letter.t < self.since_s:
            return False
        return self.until_s is None or letter.t < self.until_s


class Order(_Said):
    """What to do with some dead letters; a part of them at a time."""

    do: Literal["requeue", "drop"]
    selection: Selection
    after: _Id = 0
    """Those above this id."""
    upto: _Id | None = None
    """And no higher than this; unset: than the highest there is now."""


class Handled(_Said):
    """What became of a part of them."""

    taken: int = 0
    """Went through their pipeline, or are gone."""
    sending: int = 0
    """Are on their way to their upstream, which takes its time."""
    left: tuple[tuple[int, str], ...] = ()
    """Are still there: their ids, and why."""
    next: int | None = None
    """Go on after this id; None: that was all."""
    upto: int = 0
    """The highest id that is meant."""
