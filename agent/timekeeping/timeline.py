"""What is known about time: boots, stretches of good time in them, and what follows for any moment. Pure.

A moment is a boot and the nanoseconds of CLOCK_BOOTTIME since it began; neither ever steps. Within a boot, a
stretch is a time during which the wall clock was synchronised, kept as its first and its latest anchor.

    boot 3      |-------[====]--------[===========]----|         [===] a stretch, anchored at both ends
                a       b    c        d           e    f

- `[b, c]`, `[d, e]`: the wall clock was right; what it said stands.
- before `b`: counted back from its anchor. Between `c` and `d`: on the line between the two. After `e`: counted on.
  The error is what a crystal may drift until the nearest anchor, `DRIFT_PPM`.
- A boot without any stretch lies between what is known before it and after it: it began no earlier than the boot
  before was last alive, and each moment of it was over before the next boot with an anchor began. The time is
  `estimated`, its error is half of what is left open (or more, when a clock that ran on a battery says where in it).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import Final

from collectors.enums import ClockQuality

DRIFT_PPM: Final = 100.0
"""What is assumed of a crystal: 20 to 50 ppm are usual over the temperatures of a field, and a bound must hold."""
EARLIEST_T: Final = 1_735_689_600.0
"""2025-01-01: no reading of this program is older, whatever a clock says that starts in 1970."""
_NS: Final = 1e-9
_DRIFT: Final = DRIFT_PPM * 1e-6


@dataclass(frozen=True, slots=True)
class Anchor:
    """At this moment of a boot it was this time."""

    up_ns: int
    t: float
    """Seconds since 1970-01-01 UTC."""
    error_s: float
    """How far the clock may have been off."""


@dataclass(slots=True)
class Stretch:
    """A time of good time: between these two the wall clock was right."""

    first: Anchor
    last: Anchor


@dataclass(slots=True)
class BootRecord:
    """What is known of one boot."""

    stretches: list[Stretch] = field(default_factory=list)
    """Ascending, apart from each other."""
    alive_ns: int = 0
    """It lasted this long at least."""
    battery: bool = False
    """Its wall clock was set from one that runs on a battery."""


@dataclass(frozen=True, slots=True)
class Span:
    """The times of a part of a boot: a straight line between two moments. Once given out, it is final."""

    low_ns: int
    high_ns: int
    """Both included."""
    t_low: float
    t_high: float
    quality: ClockQuality
    low_error_s: float | None
    """The error at the low end, when the times are counted from there."""
    high_error_s: float | None
    error_s: float | None
    """The error anywhere, where no end says it; None: unknown."""
    provisional: bool = field(default=False, compare=False)
    """An anchor of the boot that is running would make it better."""

    def t(self, up_ns: int) -> float:
        """The time of a moment in it."""
        if self.high_ns == self.low_ns:
            return self.t_low
        share = (up_ns - self.low_ns) / (self.high_ns - self.low_ns)
        return self.t_low + share * (self.t_high - self.t_low)

    def error_at(self, up_ns: int) -> float | None:
        """How far the time of a moment may be off, in seconds; None: unknown.

        From one end, a crystal has drifted since. Between two, their errors count by how near they are, and a
        crystal's rate may have differed on either side: by `DRIFT_PPM` at most, until the nearer one.
        """
        from_low_s, from_high_s = (up_ns - self.low_ns) * _NS, (self.high_ns - up_ns) * _NS
        if self.low_error_s is not None and self.high_error_s is not None:
            share = from_low_s / ((from_low_s + from_high_s) or 1.0)
            ends_s = self.low_error_s + share * (self.high_error_s - self.low_error_s)
            return ends_s + _DRIFT * min(from_low_s, from_high_s)
        if self.low_error_s is not None:
            return self.low_error_s + _DRIFT * from_low_s
        if self.high_error_s is not None:
            return self.high_error_s + _DRIFT * from_high_s
        return self.error_s

    def part(self, low_ns: int, high_ns: int) -> Span:
        """A part of it: the same times; no error is stated smaller than it was."""
        if (low_ns, high_ns) == (self.low_ns, self.high_ns):
            return self
        low_error_s = self.error_at(low_ns) if self.low_error_s is not None else None
        high_error_s = self.error_at(high_ns) if self.high_error_s is not None else None
        error_s = self.error_s
        if self.low_error_s is not None and self.high_error_s is not None:
            worst_s = max(self.low_error_s, self.high_error_s)
            error_s = worst_s + _DRIFT * (self.high_ns - self.low_ns) * _NS / 2
            low_error_s = high_error_s = None
        return replace(
            self,
            low_ns=low_ns,
            high_ns=high_ns,
            t_low=self.t(low_ns),
            t_high=self.t(high_ns),
            low_error_s=low_error_s,
            high_error_s=high_error_s,
            error_s=error_s,
        )


class Timeline:
    """All boots that are known of."""

    def __init__(self) -> None:
        self.boots: dict[int, BootRecord] = {}

    def boot(self, boot: int) -> BootRecord:
        """The record of a boot, made when it is new."""
        return self.boots.setdefault(boot, BootRecord())

    def alive(self, boot: int, up_ns: int) -> None:
        """The boot lasted this long at least."""
        record = self.boot(boot)
        record.alive_ns = max(record.alive_ns, up_ns)

    def anchor(self, boot: int, anchor: Anchor, *, continues: bool) -> int:
        """Take an anchor in; the place of the stretch that it belongs to.

        Args:
            boot: The boot it is of.
            anchor: Later than all before it in this boot.
            continues: The clock was synchronised all the time since the latest one.
        """
        record = self.boot(boot)
        self.alive(boot, anchor.up_ns)
        if continues and record.stretches:
            record.stretches[-1].last = anchor
        else:
            assert not record.stretches or record.stretches[-1].last.up_ns < anchor.up_ns
            record.stretches.append(Stretch(anchor, anchor))
        return len(record.stretches) - 1

    # -- what follows

    def span(self, boot: int, up_ns: int, raw_t: float, *, present_boot: int) -> Span:
        """The times around a moment at which the wall clock was not to be trusted.

        Args:
            boot: The moment's boot.
            up_ns: Its CLOCK_BOOTTIME.
            raw_t: What the wall clock said.
            present_boot: The one that is running.
        """
        record = self.boot(boot)
        if record.stretches:
            return self._anchored(boot, record, up_ns, present_boot)
        return self._bounded(boot, record, up_ns, raw_t, present_boot)

    def _anchored(self, boot: int, record: BootRecord, up_ns: int, present_boot: int) -> Span:
        stretches = record.stretches
        at = bisect_right(stretches, up_ns, key=lambda stretch: stretch.first.up_ns)
        before = stretches[at - 1] if at else None
        after = stretches[at] if at < len(stretches) else None
        if before is not None and up_ns <= before.last.up_ns:  # good time, of a reading that did not know yet
            return _line(before.first, before.last)
        if before is not None and after is not None:
            return _line(before.last, after.first)
        if after is not None:
            first = after.first
            return Span(
                0,
                first.up_ns,
                first.t - first.up_ns * _NS,
                first.t,
                ClockQuality.CORRECTED,
                None,
                first.error_s,
                None,
            )
        assert before is not None
        last, end_ns = before.last, max(up_ns, record.alive_ns)
        return Span(
            last.up_ns,
            end_ns,
            last.t,
            last.t + (end_ns - last.up_ns) * _NS,
            ClockQuality.CORRECTED,
            last.error_s,
            None,
            None,
            provisional=boot == present_boot,
        )

    def _bounded(self, boot: int, record: BootRecord, up_ns: int, raw_t: float, present_boot: int) -> Span:
        """A boot that never knew the time: as far as its neighbours say."""
        end_ns = max(up_ns, record.alive_ns)
        earliest, latest = self._began_after(boot), self._began_before(boot, end_ns)
        began_raw = raw_t - up_ns * _NS
        provisional = latest is None or not self.boot(present_boot).stretches
        if earliest is not None and latest is not None and earliest <= latest:
            began, error_s = (earliest + latest) / 2, (latest - earliest) / 2
            if record.battery and earliest <= began_raw <= latest:
                began = began_raw
                error_s = max(began - earliest, latest - began)
        else:
            began, error_s = began_raw, None
            if earliest is not None:
                began = max(began, earliest)
            if latest is not None and not EARLIEST_T <= began <= latest:
                began = latest
        return Span(
            0,
            end_ns,
            began,
            began + end_ns * _NS,
            ClockQuality.ESTIMATED,
            error_s,
            None,
            None,
            provisional=provisional,
        )

    def _began_after(self, boot: int) -> float | None:
        """Before this time a boot cannot have begun: others were running."""
        later_s = 0.0
        for before in sorted((number for number in self.boots if number < boot), reverse=True):
            record = self.boots[before]
            if record.stretches:
                last = record.stretches[-1].last
                alive_s = (record.alive_ns - last.up_ns) * _NS
                return last.t - last.error_s + (alive_s + later_s) * (1 - _DRIFT)
            later_s += record.alive_ns * _NS
        return None

    def _began_before(self, boot: int, end_ns: int) -> float | None:
        """After this time a boot cannot have begun, since it lasted until `end_ns` and others came after it."""
        lasted_s = end_ns * _NS
        for after in sorted(number for number in self.boots if number > boot):
            record = self.boots[after]
            if record.stretches:
                first = record.stretches[0].first
                return first.t + first.error_s - (first.up_ns * _NS + lasted_s) * (1 - _DRIFT)
            lasted_s += record.alive_ns * _NS
        return None


def _line(low: Anchor, high: Anchor) -> Span:
    return Span(low.up_ns, high.up_ns, low.t, high.t, ClockQuality.CORRECTED, low.error_s, high.error_s, None)
