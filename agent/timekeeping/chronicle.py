"""The timeline on disk, and the times that were given out.

Three small tables: `clock_boots` (how long a boot lasted at least), `clock_anchors` (the stretches of good time, one
row each, so that a week of synchronised time is one row that moves on), `clock_final` (the spans from which times
were given out: whatever is found out later, these readings keep theirs).

A disk that takes nothing does not keep readings from being delivered: what could not be written is kept in
memory and written later; should the process end before, a reading that had arrived already keeps its first time at
the receiver, which takes nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right, insort
from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agent.status.text import counted
from agent.timekeeping.timeline import Anchor, Span, Stretch, Timeline
from buffer import StoreError
from collectors.enums import ClockQuality

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.timekeeping.boots import StateTable

_log = logging.getLogger(__name__)

BOOTS_MAX: Final = 4_096
"""A solar station that boots every hour, offline for five months. The oldest are forgotten."""
_SAME_S: Final = 1e-5
"""Times this close are the same but for rounding: a float of today's time is good to 0.2 us."""
STRETCHES_MAX: Final = 256
"""In one boot: a link that comes and goes. Beyond, the last stretch is extended over the gap."""
HORIZON_NS: Final = 600 * 10**9
"""A clock that counts on without being set: so far ahead its times are final, so that live readings cost no write each."""


