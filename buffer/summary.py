"""What a segment's records have in common, so that a query need not read those it cannot want. Pure.

A summary may claim less than is true of its segment, never more: the range of all numbers under `t`
(the time of measurement), all texts under `source`, and whether anything stands in the way of using
them. It is taken from parsed documents, so that nothing depends on how their JSON is written.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Any, Final
from zlib import crc32

from collectors.criteria import LOCATION_ID, Condition

TIME: Final = "t"
SOURCE: Final = "source"
_SOURCES_MAX: Final = 64
"""A segment with more is read whatever the source."""
_VERSION: Final = 1
_CRC_DIGITS: Final = 8
_ID_DIGITS_MAX: Final = 16

Number = int | float


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of all documents of a segment."""

    low: Number | None
    """The lowest number under `t`; None when there is none at all."""
    high: Number | None
    """The highest."""
    timed: bool
    """Each document has a number under `t`, so that the range says where each one sorts."""
    sources: frozenset[str] | None
    """All texts under `source`; None when there are too many."""
    located: bool
    """A document has a field `location_id` of its own."""


UNKNOWN: Final = Summary(-inf, inf, timed=False, sources=None, located=True)
"""Of a segment that could not be summed up: it is read whatever is asked for."""


class Summarizer:
    """Takes documents, gives their summary."""

    def __init__(self) -> None:
        self._low: Number | None = None
        self._high: Number | None = None
        self._timed = True
        self._sources: set[str] = set()
        self._located = False

    def add(self, documents: Iterable[dict[str, Any]]) -> None:
        """Take in documents."""
        low, high = self._low, self._high
        for document in documents:
            time = document.get(TIME)
            # A truth value is a number where it is compared with one; NaN, which nobody should have
            # vouched for, compares with nothing.
            if isinstance(time, int | float) and time == time:  # noqa: PLR0124 (NaN is not)
                if low is None or high is None:
                    low = high = time
                elif time < low:
                    low = time
                elif time > high:
                    high = time
                self._timed &= not isinstance(time, bool)
            else:
                self._timed = False
            source = document.get(SOURCE)
            if isinstance(source, str) and len(self._sources) <= _SOURCES_MAX:
                self._sources.add(source)
            self._located |= LOCATION_ID in document
        self._low, self._high = low, high

    def summary(self) -> Summary:
        """Of all that was taken in."""
        sources = frozenset(self._sources) if len(self._sources) <= _SOURCES_MAX else None
        return Summary(self._low, self._high, self._timed, sources, self._located)


class Pruning:
    """Which segments conditions cannot want anything from."""

    def __init__(self, conditions: Iterable[Condition], *, location_prefix: str) -> None:
        """Take the conditions that all must hold; those that no summary can answer are left aside.

        Args:
            conditions: What is asked for.
            location_prefix: What precedes the record's id in a location id.
        """
        self._conditions = [each for each in conditions if _operands(each)]
        self._prefix = location_prefix

    def excludes(self, summary: Summary, base: int, last: int) -> bool:
        """Whether no record of a segment can meet the conditions.

        Args:
            summary: Of the segment.
            base: The lowest id it may hold.
            last: The highest.
        """
        return any(self._excludes(each, summary, base, last) for each in self._conditions)

    def _excludes(self, condition: Condition, summary: Summary, base: int, last: int) -> bool:
        operands = _operands(condition)
        if condition.path == TIME:
            return not any(_within(summary, condition.operator, operand) for operand in operands)
        if condition.path == SOURCE:
            return summary.sources is not None and summary.sources.isdisjoint(operands)
        return not summary.located and not any(base <= self._record_id(each) <= last for each in operands)

    def _record_id(self, location_id: str) -> int:
        """The id that a location names; -1, which is none, when it names none."""
        number = location_id.removeprefix(self._prefix)
        return int(number) if number.isdecimal() and len(number) <= _ID_DIGITS_MAX else -1


def _operands(condition: Condition) -> list[Any]:
    """What a condition wants one of, when a summary can tell whether there is any; else nothing."""
    operands = condition.operand if condition.operator == "$in" else [condition.operand]
    if condition.path == TIME and condition.operator in {"$eq", "$in", "$gt", "$gte", "$lt", "$lte"}:
        kinds: tuple[type, ...] = (int, float)
    elif condition.path in {SOURCE, LOCATION_ID} and condition.operator in {"$eq", "$in"}:
        kinds = (str,)
    else:
        return []
    return list(operands) if all(type(each) in kinds for each in operands) else []


def _within(summary: Summary, operator: str, operand: Number) -> bool:
    """Whether a number between the lowest and the highest may compare so with an operand."""
    low, high = summary.low, summary.high
    if low is None or high is None:
        return False
    match operator:
        case "$gt":
            return high > operand
        case "$gte":
            return high >= operand
        case "$lt":
            return low < operand
        case "$lte":
            return low <= operand
        case _:
            return low <= operand <= high


def to_line(segment: str, summary: Summary) -> bytes:
    """A summary as a line of the sidecar: a checksum, a blank, a JSON object."""
    content = {
        "v": _VERSION,
        "segment": segment,
        "t": [summary.low, summary.high],
        "timed": summary.timed,
        "sources": None if summary.sources is None else sorted(summary.sources),
        "located": summary.located,
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %b" % (crc32(text), text)


def from_line(line: bytes) -> tuple[str, Summary] | None:
    """The segment's name and the summary that `to_line` wrote; None when the line is damaged or of another version."""
    head, _, text = line.partition(b" ")
    if len(head) != _CRC_DIGITS or head != b"%08x" % crc32(text):
        return None
    content = json.loads(text)
    if content.get("v") != _VERSION:
        return None
    (low, high), sources = content["t"], content["sources"]
    return content["segment"], Summary(
        low,
        high,
        timed=content["timed"],
        sources=None if sources is None else frozenset(sources),
        located=content["located"],
    )
