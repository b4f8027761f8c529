r"""The bytes of a segment: header, frames, trailers, tail. Pure.

    {"readings":{<trailer>          the header: a frame without records
    "1":{...},                      a frame: a newline, one record a line ...
    "2":{...}<trailer>              ... and a trailer
    ,"3":{...}<trailer>             every later frame starts with a comma
    }}<spaces>                      the tail, and blocks of spaces written ahead

A trailer is 96 bits, written as TAB (0) and CR (1), so that it is legal white space anywhere
between two tokens of JSON, and cannot occur in a record, since compact JSON escapes both. Its
fields, most significant bit first:

    records so far in this file     24 bits
    acknowledged up to, id          40 bits   the lowest mark of all consumers
    crc32                           32 bits   of all bytes of the file before this field

The checksum stands last, so that it covers the two numbers before it. It runs on through the whole
file; a reader that meets a damaged frame goes on with the checksum that the damaged frame's own
trailer states, and so loses that frame only.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from pydantic_core import to_json

TRAILER_BYTES: Final = 96
_CRC_BYTES: Final = 32
_CRC_MAX: Final = (1 << 32) - 1
_CURSOR_BITS: Final = 40
ID_MAX: Final = (1 << _CURSOR_BITS) - 1
"""Ids stay below 2**40: 34 years at 1,000 readings a second."""
RECORDS_MAX: Final = (1 << 24) - 1
TAIL: Final = b"\n}}"
_TO_WHITE = bytes.maketrans(b"01", b"\t\r")
_TO_DIGITS = bytes(ord("1") if character == ord("\r") else ord("0") for character in range(256))
_WHITE = re.compile(rb"[\t\r]")
_RUN = re.compile(rb"[\t\r]{%d,}" % TRAILER_BYTES)
_RECORD_ID = re.compile(rb'\n,?"(\d+)":')
# A trailer hit by a flipped byte or two is still seen as one, so that the frames on either side of
# it stay apart; a line of a record has no TAB or CR at all.
_TRAILER_WHITE_MIN: Final = TRAILER_BYTES - 8

Run = tuple[int, Sequence[bytes]]
"""Documents under consecutive ids: the first id, and what is stored under it and those that follow."""
_HUNDRED: Final = 100
_LAST_DIGITS: Final = [b'%02d":' % number for number in range(_HUNDRED)]
_SMALL_IDS: Final = [b'%d":' % number for number in range(_HUNDRED)]


@dataclass(frozen=True, slots=True)
class Trailer:
    """What a trailer says."""

    records: int
    cursor: int
    crc: int


@dataclass(slots=True)
class Frame:
    """One frame found in a file: the bytes `[start, end)`, trailer included."""

    start: int
    end: int
    trailer: Trailer
    intact: bool
    running_crc: int
    """The checksum of all bytes up to `end`."""


def bits(number: int) -> bytes:
    """A number below 2**32 as TAB and CR, most significant bit first."""
    return f"{number:032b}".encode().translate(_TO_WHITE)


def number(white: bytes) -> int:
    """The number that TAB and CR stand for; a damaged character counts as 0."""
    return int(white.translate(_TO_DIGITS), 2)


def close_frame(content: bytes, crc: int, *, records: int, cursor: int) -> tuple[bytes, int]:
    """The trailer for a frame, and the checksum of the file up to the trailer's end.

    Args:
        content: The frame without its trailer, or the end of that.
        crc: The checksum of the file up to the content.
        records: How many records the file has with this frame.
        cursor: Up to which id all consumers have acknowledged.
    """
    assert 0 <= records <= RECORDS_MAX
    assert 0 <= cursor <= ID_MAX
    head = f"{records << _CURSOR_BITS | cursor:064b}".encode().translate(_TO_WHITE)
    crc = crc32(head, crc32(content, crc) if content else crc)
    field = f"{crc:032b}".encode().translate(_TO_WHITE)
    return head + field, crc32(field, crc)


def header(table: str) -> bytes:
    """The opening of a segment, without its trailer."""
    return b"{" + to_json(table) + b":{"


def read_trailer(white: bytes) -> Trailer:
    """What 96 bytes of white space say."""
    fields = number(white)
    head = fields >> _CRC_BYTES
    return Trailer(head >> _CURSOR_BITS, head & ID_MAX, fields & _CRC_MAX)


def line_count(text: bytes) -> int:
    """How many newlines there are: `count` takes four times as long as taking them out does."""
    return len(text) - len(text.replace(b"\n", b""))


def record_ids(content: bytes) -> list[int]:
    """The ids of the records in (a part of) a file that starts at the newline before a record."""
    return [int(text) for text in _RECORD_ID.findall(content)]


def lines(records: list[tuple[int, bytes]], *, first: bool) -> bytes:
    """The content of a frame.

    Args:
        records: Ids and compact JSON objects; at least one, since an empty frame would say nothing.
        first: It is the first of its file, so no comma precedes it.
    """
    assert records
    return (b"\n" if first else b"\n,") + b",\n".join([b'"%d":%b' % record for record in records])


def run_lines(runs: Sequence[Run], *, first: bool) -> list[bytes]:
    """What `lines` gives, in pieces: large blocks of memory cost more than what is done with them.

    Of a hundred ids all but the last two digits are the same, so that nothing is formatted for a record.
    """
    assert runs
    start = b"\n" if first else b"\n,"
    pieces = []
    for record_id, documents in runs:
        if len(documents) == 1:
            pieces.append(b'%b"%d":%b' % (start, record_id, documents[0]))
            start = b",\n"
            continue
        done = 0
        while done < len(documents):
            hundreds, digits = divmod(record_id + done, _HUNDRED)
            n = min(_HUNDRED - digits, len(documents) - done)
            opening = b'"%d' % hundreds if hundreds else b'"'
            parts = [b",\n" + opening] * (3 * n)
            parts[0] = start + opening
            parts[1::3] = (_LAST_DIGITS if hundreds else _SMALL_IDS)[digits : digits + n]
            parts[2::3] = documents[done : done + n]
            pieces.append(b"".join(parts))
            start = b",\n"
            done += n
    return pieces


def scan(data: bytes) -> list[Frame]:
    """All frames of a file, the header's first, each marked as intact or not.

    A damaged frame costs no other: the next one is checked from the checksum that the damaged one's
    trailer states, or, when just that field was hit, from the one it should have stated (then the
    frame was intact after all).
    """
    frames: list[Frame] = []
    seeds: list[tuple[int, int, bool]] = [(0, 0, False)]
    start = 0
    for end in _trailer_ends(data, strict=True):
        frame, seeds = _check(data, start, end, seeds, frames)
        frames.append(frame)
        start = end
    if all(frame.intact for frame in frames):
        return frames
    frames, seeds, start = [], [(0, 0, False)], 0
    for end in _trailer_ends(data, strict=False):
        frame, seeds = _check(data, start, end, seeds, frames)
        frames.append(frame)
        start = end
    return frames


def is_of(data: bytes, table: str) -> bool:
    """Whether a file is one of a table; a damaged beginning says nothing against it."""
    if data.startswith(header(table)):
        return True
    frames = scan(data)
    return not (frames and frames[0].intact)


def _check(
    data: bytes, start: int, end: int, seeds: list[tuple[int, int, bool]], before: list[Frame]
) -> tuple[Frame, list[tuple[int, int, bool]]]:
    """Check one frame against each checksum that may hold up to it; gives the seeds for the next."""
    field = end - _CRC_BYTES
    trailer = read_trailer(data[end - TRAILER_BYTES : end])
    after: list[tuple[int, int, bool]] = [(field, trailer.crc, False)]
    for position, crc, mended in seeds:
        computed = crc32(memoryview(data)[position:field], crc)
        if computed == trailer.crc:
            if mended and before:
                before[-1].intact = True
            # As it was written: a TAB that was turned into something else still reads as one.
            running = crc32(bits(computed), computed)
            return Frame(start, end, trailer, intact=True, running_crc=running), [(end, running, False)]
        after.append((end, crc32(bits(computed), computed), True))
    # The third and later seeds only help when several neighbours are damaged; a bound all the same.
    return Frame(start, end, trailer, intact=False, running_crc=0), after[:4]


def _trailer_ends(data: bytes, *, strict: bool) -> list[int]:
    """Where trailers end. Not strict: also those with a few damaged bytes."""
    ends = set()
    for run in _white_runs(data):
        # A record's last byte may have been turned into white space, or the newline after it.
        followed = data[run.end() : run.end() + 1] == b"\n"
        ends.add(run.end() if followed else run.start() + TRAILER_BYTES)
    if strict:
        return sorted(ends)
    at = data.find(b"\n", TRAILER_BYTES)
    while at != -1:
        if _whiteness(data, at) >= _TRAILER_WHITE_MIN:
            ends.add(at)
        at = data.find(b"\n", at + 1)
    return _apart(data, sorted(ends))


def _white_runs(data: bytes) -> Iterator[re.Match[bytes]]:
    """All runs of TABs and CRs that are long enough for a trailer: each of them covers one byte in 96."""
    done = 0
    for hit in _WHITE.finditer(data[::TRAILER_BYTES]):
        at = hit.start() * TRAILER_BYTES
        if at >= done:
            before = data[max(done, at - TRAILER_BYTES) : at]
            run = _RUN.match(data, at - (len(before) - len(before.rstrip(b"\t\r"))))
            if run:
                done = run.end()
                yield run


def _whiteness(data: bytes, end: int) -> int:
    """How many of the bytes where a trailer would be are TAB or CR."""
    return TRAILER_BYTES - len(data[end - TRAILER_BYTES : end].translate(None, b"\t\r"))


def _apart(data: bytes, ends: list[int]) -> list[int]:
    """Of ends too close for a trailer each, the likeliest: damage can look like another newline."""
    chosen: list[int] = []
    for end in ends:
        if chosen and end - chosen[-1] < TRAILER_BYTES:
            if _whiteness(data, end) >= _whiteness(data, chosen[-1]):
                chosen[-1] = end
        else:
            chosen.append(end)
    return chosen
