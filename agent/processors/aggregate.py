"""Aggregate: one reading for all that a sensor says in a window of time.

Windows are fixed and follow each other: with `every = "1 min"` they begin at full minutes UTC. A reading belongs to
the window in which its own time lies, whenever it arrives: a window is closed once a reading has come that is later
than its end by `lateness`, or when nothing has come for as long. So readings may arrive in any order within the
lateness, and the result is the same. What comes for a window that is closed cannot be processed (`on_error`).
The readings of one frame or message arrive at once: no window is closed between them.

A reading of a later moment with an earlier time is not late, where one of the two was dated by a clock that was not
synchronised: the clock was set back (a Pi that boots without a network begins at the time that it last wrote down).
That closes all windows, and begins anew; so does any time that lies ten windows and more back.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field

from agent.processors.exact_sum import ExactSum
from agent.processors.holding import READINGS, HoldingStep
from agent.processors.reading_step import StepOptions
from agent.processors.series import SeriesKey, SeriesMemory, series_of
from collectors.enums import ClockQuality, Lane, QualityFlag
from collectors.models import Name, Quality, Reading, Value
from collectors.units import DurationS

Function: TypeAlias = Literal["mean", "min", "max", "sum", "count", "first", "last"]
_BACK_WINDOWS: Final = 10
_OPEN_MAX: Final = 100
"""Windows of one series that are open at a time; beyond, the oldest is closed."""


class AggregateOptions(StepOptions):
    """`[[pipeline.step]] processor = "aggregate"`."""

    every: DurationS
    """How long a window is, in seconds."""
    functions: Annotated[tuple[Function, ...], Field(min_length=1, strict=False)] = ("mean",)
    """Each gives a metric of its own, `temperature.mean`; a single one keeps the metric's name."""
    metrics: Annotated[list[Name], Field(min_length=1)] | None = None
    """Which metrics are aggregated; the others are left out. Unset: all."""
    lateness: Annotated[float, Field(ge=0, allow_inf_nan=False)] | DurationS = 0.0
    """How much later than a window's end its readings may come, in seconds of the readings' own time."""


@dataclass(slots=True)
class _Metric:
    """What is known of one metric in one window."""

    count: int = 0
    numbers: int = 0
    parts: ExactSum = field(default_factory=ExactSum)
    least: int | float | None = None
    most: int | float | None = None
    first: tuple[float, int, Value] | None = None
    """Time, arrival and value: of two with the same time the one that came first is the first."""
    last: tuple[float, int, Value] | None = None
    unit: str | None = None
    doubt: str | None = None

    def add(self, t: float, arrival: int, value: Value, quality: Quality | None) -> None:
        self.count += 1
        if quality is not None:
            self.doubt = quality.reason or quality.flag.value
        if not isinstance(value, bool | str):
            self.numbers += 1
            self.parts.add(float(value))
            self.least = value if self.least is None else min(self.least, value)
            self.most = value if self.most is None else max(self.most, value)
        at = (t, arrival, value)
        if self.first is None or at[:2] < self.first[:2]:
            self.first = at
        if self.last is None or at[:2] > self.last[:2]:
            self.last = at

    def result(self, function: Function) -> Value | None:
        """What a function gives; None where it gives nothing."""
        if function in {"sum", "mean"}:
            if not self.numbers:
                return None
            return _finite(self.parts.total / (self.numbers if function == "mean" else 1))
        given: dict[str, Value | None] = {
            "count": self.count,
            "first": self.first and self.first[2],
            "last": self.last and self.last[2],
            "min": self.least,
            "max": self.most,
        }
        return given[function]

    def row(self) -> list[Any]:
        return [
            self.count,
            self.numbers,
            self.parts.parts if math.isfinite(self.parts.total) else None,
            self.least,
            self.most,
            self.first,
            self.last,
            self.unit,
            self.doubt,
        ]

    @classmethod
    def of_row(cls, row: list[Any]) -> "_Metric":
        count, numbers, parts, least, most, first, last, unit, doubt = row
        exact = ExactSum([math.inf] if parts is None else parts)
        return cls(count, numbers, exact, least, most, _moment(first), _moment(last), unit, doubt)


