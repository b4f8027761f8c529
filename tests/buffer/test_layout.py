"""The bytes of a segment."""

import json
import random
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from buffer.layout import (
    TAIL,
    TRAILER_BYTES,
    _white_runs,
    bits,
    close_frame,
    header,
    lines,
    number,
    read_trailer,
    record_ids,
    scan,
)
from buffer.naming import (
    SealedName,
    active_name,
    directory_name,
    parse_active,
    parse_sealed,
    table_of,
)
from buffer.ranges import RangeSet
from buffer.salvage import salvage
from buffer.segment import parse_lines, split_lines, take_lines
from buffer.writer import build_segment


@given(st.integers(0, 2**32 - 1))
def test_white_space_holds_numbers(value):
    white = bits(value)
    assert len(white) == 32
    assert set(white) <= set(b"\t\r")
    assert number(white) == value


@given(st.binary(), st.integers(0, 2**32 - 1), st.integers(0, 2**24 - 1), st.integers(0, 2**40 - 1))
def test_a_trailer_says_what_was_put_in(content, crc, records, cursor):
    white, _ = close_frame(content, crc, records=records, cursor=cursor)
    assert len(white) == TRAILER_BYTES
    trailer = read_trailer(white)
    assert (trailer.records, trailer.cursor) == (records, cursor)


def segment(frames=6, per_frame=4):
    """As the active file writes it: a frame a commit."""
    records = [
        (at + 1, json.dumps({"n": at, "pad": "x" * (at % 40)}, separators=(",", ":")).encode())
        for at in range(frames * per_frame)
    ]
    data = header("readings")
    trailer, crc = close_frame(data, 0, records=0, cursor=0)
    data += trailer
    for at in range(0, len(records), per_frame):
        content = lines(records[at : at + per_frame], first=at == 0)
        trailer, crc = close_frame(content, crc, records=at + per_frame, cursor=at)
        data += content + trailer
    return records, data + TAIL


def test_every_frame_of_a_whole_segment_is_found():
    records, data = segment()
    frames = scan(data)
    assert all(frame.intact for frame in frames)
    assert salvage(data, 1).records == records
    assert json.loads(data)["readings"] == {str(each): json.loads(raw) for each, raw in records}


def test_one_damaged_byte_costs_at_most_its_frame():
    records, data = segment(frames=4, per_frame=5)
    frames = scan(data)
    assert len(frames) == 5
    largest = 5
    rng = random.Random(1)
    for at in range(len(data)):
        for flip in (1, 4, 128, rng.randint(1, 255)):
            damaged = bytearray(data)
            damaged[at] ^= flip
            good = salvage(bytes(damaged), 1)
            assert set(good.records) <= set(records), at
            missing = len(records) - len(good.records)
            assert missing <= largest, (at, damaged[at], missing)
            if missing:
                stated = sum(loss.count for loss in good.losses)
                assert stated >= missing, (at, good.losses)
                assert stated == missing or good.losses[-1].why == "damaged or torn at the end"


@given(st.integers(0, 2_000))
def test_a_file_cut_anywhere_keeps_every_whole_frame(size):
    records, data = segment()
    good = salvage(data[:size], 1)
    assert good.records == records[: len(good.records)]
    whole = [frame for frame in scan(data) if frame.end <= size]
    assert len(good.records) >= (whole[-1].trailer.records if whole else 0)


@given(st.binary(max_size=2000))
def test_anything_can_be_scanned(data):
    for frame in scan(data):
        assert 0 <= frame.start < frame.end <= len(data)
    salvage(data, 1)


@given(
    st.lists(st.binary(max_size=60).map(lambda raw: b'{"a":%d}' % len(raw)), min_size=1), st.integers(1, 9)
)
def test_lines_are_taken_and_parsed(documents, n):
    records = list(enumerate(documents, 5))
    _, data = build_segment("t", 5, 0, records, last=99, cursor=0)
    header_end = data.index(b'\n"5"')
    text, used = take_lines(data[header_end:-3], n, None)
    assert text == data[header_end : header_end + used]
    assert split_lines(text) == records[:n]
    assert record_ids(text) == [each for each, _ in records[:n]]
    assert parse_lines(text) == [(each, json.loads(raw)) for each, raw in records[:n]]


def test_names_say_what_there_is():
    name = SealedName(17, 2, 300, 0xDEADBEEF, 400)
    assert parse_sealed(str(name)) == name
    assert parse_active(active_name(5)) == 5
    assert parse_sealed(active_name(5)) is None
    assert parse_active("a.5.json") is None


@given(st.text(min_size=1, max_size=20))
def test_any_table_has_a_directory(table):
    name = directory_name(table)
    assert "/" not in name
    assert not name.startswith(".")
    assert table_of(name) == table


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 60), st.integers(0, 12))),
    st.integers(1, 70),
    st.integers(1, 70),
)
def test_range_sets_are_sets(changes, low, high):
    model, ranges = set(), RangeSet()
    for adding, start, length in changes:
        if adding:
            model |= set(range(start, start + length))
            ranges.add(start, start + length - 1)
        else:
            model -= set(range(start, start + length))
            ranges.discard(start, start + length - 1)
    assert {each for a, b in ranges for each in range(a, b + 1)} == model
    pairs = list(ranges)
    assert all(first[1] + 1 < second[0] for first, second in pairwise(pairs))
    assert (low in ranges) == (low in model)
    assert ranges.first_missing(low) == next(each for each in range(low, 999) if each not in model)
    assert ranges.count_within(low, high) == len(model & set(range(low, high + 1)))


@given(
    st.lists(
        st.tuples(st.sampled_from([b"\t", b"\r", b"\t\r", b"x", b"\n"]), st.integers(0, 230)), max_size=12
    )
)
def test_runs_of_white_space_are_found_wherever_they_begin(parts):
    data = b"".join(piece * times for piece, times in parts)
    expected = [run.span() for run in re.finditer(rb"[\t\r]{%d,}" % TRAILER_BYTES, data)]
    assert [run.span() for run in _white_runs(data)] == expected