class Chronicle:
    """What this device knows about time, durably.

    Args:
        state: Gives a small durable table by name.
        boot: The boot that is running.
    """

    def __init__(self, state: Callable[[str], StateTable], boot: int) -> None:
        self.boot = boot
        self.timeline = Timeline()
        self._boots = state("clock_boots")
        self._anchors = state("clock_anchors")
        self._final_table = state("clock_final")
        self._final: dict[int, list[Span]] = {}
        self._unwritten: dict[str, tuple[StateTable, dict[str, Any]]] = {}
        self._writing = asyncio.Lock()
        self._load()

    def _load(self) -> None:
        """Learn what is on the disk. A row that cannot be read, such as another version's, costs what it says."""
        _each_row("clock_boots", self._boots, self._load_boot)
        found: defaultdict[int, dict[int, Stretch]] = defaultdict(dict)
        spoilt = _each_row("clock_anchors", self._anchors, partial(_load_stretch, found))
        for boot, stretches in found.items():
            # Their places are their names on the disk: with one missing, the others would be called wrongly.
            if not any(key.partition("/")[0] == str(boot) for key in spoilt):
                self.timeline.boot(boot).stretches = [stretches[place] for place in sorted(stretches)]
        _each_row("clock_final", self._final_table, self._load_final)
        self.timeline.boot(self.boot)

    def _load_boot(self, key: str, row: dict[str, Any]) -> None:
        boot, alive_ns, battery = int(key), row["alive_ns"], row["battery"]
        record = self.timeline.boot(boot)
        record.alive_ns, record.battery = alive_ns, battery

    def _load_final(self, key: str, row: dict[str, Any]) -> None:
        boot, low_ns = _place(key)
        self._insert_final(boot, _span_of(low_ns, row))

    # -- what is found out

    async def began(self, *, battery: bool) -> None:
        """This boot is new."""
        self.timeline.boot(self.boot).battery = battery
        self._note_boot(self.boot)
        for boot in sorted(self.timeline.boots)[:-BOOTS_MAX]:
            self._forget(boot)
        await self._write()

    def alive(self, boot: int, up_ns: int) -> None:
        """A boot lasted this long at least; written with the next anchor or sign of life."""
        self.timeline.alive(boot, up_ns)

    def anchor(self, anchor: Anchor, *, continues: bool) -> None:
        """The wall clock is right now; written with the next `write`."""
        record = self.timeline.boot(self.boot)
        if record.stretches and anchor.up_ns <= record.stretches[-1].last.up_ns:
            return
        continues = continues or len(record.stretches) >= STRETCHES_MAX
        place = self.timeline.anchor(self.boot, anchor, continues=continues)
        self._note_stretch(place, record.stretches[place])

    async def write(self) -> None:
        """Make what was found out durable, as far as the disk takes it."""
        self._note_boot(self.boot)
        await self._write()

    # -- the times given out

    def final(self, boot: int, up_ns: int) -> Span | None:
        """The span from which the time of a moment is taken, once it is final. Safe on any thread."""
        spans = self._final.get(boot)
        if spans is None:
            return None
        at = bisect_right(spans, up_ns, key=_low) - 1
        return spans[at] if at >= 0 and up_ns <= spans[at].high_ns else None

    def propose(self, boot: int, up_ns: int, raw_t: float) -> Span:
        """The span that would become final for a moment now."""
        return self.timeline.span(boot, up_ns, raw_t, present_boot=self.boot)

    async def settle(self, boot: int, up_ns: int, raw_t: float, *, only_this: bool = False) -> None:
        """Make the times around a moment final, durably where the disk takes it.

        Args:
            boot: The moment's boot.
            up_ns: Its CLOCK_BOOTTIME.
            raw_t: What the wall clock said.
            only_this: Where more may be known soon, leave the other moments open.
        """
        if self.final(boot, up_ns) is not None:
            return
        self.timeline.alive(boot, up_ns)
        span = self.propose(boot, up_ns, raw_t)
        if span.provisional and only_this:
            span = span.part(up_ns, up_ns)
        elif span.provisional and boot == self.boot:
            ahead_s = (up_ns + HORIZON_NS - span.high_ns) * 1e-9
            span = replace(span, high_ns=up_ns + HORIZON_NS, t_high=span.t_high + ahead_s)
        span = self._clipped(boot, up_ns, span)
        span = self._joined(boot, span)
        self._unwritten[f"final/{boot}/{span.low_ns}"] = (
            self._final_table,
            {_key(boot, span): _row_of(span)},
        )
        await self._write()

    def _joined(self, boot: int, span: Span) -> Span:
        """Take a span in; as one with the span before it where both are the same line from the same anchor."""
        spans = self._final.setdefault(boot, [])
        at = bisect_right(spans, span.low_ns, key=_low) - 1
        before = spans[at] if at >= 0 else None
        if before is not None and _goes_on(before, span):
            span = replace(before, high_ns=span.high_ns, t_high=span.t_high)
            spans[at] = span
        else:
            self._insert_final(boot, span)
        return span

    def _clipped(self, boot: int, up_ns: int, span: Span) -> Span:
        """The part of a span around a moment of which no time was given out yet."""
        spans = self._final.get(boot, [])
        at = bisect_right(spans, up_ns, key=_low)
        low_ns, high_ns = span.low_ns, span.high_ns
        if at:
            low_ns = max(low_ns, spans[at - 1].high_ns + 1)
        if at < len(spans):
            high_ns = min(high_ns, spans[at].low_ns - 1)
        assert low_ns <= up_ns <= high_ns
        return span.part(low_ns, high_ns)

    # -- on disk

    def _insert_final(self, boot: int, span: Span) -> None:
        insort(self._final.setdefault(boot, []), span, key=_low)

    def _note_boot(self, boot: int) -> None:
        record = self.timeline.boot(boot)
        row = {"alive_ns": record.alive_ns, "battery": record.battery}
        if self._boots.get(str(boot)) != row:
            self._unwritten[f"boot/{boot}"] = (self._boots, {str(boot): row})

    def _note_stretch(self, place: int, stretch: Stretch) -> None:
        row = {"first": _anchor_row(stretch.first), "last": _anchor_row(stretch.last)}
        self._unwritten[f"anchor/{place}"] = (self._anchors, {f"{self.boot}/{place}": row})

    def _forget(self, boot: int) -> None:
        record = self.timeline.boots.pop(boot)
        spans = self._final.pop(boot, [])
        self._unwritten[f"boot/{boot}"] = (self._boots, {str(boot): None})
        for place in range(len(record.stretches)):
            self._unwritten[f"anchor/{boot}/{place}"] = (self._anchors, {f"{boot}/{place}": None})
        for span in spans:
            self._unwritten[f"final/{boot}/{span.low_ns}"] = (self._final_table, {_key(boot, span): None})

    async def written(self) -> None:
        """Wait for what is being written down, by whoever: so that what is final is so on the disk, too."""
        if self._writing.locked():
            async with self._writing:
                pass

    async def _write(self) -> None:
        async with self._writing:
            await self._write_now()

    async def _write_now(self) -> None:
        unwritten, self._unwritten = self._unwritten, {}
        by_table: dict[int, tuple[StateTable, dict[str, Any]]] = {}
        for table, rows in unwritten.values():
            by_table.setdefault(id(table), (table, {}))[1].update(rows)
        try:
            for table, rows in by_table.values():
                await table.put_all(rows)
        except (StoreError, OSError) as error:
            self._unwritten = unwritten | self._unwritten
            _log.warning(
                "what is known about time could not be written down, so it is kept in memory: %s", error
            )
        except BaseException:
            self._unwritten = unwritten | self._unwritten
            raise


