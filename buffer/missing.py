"""Files of the readings that somebody removed while the buffer was closed, and what they held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buffer.layout import ID_MAX
from buffer.loss import AT_MOST, FILE_MISSING, NEVER_ISSUED, Loss
from buffer.naming import READINGS
from buffer.recovery import UNSEEN_RECORDS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffer.consumers import Consumers
    from buffer.ledger import Ledger
    from buffer.recovery import Recovered


class MissingFiles:
    """Sees which are gone, by the ids that nothing else accounts for."""

    def __init__(self, consumers: Consumers, ledger: Ledger, *, reached: int, was_open: bool) -> None:
        """Make it.

        Args:
            consumers: Who has what.
            ledger: What is known to be lost.
            reached: The highest id that the files once told of.
            was_open: A process committed something, and did not close the buffer.
        """
        self._consumers = consumers
        self._ledger = ledger
        self._reached = reached
        self._was_open = was_open

    def look(self, found: Recovered) -> None:
        """Note in what a recovery found what is missing beside that."""
        found.losses += list(self._gaps(found))
        found.missing = self._is_end_missing(found)
        self._note_end(found)

    def _gaps(self, found: Recovered) -> Iterator[Loss]:
        """Ids of readings that nothing accounts for: somebody removed files while the buffer was closed.

        Without consumers nobody is owed anything, and records are removed without an entry.
        """
        if not self._consumers.names():
            return
        accounted_for = self._consumers.done_in_all_lanes()
        for loss in found.losses:
            accounted_for.add(loss.first, loss.last)
        following = self._consumers.since + 1
        for segment in found.segments:
            for low, high in self._ledger.unexplained(READINGS, following, segment.base - 1):
                for part in accounted_for.missing_within(low, high):
                    yield Loss(*part, part[1] - part[0] + 1, FILE_MISSING)
            following = max(following, segment.last + 1)

    def _is_end_missing(self, found: Recovered) -> bool:
        """Whether the last files are gone.

        All are, or the one that was being written, or somebody had ids beyond them that the ledger does not explain.
        """
        named = max(self._reached, self._consumers.reached)
        return (
            not found.any_file
            or (self._was_open and not found.any_active)
            or any(self._ledger.unexplained(READINGS, found.known + 1, named))
        )

    def _note_end(self, found: Recovered) -> None:
        """Likewise the last files: what they told of is neither issued again nor taken for never issued."""
        known, reached = found.known, max(found.known, self._reached)
        owed = bool(self._consumers.names())
        unknown = found.missing and self._was_open and not found.any_active
        if known == reached and not unknown:
            return
        skipped = next((each for each in found.losses if each.first > known), None)
        if skipped is not None:
            found.losses.remove(skipped)
        if unknown:  # it had what came since that was noted, too
            last = max(found.next_id - 1, min(reached + UNSEEN_RECORDS_MAX, ID_MAX))
            found.next_id = last + 1
            skipped = Loss(known + 1, last, *((last - known, AT_MOST) if owed else (0, NEVER_ISSUED)))
        done = self._consumers.done_in_all_lanes()
        for low, high in self._ledger.unexplained(READINGS, known + 1, reached):
            for part in done.missing_within(low, high) if owed else ():
                found.losses.append(Loss(*part, part[1] - part[0] + 1, FILE_MISSING))
        if skipped is not None:
            found.losses += filter(None, [skipped.beyond(reached)])