def _moment(row: list[Any] | None) -> tuple[float, int, Value] | None:
    return None if row is None else (row[0], row[1], row[2])


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


@dataclass(slots=True)
class _Window:
    """One window of one series."""

    metrics: dict[str, _Metric]
    latest: Reading
    """Of its readings the latest, without values: boot, uptime, clock and lane of the result are from here."""


@dataclass(slots=True)
class _Series:
    """The open windows of one series."""

    windows: dict[int, _Window] = field(default_factory=dict)
    watermark_t: float = -math.inf
    """The latest time that a reading had."""
    watermark_at: tuple[int, int, bool] = (0, 0, False)
    """That reading's boot and CLOCK_BOOTTIME, and whether its time was estimated."""
    closed: int | None = None
    """Windows up to this one are closed."""
    arrivals: int = 0
    heard_s: float = 0.0
    """When the latest reading came, on the monotonic clock."""


class Aggregate(HoldingStep):
    """Gives one reading for each window of each series: metrics of one source with the same tags.

    Values marked bad do not count. An alarm passes as it is, and counts. The result has the time at which its window
    began, and the worst clock of its readings.
    """

    def __init__(self, options: AggregateOptions) -> None:
        super().__init__(f"aggregate:{options.every:g}s")
        self._options = options
        self._metrics = None if options.metrics is None else frozenset(options.metrics)
        self._series: SeriesMemory[_Series] = SeriesMemory()
        self._taken: dict[SeriesKey, _Series] = {}
        """The series that the present message is about."""

    def apply(self, reading: Reading) -> Sequence[Reading]:
        """Take it into its window; what it closes is given by `ready`.

        Raises:
            ValueError: Its own window is closed.
        """
        self.require_processable(reading)
        key = series_of(reading)
        series = self._series.get(key) or _Series()
        index = self._index(reading.t)
        given: list[Reading] = []
        if series.closed is not None and index <= series.closed:
            given += self._close(key, series, max(series.windows, default=index))
            series = _Series()
        self._add(series, index, reading)
        self._note(key)
        self._taken[key] = series
        forgotten = self._series.put(key, series)
        if forgotten is not None:
            self._overdue += self._close(*forgotten, max(forgotten[1].windows, default=0))
        return [reading, *given] if reading.lane is Lane.ALARM else given

    def require_processable(self, reading: Reading) -> None:
        """Refuse what is for a window that is closed.

        Raises:
            ValueError: It is.
        """
        series = self._series.get(series_of(reading))
        if series is None or series.closed is None:
            return
        if series.closed - _BACK_WINDOWS < self._index(reading.t) <= series.closed and not _was_set_back(
            series, reading
        ):
            late_s = series.watermark_t - reading.t
            raise ValueError(f"{late_s:.3g} s too late: its window of {self._options.every:g} s is closed")

    def ready(self) -> Sequence[Reading]:
        """The readings of the windows that a message closes."""
        taken, self._taken = self._taken, {}
        given: list[Reading] = []
        for key, series in taken.items():
            upto = self._index(series.watermark_t - self._options.lateness) - 1
            if len(series.windows) > _OPEN_MAX:
                upto = max(upto, sorted(series.windows)[-_OPEN_MAX - 1])
            given += self._close(key, series, upto)
        return given

    def _index(self, t: float) -> int:
        """The window in which a time lies."""
        return math.floor(t / self._options.every)

    def _add(self, series: _Series, index: int, reading: Reading) -> None:
        series.heard_s = self._now_s
        if reading.t >= series.watermark_t:
            series.watermark_t = reading.t
            series.watermark_at = (reading.boot, reading.up, reading.clock is ClockQuality.ESTIMATED)
        series.arrivals += 1
        window = series.windows.get(index)
        if window is None:
            window = series.windows[index] = _Window({}, _bare(reading))
        else:
            latest = _bare(reading) if reading.t >= window.latest.t else window.latest
            doubtful = ClockQuality.ESTIMATED in {reading.clock, window.latest.clock}
            window.latest = latest.changed(clock=ClockQuality.ESTIMATED) if doubtful else latest
        for name, value in reading.values.items():
            quality = reading.quality.get(name)
            if (self._metrics is not None and name not in self._metrics) or (
                quality is not None and quality.flag is QualityFlag.BAD
            ):
                continue
            metric = window.metrics.get(name)
            if metric is None:
                metric = window.metrics[name] = _Metric()
            metric.add(reading.t, series.arrivals, value, quality)
            metric.unit = reading.units.get(name, metric.unit)

    def _close(self, key: SeriesKey, series: _Series, upto: int) -> list[Reading]:
        """The readings of all windows up to this one, which are closed from now on."""
        self._note(key)
        series.closed = upto if series.closed is None else max(series.closed, upto)
        ended = sorted(index for index in series.windows if index <= upto)
        made = [self._reading(index, series.windows.pop(index)) for index in ended]
        return [reading for reading in made if reading is not None]

    def _reading(self, index: int, window: _Window) -> Reading | None:
        functions = self._options.functions
        values: dict[str, Value] = {}
        units: dict[str, str] = {}
        quality: dict[str, Quality] = {}
        for name, metric in window.metrics.items():
            for function in functions:
                result = metric.result(function)
                if result is None:
                    continue
                label = name if len(functions) == 1 else f"{name}.{function}"
                values[label] = result
                if metric.unit is not None and function != "count":
                    units[label] = metric.unit
                if metric.doubt is not None:
                    quality[label] = Quality(flag=QualityFlag.UNCERTAIN, reason=metric.doubt)
        if not values:
            return None
        t, latest = index * self._options.every, window.latest
        up_ns = max(0, latest.up - round((latest.t - t) * 1e9)) if latest.up else 0
        return latest.changed(
            t=t, up=up_ns, values=values, units=units, quality=quality, indicators={}, lane=Lane.NORMAL
        )

    # -- holding

    def due(self, monotonic_s: float) -> Sequence[Reading]:
        """The windows that are over although nothing came any more."""
        self._now_s = monotonic_s
        given: list[Reading] = []
        for key, series in self._series.items():
            if not series.windows:
                continue
            # Nothing came since: the readings' own time is assumed to have gone on as ours has.
            t = series.watermark_t + monotonic_s - series.heard_s
            upto = self._index(t - self._options.lateness) - 1
            if upto >= min(series.windows):
                given += self._close(key, series, upto)
        return given

    def series(self) -> Iterable[SeriesKey]:
        """The series that have windows."""
        return [key for key, _ in self._series.items()]

    def row(self, series: SeriesKey) -> dict[str, Any] | None:
        """The open windows of a series."""
        known = self._series.get(series)
        if known is None or (known.closed is None and not known.windows):
            return None
        so_far = [self._reading(index, window) for index, window in sorted(known.windows.items())]
        return {
            "windows": [
                [
                    index,
                    {name: metric.row() for name, metric in window.metrics.items()},
                    window.latest.to_document(),
                ]
                for index, window in known.windows.items()
            ],
            "watermark": [known.watermark_t, *known.watermark_at],
            "closed": known.closed,
            "arrivals": known.arrivals,
            READINGS: [reading.to_document() for reading in so_far if reading is not None],
        }

    def restore_row(self, series: SeriesKey, row: Mapping[str, Any]) -> None:
        """Take up the open windows of a series."""
        known = _Series(closed=row["closed"], heard_s=self._now_s)
        known.watermark_t, boot, up_ns, estimated = row["watermark"]
        known.watermark_at, known.arrivals = (boot, up_ns, estimated), row["arrivals"]
        for index, metrics, latest in row["windows"]:
            made = {name: _Metric.of_row(metric) for name, metric in metrics.items()}
            known.windows[index] = _Window(made, Reading.from_document(latest))
        self._series.put(series, known)


def _was_set_back(series: _Series, reading: Reading) -> bool:
    """Whether the clock was, since the latest time that a reading of this series had."""
    boot, up_ns, estimated = series.watermark_at
    in_doubt = estimated or reading.clock is ClockQuality.ESTIMATED
    return in_doubt and boot > 0 and (reading.boot, reading.up) > (boot, up_ns)


def _bare(reading: Reading) -> Reading:
    """A reading without what it says: its source, tags and time. One truth value, since each must have one."""
    return reading.changed(values={"latest": True}, units={}, quality={}, origin=None, lane=Lane.NORMAL)
