"""What steps share that hold readings back: windows that are not full, a corner that may be none.

What such a step holds was accepted, and must survive whatever happens: so its state is rows that somebody keeps
durable (`agent.held`), each with the readings that it stands for, should the step never come back. And since it
cannot give back what it has taken, it takes a frame or message whole, without a pause, or not at all.
"""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final

from agent.processors.reading_step import ReadingStep

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.processors.series import SeriesKey
    from collectors.models import Reading

_FOR_EVER_S: Final = 1e12
READINGS: Final = "readings"
"""The key of a row under which the documents of the readings are that it stands for."""


class HoldingStep(ReadingStep):
    """A step that may give a reading later than it took it."""

    TURN_READINGS = sys.maxsize
    """A message is taken in one turn: others must not find, write down or close half of it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._changed: set[SeriesKey] = set()
        self._now_s = 0.0
        self._overdue: list[Reading] = []

    def begin(self, monotonic_s: float) -> None:
        """From now on the step is used; its silences count from here."""
        self._now_s = monotonic_s

    def require_processable(self, reading: Reading) -> None:
        """Let pass what `apply` would take now, or after others of the same message.

        Raises:
            ValueError: It cannot be processed.
        """

    def ready(self) -> Sequence[Reading]:
        """What can be given now that the whole of a message is taken in."""
        return ()

    def _take(self, readings: Sequence[Reading], kept: list[Reading]) -> None:
        if self.on_error == "dead_letter" and len(readings) > 1:
            for reading in readings:
                if self.route is None or self.route.matches(reading):
                    self.require_processable(reading)
        super()._take(readings, kept)
        kept += self.ready()

    @abstractmethod
    def row(self, series: SeriesKey) -> dict[str, Any] | None:
        """What is held of a series, as JSON, with the documents of its readings under `READINGS`; None: nothing."""

    @abstractmethod
    def restore_row(self, series: SeriesKey, row: Mapping[str, Any]) -> None:
        """Take up what `row` gave."""

    @abstractmethod
    def due(self, monotonic_s: float) -> Sequence[Reading]:
        """What need not wait for another reading any longer."""

    def overdue(self) -> Sequence[Reading]:
        """What was let go to make room, since too many series are held."""
        given, self._overdue = self._overdue, []
        return given

    @abstractmethod
    def series(self) -> Iterable[SeriesKey]:
        """The series of which something is held."""

    def let_go(self) -> Sequence[Reading]:
        """Everything that is held, full or not: the step is not to be used again."""
        return [*self.overdue(), *self.due(_FOR_EVER_S)]

    def row_names(self) -> set[str]:
        """The names of all rows that there may be."""
        return {_name(series) for series in (*self.series(), *self._changed)}

    def rows(self) -> dict[str, dict[str, Any]]:
        """All rows, by name."""
        made = {_name(series): self.row(series) for series in self.series()}
        return {name: row for name, row in made.items() if row is not None}

    def changed_rows(self) -> dict[str, dict[str, Any] | None]:
        """The rows that changed since the last call, by name; None: nothing is held of that series any more."""
        changed, self._changed = self._changed, set()
        return {_name(series): self.row(series) for series in changed}

    def restore(self, rows: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Go on with what was held when the program ended."""
        for name, row in rows.items():
            if row is not None:
                self.restore_row(_series(name), row)

    def _note(self, series: SeriesKey) -> None:
        self._changed.add(series)


def _name(series: SeriesKey) -> str:
    source, tags = series
    return json.dumps([source, *tags], separators=(",", ":"), ensure_ascii=False)


def _series(name: str) -> SeriesKey:
    source, *tags = json.loads(name)
    return (source, tuple((key, value) for key, value in tags))
