"""Queries over a log: segments that cannot have what is asked for are not read.

What is known of a segment is its summary (`buffer.summary`): time range and sources. A query for the
newest or oldest few by time reads the segments in the order of their ranges, and stops as soon as no
other can have any of them.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from buffer.ranges import RangeSet
from buffer.segment import Segment, parse_json
from buffer.summary import SOURCE, TIME, Pruning, Summary
from collectors.criteria import Selection, sort_key
from collectors.models import QueryCriteria

Found = tuple[int, dict[str, Any]]
Skip = Callable[[Segment], bool]


class Searchable(Protocol):
    """What can be queried: a log, or one that is only looked at."""

    table: str
    deleted: RangeSet

    def stream(self, low: int = 1, *, skip: Skip | None = None) -> Iterator[Found]:
        """All records from an id up."""
        ...

    def stream_stored(self, low: int, high: int, *, skip: Skip | None = None) -> Iterator[Found]:
        """Durable records from `low` to `high`."""
        ...

    def snapshot(self) -> tuple[list[tuple[Segment, int]], list[tuple[int, bytes]]]:
        """At one moment: the segments, each with its highest durable id, and what waits in memory."""
        ...


_ALL: Final = QueryCriteria()


def location(table: str, record_id: int) -> str:
    """The location id of a record."""
    return f"{table}/{record_id}"


def criteria_of(
    source: str | None = None, since_s: float | None = None, until_s: float | None = None
) -> QueryCriteria:
    """What asks for the readings of a source, or of all, measured in a time range.

    Args:
        source: Of this source only.
        since_s: Measured then or later: seconds since 1970.
        until_s: Measured before.
    """
    filters: dict[str, Any] = {} if source is None else {SOURCE: source}
    times = {"$gte": since_s, "$lt": until_s}
    wanted = {operator: time for operator, time in times.items() if time is not None}
    if wanted:
        filters[TIME] = wanted
    return _ALL.model_copy(update={"filters": filters})


class Query:
    """One `QueryCriteria`, asked of a log."""

    def __init__(
        self, log: Searchable, criteria: QueryCriteria, *, check: Callable[[], object] = lambda: None
    ) -> None:
        """Prepare it.

        Args:
            log: Where the records are.
            criteria: Which, and in which order.
            check: Called before each segment; what it raises ends the query.

        Raises:
            ValueError: The criteria make no sense.
        """
        self._log = log
        self._check = check
        self._selection: Selection[int] = Selection(criteria, location=lambda each: location(log.table, each))
        self._pruning = Pruning(self._selection.conditions, location_prefix=location(log.table, 0)[:-1])

    def stream(self, low: int = 1) -> Iterator[Found]:
        """The records that match, ascending by id, a few in memory at a time; order, limit and offset are left aside.

        Args:
            low: From this id on.

        Raises:
            DiskFault: The disk cannot be read.
        """
        return filter(self._selection.matches, self._log.stream(low, skip=self._skip))

    def run(self) -> list[Found]:
        """The records that match, sorted, without the first `offset`, at most `limit`.

        Raises:
            DiskFault: The disk cannot be read.
        """
        selection = self._selection
        if selection.sort_path == TIME and selection.stop:
            return selection.page(self._best_by_time(selection.stop))
        return selection.page(selection.first(self._log.stream(skip=self._skip)))

    def _skip(self, segment: Segment) -> bool:
        self._check()
        return segment.summary is not None and self._pruning.excludes(
            segment.summary, segment.base, segment.last
        )

    def _best_by_time(self, most: int) -> list[Found]:
        """The first few by time, with no more than twice as many in memory."""
        segments, waiting = self._log.snapshot()
        deleted = self._log.deleted
        best = self._selection.first(
            (record_id, parse_json(raw)) for record_id, raw in waiting if record_id not in deleted
        )
        for segment, last in sorted(segments, key=self._promise, reverse=self._selection.descending):
            if len(best) == most and self._hopeless(segment, best):
                continue
            records = self._log.stream_stored(segment.base, last, skip=self._skip)
            best = self._merged(best, self._selection.first(records))[:most]
        return best

    def _promise(self, entry: tuple[Segment, int]) -> tuple[int, Any]:
        """The best that a segment may have; without a summary, the best there is."""
        bound = self._bound(entry[0].summary)
        if bound is None:
            return (99, 0) if self._selection.descending else (-1, 0)
        return bound

    def _bound(self, summary: Summary | None) -> tuple[int, Any] | None:
        """What the best record of a segment sorts by; None when that is not known."""
        if summary is None or not summary.timed:
            return None
        return sort_key(summary.high if self._selection.descending else summary.low)

    def _hopeless(self, segment: Segment, best: list[Found]) -> bool:
        """Whether every record of a segment sorts behind the last of the best so far."""
        bound = self._bound(segment.summary)
        if bound is None:
            return False
        worst = self._selection.rank(best[-1])
        # One that is as good may have a lower id, and so come first.
        return bound < worst if self._selection.descending else bound > worst

    def _merged(self, one: list[Found], other: list[Found]) -> list[Found]:
        both = sorted(one + other, key=lambda found: found[0])
        return sorted(both, key=self._selection.rank, reverse=self._selection.descending)