def _each_row(name: str, table: StateTable, take: Callable[[str, dict[str, Any]], None]) -> list[str]:
    """Take each row of a table; the keys of those that cannot be read."""
    spoilt, why = [], ""
    for key, row in table.items():
        try:
            take(key, row)
        except (LookupError, TypeError, ValueError) as error:
            spoilt.append(key)
            why = why or f"{key}: {type(error).__name__}: {error}"
    if spoilt:
        count = counted(len(spoilt), "row")
        _log.warning("%s of %s cannot be read, and counts for nothing (%s)", count, name, why)
    return spoilt


def _load_stretch(found: dict[int, dict[int, Stretch]], key: str, row: dict[str, Any]) -> None:
    boot, place = _place(key)
    stretch = Stretch(Anchor(*row["first"]), Anchor(*row["last"]))
    found[boot][place] = stretch


def _goes_on(before: Span, span: Span) -> bool:
    """Whether a span, which begins where another ends, counts on from what that one counted on from."""
    if before.high_ns + 1 != span.low_ns or before.quality is not span.quality:
        return False
    if (before.high_error_s, span.high_error_s, before.error_s, span.error_s) != (None, None, None, None):
        return False
    counted_on_s = (span.high_ns - before.high_ns) * 1e-9
    if abs(before.t_high + counted_on_s - span.t_high) > _SAME_S:
        return False
    before_s, after_s = before.error_at(span.low_ns), span.low_error_s
    if before_s is None or after_s is None:
        return before_s is after_s
    return abs(before_s - after_s) < _SAME_S


def _low(span: Span) -> int:
    return span.low_ns


def _place(key: str) -> tuple[int, int]:
    boot, _, place = key.partition("/")
    return int(boot), int(place)


def _key(boot: int, span: Span) -> str:
    return f"{boot}/{span.low_ns}"


def _anchor_row(anchor: Anchor) -> list[float]:
    return [anchor.up_ns, anchor.t, anchor.error_s]


def _row_of(span: Span) -> dict[str, Any]:
    return {
        "high_ns": span.high_ns,
        "t": [span.t_low, span.t_high],
        "quality": span.quality.value,
        "errors": [span.low_error_s, span.high_error_s, span.error_s],
    }


def _span_of(low_ns: int, row: dict[str, Any]) -> Span:
    low_error_s, high_error_s, error_s = row["errors"]
    return Span(
        low_ns,
        row["high_ns"],
        row["t"][0],
        row["t"][1],
        ClockQuality(row["quality"]),
        low_error_s,
        high_error_s,
        error_s,
    )
