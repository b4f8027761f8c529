"""The framing that boards copy, as the C that it is, against a second implementation."""

import binascii
import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.framing.cobs import CobsConfig
from tests.rigs.simulated_uno import build_frame_library

PAYLOAD_BYTES_MAX = 252


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    library = ctypes.CDLL(str(build_frame_library(tmp_path_factory.mktemp("frame"))))
    library.frame_crc.restype = ctypes.c_uint16
    library.frame_crc.argtypes = [ctypes.c_uint16, ctypes.c_uint8]
    library.frame_encode.restype = ctypes.c_size_t
    library.frame_encode.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]
    return library


def crc(frame, data: bytes) -> int:
    value = 0xFFFF
    for byte in data:
        value = frame.frame_crc(value, byte)
    return value


def encoded(frame, payload: bytes) -> bytes:
    guard = b"\xa5" * 16
    size = len(payload) + 4
    room = ctypes.create_string_buffer(bytes(size) + guard, size + len(guard))
    used = frame.frame_encode(payload, len(payload), room)
    assert room.raw[size:] == guard, "it stays within the room that it asks for"
    return room.raw[:used]


def plain(coded: bytes) -> bytes:
    """COBS undone by the book (Cheshire and Baker, 1999)."""
    found = bytearray()
    while coded:
        code = coded[0]
        found += coded[1:code]
        coded = coded[code:]
        if code < 0xFF and coded:
            found.append(0)
    return bytes(found)


def test_the_crc_is_ccitt_false(frame):
    assert crc(frame, b"123456789") == 0x29B1
    assert crc(frame, b"") == 0xFFFF


@given(
    payload=st.binary(max_size=PAYLOAD_BYTES_MAX)
    | st.binary(max_size=PAYLOAD_BYTES_MAX).map(lambda b: b.replace(b"\0", b"\1"))
)
@settings(max_examples=300)
def test_a_frame_is_cobs_of_payload_and_crc(frame, payload):
    coded = encoded(frame, payload)
    assert coded[-1:] == b"\0"
    assert b"\0" not in coded[:-1]
    assert plain(coded[:-1]) == payload + binascii.crc_hqx(payload, 0xFFFF).to_bytes(2, "big")
    if payload:
        assert CobsConfig().encode(payload) == coded
        assert CobsConfig().framer().feed(b"\0" + coded) == [payload]


def test_the_longest_payload_fits_and_a_longer_one_is_refused(frame):
    assert len(encoded(frame, b"\x01" * PAYLOAD_BYTES_MAX)) == PAYLOAD_BYTES_MAX + 4
    assert encoded(frame, b"\x01" * (PAYLOAD_BYTES_MAX + 1)) == b""
