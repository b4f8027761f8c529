"""Captures survive being written and read, and being cut anywhere."""

import json
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.captures.format import CaptureError, CaptureReader, Piece, encode_header, encode_note, encode_piece

HEADER = encode_header({"port": "/dev/ttyUSB0", "baudrate": 9600})

pieces = st.lists(st.tuples(st.integers(0, 10**9), st.binary(min_size=1, max_size=40)), max_size=12).map(
    lambda found: [Piece(t / 1e6, data) for t, data in sorted(found)]
)


def read(capture: bytes) -> tuple[list[Piece], int]:
    reader = CaptureReader(BytesIO(capture))
    found = list(reader.pieces())
    return found, reader.damaged


@given(pieces)
def test_what_is_written_is_read(said):
    capture = HEADER + b"".join(map(encode_piece, said)) + encode_note(9e9, "connection lost")
    assert read(capture) == (said, 0)
    assert all(line.isascii() and json.loads(line) for line in capture.splitlines())


@given(said=pieces, cut=st.integers(0, 2000))
def test_a_capture_that_is_cut_plays_what_is_whole(said, cut):
    lines = [encode_piece(piece) for piece in said]
    capture = (HEADER + b"".join(lines))[: len(HEADER) + cut]
    whole = capture.count(b"\n") - 1
    found, damaged = read(capture)
    assert found == said[:whole]
    assert damaged == (not capture.endswith(b"\n"))


def test_lines_that_are_damaged_are_left_out_and_time_never_goes_back():
    capture = HEADER + b"".join(
        [
            encode_piece(Piece(1.0, b"a")),
            b"\x00\x01garbage\n",
            b"[]\n",
            b'{"t": 1.5, "rx": "\\u20ac"}\n',
            b'{"t": "x", "rx": "b"}\n',
            b'{"rx": "c"}\n',
            b'{"t": 2, "rx": 3}\n',
            b'{"t": Infinity, "rx": "e"}\n',
            b'{"t": NaN, "rx": "f"}\n',
            b'{"t": ' + b"1" * 400 + b', "rx": "g"}\n',
            b"[" * 100_000 + b"\n",
            b'{"t": 2, "said by": "a later version"}\n',
            encode_piece(Piece(0.5, b"d")),
        ]
    )
    assert read(capture) == ([Piece(1.0, b"a"), Piece(1.0, b"d")], 10)


@pytest.mark.parametrize("first", [b"", b"{}\n", b'{"n": 1}\n', HEADER[:-1], b"\xff\xfe\n", b"[1]\n"])
def test_other_files_are_refused(first):
    with pytest.raises(CaptureError, match="not a capture"):
        CaptureReader(BytesIO(first))


def test_other_versions_are_refused():
    with pytest.raises(CaptureError, match="version 2; this program reads version 1"):
        CaptureReader(BytesIO(b'{"capture": 2}\n'))


def test_the_header_says_what_the_port_was():
    assert CaptureReader(BytesIO(HEADER)).header == {"capture": 1, "port": "/dev/ttyUSB0", "baudrate": 9600}


def test_the_documented_capture_is_one():
    page = (Path(__file__).parents[2] / "docs" / "captures.md").read_text()
    capture = page.partition("```json\n")[2].partition("```")[0].encode()
    assert read(capture) == ([Piece(0.104211, b'{"n": 1}\r\n'), Piece(0.204307, b"\x03D\x07")], 0)
