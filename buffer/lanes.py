"""Which lane a record is in, and where in a file the alarms are. Pure.

A record whose member `lane` says "alarm" is in the lane `alarm`, every other one in the lane `normal`.
Alarms are rare and wanted first, so a segment remembers in which of its 4 KiB pages one begins: 128
bytes for a file of 4 MiB, and only for a file that has any. With that, taking the alarms out of a
backlog reads the pages that hold them, and nothing else. It is kept as records are committed, and
made again by one reading of the file after a restart, when alarms are asked for.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from buffer.segment import parse_json, split_lines

ALARM: Final = "alarm"
NORMAL: Final = "normal"
LANES: Final = (ALARM, NORMAL)
_PAGE_BYTES: Final = 4 << 10
_RUN_PAGES_MAX: Final = 32
"""So many pages next to each other are read at once."""
# In JSON's text a quotation mark inside of a string is escaped, so this is a whole string.
_NEEDLE: Final = b'"alarm"'
_AROUND: Final = b",\t\r\n "
"""What may stand around a record: the comma is on either side of the newline."""


def lane_of(document: dict[str, Any]) -> str:
    """The lane of a document."""
    return ALARM if document.get("lane") == ALARM else NORMAL


def is_alarm(raw: bytes) -> bool:
    """Whether a raw document is in the alarm lane."""
    if _NEEDLE not in raw:
        return False
    try:
        return lane_of(parse_json(raw)) == ALARM
    except ValueError:  # somebody vouched for what is no JSON
        return False


def alarm_starts(text: bytes) -> list[int]:
    """Where the lines of alarms begin (at their newline) in lines of a segment."""
    starts: list[int] = []
    if text.rfind(_NEEDLE) == -1:  # the usual case; from the end it takes half the time
        return starts
    at = text.find(_NEEDLE)
    while at != -1:
        start = text.rfind(b"\n", 0, at)
        end = text.find(b"\n", at)
        end = len(text) if end == -1 else end
        if start != -1 and is_alarm(_document(text[start:end])):
            starts.append(start)
        at = text.find(_NEEDLE, end)
    return starts


def line_starts(text: bytes) -> list[int]:
    """Where the lines in lines of a segment begin."""
    starts = []
    at = text.find(b"\n")
    while at != -1:
        starts.append(at)
        at = text.find(b"\n", at + 1)
    return starts


def chosen_lines(text: bytes, starts: Iterable[int]) -> list[bytes]:
    """The lines that begin there, bare: with neither a comma nor a trailer, so that any of them can be joined."""
    return [text[start : line_end(text, start)].strip(_AROUND) for start in starts]


def joined(lines: Iterable[bytes]) -> bytes:
    """Bare lines as lines of a segment."""
    return b",\n".join(lines)


def without_alarms(text: bytes) -> bytes:
    """Lines of a segment, those of alarms left out."""
    alarms = set(alarm_starts(text))
    if not alarms:
        return text
    return joined(chosen_lines(text, (start for start in line_starts(text) if start not in alarms)))


def line_end(text: bytes, start: int) -> int:
    """Where the line that begins at a newline ends: at the next newline, or with the text."""
    end = text.find(b"\n", start + 1)
    return len(text) if end == -1 else end


def line_id(text: bytes, start: int) -> int:
    """The id of the record whose line begins at a newline."""
    at = text.index(b'"', start) + 1
    return int(text[at : text.index(b'"', at)])


def _document(line: bytes) -> bytes:
    ((_, raw),) = split_lines(line)
    return raw


@dataclass(frozen=True, slots=True)
class AlarmPages:
    """How many alarms a segment has, and in which of its pages the lines of some begin, as bits."""

    count: int = 0
    pages: int = 0

    def plus(self, starts: Iterable[int]) -> "AlarmPages":
        """With the lines that begin at these offsets of the file."""
        count, pages = self.count, self.pages
        for start in starts:
            count += 1
            pages |= 1 << start // _PAGE_BYTES
        return AlarmPages(count, pages)

    def run_from(self, offset: int) -> tuple[int, int] | None:
        """The first bytes `[start, stop)` from an offset on in which lines of alarms begin."""
        page = offset // _PAGE_BYTES
        left = self.pages >> page
        if not left:
            return None
        skipped = (left & -left).bit_length() - 1
        ones = left >> skipped
        length = min((~ones & (ones + 1)).bit_length() - 1, _RUN_PAGES_MAX)
        start = (page + skipped) * _PAGE_BYTES
        return max(offset, start), start + length * _PAGE_BYTES

    def run_before(self, offset: int) -> tuple[int, int] | None:
        """The last bytes `[start, stop)` before an offset in which lines of alarms begin."""
        pages = -(-offset // _PAGE_BYTES)
        left = self.pages & ((1 << pages) - 1)
        if not left:
            return None
        last = left.bit_length()
        length = 1
        while length < _RUN_PAGES_MAX and last > length and left >> (last - length - 1) & 1:
            length += 1
        return (last - length) * _PAGE_BYTES, min(offset, last * _PAGE_BYTES)
