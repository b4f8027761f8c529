"""All consumers of a log, and their state on disk.

A consumer's state lives in a small durable table that is written lazily; the lowest mark of all
consumers also rides in every trailer, so that the usual single consumer loses nothing by that. What is
lost of it costs duplicates, never readings: the state on disk is never ahead of what was acknowledged.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from buffer.consumer import Consumer, origin_of
from buffer.identity import Identity
from buffer.journal import SmallTable
from buffer.lanes import LANES
from buffer.log import Log
from buffer.progress import Progress, Span
from buffer.ranges import RangeSet
from buffer.recovery import Recovered

CONSUMERS: Final = "consumers"
"""The small table with the state of each."""


def raise_marks(rows: dict[str, dict[str, Any]], found: Recovered) -> None:
    """Bring what is stored of consumers up to the newest trailer."""
    for row in rows.values():
        if found.cursor_at > (row["floor"][0], row["floor"][1]):
            row["mark"] = max(row["mark"], found.cursor)


class Consumers:
    """All consumers of one log, and their state on disk."""

    def __init__(
        self,
        log: Callable[[], Log],
        table: SmallTable,
        epochs: list[Identity],
        explained: Callable[[int, int, Callable[[int, int], int]], int] = lambda *_: 0,
        explain: Callable[[], object] = lambda: None,
    ) -> None:
        """Take what is stored.

        Args:
            log: Whose they are.
            table: Keeps their state.
            epochs: The identities of what is in the log.
            explained: Of how many ids from one to another the ledger says what became of them, given how many are absent.
            explain: Called before a state is written, which may name ids that were passed over: enters them in the ledger.
                Else a crash would make them missing ones. Raises DiskFault.
        """
        self._explain = explain
        self._log = log
        self._explained = explained
        self._table = table
        self._epochs = epochs
        self._gate = threading.Lock()
        """Held while a consumer is made or forgotten; taken before any other lock."""
        self._open: dict[str, Consumer] = {}
        self._rows: dict[str, dict[str, Any]] = dict(table.items())
        self._closed = {name: Progress(row) for name, row in self._rows.items()}

    def recovered(self, found: Recovered) -> None:
        """Take in what the newest trailer says: all consumers it knew have acknowledged up to there."""
        raise_marks(self._rows, found)
        self._closed = {name: Progress(row) for name, row in self._rows.items()}

    def get(self, name: str) -> Consumer:
        """The consumer of this name; a new one begins with the oldest record there is.

        Raises:
            DiskFault: A new one cannot be made durable.
        """
        consumer = self._open.get(name)
        if consumer is not None:
            return consumer
        log = self._log()
        with self._gate, log.io:  # no trailer is being written that does not know of it
            row = self._rows.get(name)
            if row is None:
                self._explain()
                log.finish_changes()  # what these remove was nothing to it, either
                log.sync_removals()
                # What is in no file by now is nobody's loss that it has to be told of.
                holes = list(log.holes())
                row = {
                    "mark": log.lowest_id - 1,
                    "ranges": holes,
                    "floor": list(log.active_at),
                    "since": log.durable_id,
                    "begins": log.lowest_id,
                    "absent": self._absent(log, log.lowest_id, log.durable_id),
                }
                # First here: should the disk refuse, the row may be on it all the same, and trailers
                # from now on must not claim more than this consumer has acknowledged.
                self._closed[name] = Progress(row)
                self._table.put(name, row)
                self._rows[name] = row
            return self._open.setdefault(name, Consumer(name, log, self._epochs, row))

    def _absent(self, log: Log, low: int, high: int) -> int:
        """How many of these ids have no record, and are in no entry."""

        def absent(first: int, last: int) -> int:
            return last - first + 1 - log.count(first, last)

        if high < low or not (found := absent(low, high)):
            return 0
        return max(0, found - self._explained(low, high, absent))

    def names(self) -> list[str]:
        """All consumers there ever were and that were not forgotten."""
        return list(self._rows)

    @property
    def since(self) -> int:
        """The highest id when the oldest of them was made: what went before that went without an entry."""
        return min((row.get("since", row["floor"][0] - 1) for row in self._rows.values()), default=0)

    @property
    def reached(self) -> int:
        """The highest id that is stored of one of them: so far at least they were handed out."""
        found = 0
        for row in self._rows.values():
            further = [row["ranges"], *row.get("lanes", {}).values()]
            highs = [high for ranges in further for _, high in ranges]
            found = max(found, row["mark"], row.get("since", 0), *highs)
        return found

    def forget(self, name: str) -> None:
        """Remove a consumer for good: nothing is kept for it any more. Fine when there is none.

        Raises:
            DiskFault: The disk refused; it is still there.
        """
        with self._gate, self._log().io:  # else who writes rows just now would bring it back
            self._table.remove(name)
            self._rows.pop(name, None)
            self._open.pop(name, None)
            self._closed.pop(name, None)

    def lowest_mark(self) -> int:
        """Up to which id all have acknowledged; 0 without consumers."""
        # Asked with each commit; most often there is none, or one.
        return min([each.mark for each in self._all().values()]) if self._closed or self._open else 0

    def done(self, lane: str) -> RangeSet:
        """What all have acknowledged of a lane, from the first id on; nothing without consumers."""
        every = list(self.done_by(lane).values())
        found = every[0] if every else RangeSet()
        for other in every[1:]:
            found = found.common(other)
        return found

    def done_in_all_lanes(self) -> RangeSet:
        """What all have acknowledged, whichever lane it is of."""
        first, *others = (self.done(lane) for lane in LANES)
        for other in others:
            first = first.common(other)
        return first

    def done_by(self, lane: str) -> dict[str, RangeSet]:
        """What each has acknowledged of a lane, from the first id on."""
        return {name: each.done(lane) for name, each in self._all().items()}

    def _all(self) -> dict[str, "Consumer | Progress"]:
        return {**self._closed, **self._open}

    def persist(self) -> None:
        """Write what changed.

        Raises:
            DiskFault: The disk refused; it is tried again the next time.
        """
        if not any(consumer.dirty for consumer in list(self._open.values())):
            return
        with self._log().io:
            self._explain()
            changed = [consumer for consumer in self._open.values() if consumer.dirty]
            states = {consumer.name: consumer.state() for consumer in changed}
            try:
                self._table.put_all(states)
            except BaseException:
                for consumer in changed:
                    consumer.dirty = True
                raise
            self._rows |= states

    def remember(self, low: int, high: int) -> None:
        """Make it durable that all have acknowledged these ids, as they have, before what they stand for goes.

        Raises:
            DiskFault: The disk refused.
        """
        # Not what trailers told at opening: these may go with the files that they are in.
        stored = [Progress(row) for _, row in self._table.items()]
        if all(each.done(lane).covers(low, high) for each in stored for lane in LANES):
            return
        rows = {name: self._closed_row(name) for name in self._rows.keys() - self._open.keys()}
        if rows:
            self._table.put_all(rows)
            self._rows |= rows
        self.persist()

    def _closed_row(self, name: str) -> dict[str, Any]:
        return {**self._closed[name].state(), **origin_of(self._rows[name])}

    def recount(self) -> None:
        """Records went without being acknowledged."""
        for consumer in list(self._open.values()):
            consumer.recount()

    def moved(self, record_ids: Collection[int], lane: str) -> dict[str, dict[str, Any]]:
        """Records come into a lane from another one; see `Progress.moved`.

        Returns:
            The rows that must be durable before they do; `written` is told when they are.

        Raises:
            DiskFault: The disk refused; nothing changed.
        """
        return self._changed(
            lambda consumer: consumer.moved(record_ids, lane),
            lambda progress: progress.moved(record_ids, lane),
        )

    def gone(self, ids: RangeSet) -> dict[str, dict[str, Any]]:
        """There is nothing in these ids that anybody waits for: records that all have, each in its lane, or none.

        Never ids of live records that one of them still has to get: it is so in memory at once, whatever
        becomes of the rows.

        Returns:
            The rows that must be durable before what is in these ids goes, or the file that they are
            holes of: else a crash would make them missing ones.

        Raises:
            DiskFault: The disk refused; nothing changed.
        """
        runs = list(ids)
        if not runs:
            return {}

        def settle(progress: Progress) -> None:
            for low, high in runs:
                progress.settle(Span(low, high, LANES))

        return self._changed(lambda consumer: consumer.gone(runs), settle)

    def _changed(
        self, change: Callable[[Consumer], object], change_closed: Callable[[Progress], object]
    ) -> dict[str, dict[str, Any]]:
        self._explain()
        rows = {}
        for consumer in list(self._open.values()):
            change(consumer)
            rows[consumer.name] = consumer.state()
            consumer.dirty = True  # until it is written with the other rows
        for name in self._closed.keys() - self._open.keys():
            change_closed(self._closed[name])
            if name in self._rows:
                rows[name] = self._closed_row(name)
        return rows

    def written(self, rows: dict[str, dict[str, Any]]) -> None:
        """These rows are durable."""
        self._rows |= rows

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nobody takes anything meanwhile. Before the locks of the log, not after them."""
        with self._gate, ExitStack() as stack:
            for name in sorted(self._open):
                stack.enter_context(self._open[name].taking)
            yield
