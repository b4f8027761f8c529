"""The line framer against a model that sees the whole stream at once."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.framing import ErrorKind, FrameError, Framer
from drivers.framing.lines import LineFramer

TERMINATORS = st.sampled_from([b"\n", b"\r", b"\r\n", b"\x00", b"aab", b";;"])
# An alphabet that is mostly terminator bytes meets every split of one across chunks.
STREAMS = st.one_of(
    st.binary(max_size=300), st.lists(st.sampled_from(list(b"\r\nab;\x00")), max_size=300).map(bytes)
)


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


def run(framer: Framer, chunks: list[bytes]) -> list[bytes | FrameError]:
    found = [item for chunk in chunks for item in framer.feed(chunk)]
    return found + framer.finish()


def model(stream: bytes, terminator: bytes, max_length: int) -> list[bytes | tuple[ErrorKind, bytes]]:
    *lines, rest = stream.split(terminator)
    found: list[bytes | tuple[ErrorKind, bytes]] = []
    for line in lines:
        if len(line) > max_length:
            found.append((ErrorKind.TOO_LONG, line[:max_length]))
        else:
            content = line.removesuffix(b"\r") if terminator == b"\n" else line
            if content:
                found.append(content)
    if len(rest) > max_length:
        found.append((ErrorKind.TOO_LONG, rest[:max_length]))
    elif rest:
        found.append((ErrorKind.CUT_OFF, rest))
    return found


def flat(found: list[bytes | FrameError]) -> list[bytes | tuple[ErrorKind, bytes]]:
    return [item if isinstance(item, bytes) else (item.kind, item.raw) for item in found]


@given(
    stream=STREAMS, terminator=TERMINATORS, max_length=st.integers(1, 60), cuts=st.lists(st.integers(0, 400))
)
def test_any_stream_in_any_pieces_gives_what_the_whole_stream_says(stream, terminator, max_length, cuts):
    framer = LineFramer(terminator, max_length=max_length)
    found = run(framer, chunked(stream, cuts))
    assert flat(found) == model(stream, terminator, max_length)
    good = [item for item in found if isinstance(item, bytes)]
    assert framer.counts.frames == len(good)
    assert sum(framer.counts.errors.values()) == len(found) - len(good)
    errors = [item for item in stream.split(terminator) if len(item) > max_length]
    last = stream.split(terminator)[-1]
    expected = sum(map(len, errors)) + (len(last) if len(last) <= max_length else 0)
    assert framer.counts.dropped_bytes == expected


@given(
    lines=st.lists(st.binary(min_size=1, max_size=40).filter(lambda line: not set(line) & set(b"\r\n"))),
    garbage=st.lists(st.binary(max_size=200).filter(lambda noise: b"\n" not in noise)),
    cuts=st.lists(st.integers(0, 5000)),
)
def test_intact_lines_survive_any_garbage_between_them(lines, garbage, cuts):
    stream = b"".join(
        (garbage[i] + b"\n" if i < len(garbage) else b"") + line + b"\n" for i, line in enumerate(lines)
    )
    found = run(LineFramer(max_length=40), chunked(stream, cuts))
    good = iter([item for item in found if isinstance(item, bytes)])
    assert all(line in good for line in lines)  # once each and in order: each search goes on after the last


@given(
    stream=STREAMS, terminator=TERMINATORS, max_length=st.integers(1, 60), cuts=st.lists(st.integers(0, 400))
)
def test_skipping_the_first_frame_costs_exactly_what_comes_before_the_first_terminator(
    stream, terminator, max_length, cuts
):
    framer = LineFramer(terminator, max_length=max_length, skip_first=True)
    found = flat(run(framer, chunked(stream, cuts)))
    first, _, rest = stream.partition(terminator)
    too_long = [(ErrorKind.TOO_LONG, first[:max_length])] if len(first) > max_length else []
    assert found == too_long + model(rest, terminator, max_length)
    assert framer.counts.skipped == (0 < len(first) <= max_length)


@given(st.binary(min_size=1, max_size=64).filter(lambda chunk: b"\n" not in chunk), st.integers(1, 100))
def test_memory_stays_below_the_longest_line(chunk, max_length):
    framer = LineFramer(max_length=max_length)
    found = [item for _ in range(50) for item in framer.feed(chunk)]
    assert len(framer._partial) <= max_length
    assert len(found) == (len(chunk) * 50 > max_length)  # said once, not for every chunk


def test_an_overlong_line_is_reported_before_its_end_comes():
    framer = LineFramer(max_length=4)
    (error,) = framer.feed(b"12345")
    assert isinstance(error, FrameError)
    assert error.kind is ErrorKind.TOO_LONG
    assert "within 4 bytes" in error.reason
    assert "baud rate" in error.reason
    assert framer.feed(b"678\nok\n") == [b"ok"]
    assert framer.counts.dropped_bytes == 8


def test_carriage_return_before_newline_is_no_part_of_the_line():
    assert LineFramer().feed(b"a\r\nb\n\r\n\n") == [b"a", b"b"]


def test_another_terminator_leaves_newlines_alone():
    assert LineFramer(b"\r").feed(b"a\nb\r") == [b"a\nb"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((b"",), "at least one byte"), ((b"\n",), "at least one byte, not 0")],
)
def test_impossible_limits_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LineFramer(*arguments, max_length=0)
