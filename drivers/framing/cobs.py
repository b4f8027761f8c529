"""COBS with a check sequence: binary frames without zeros, each ended by a zero.

Consistent Overhead Byte Stuffing (S. Cheshire and M. Baker, IEEE/ACM Transactions on Networking 7(2), 1999) writes
a payload as blocks: a code byte n, then n - 1 bytes that are not zero, then, unless n is 255 or the frame ends, a
zero that is left out. So a zero byte on the line is the end of a frame and nothing else, whatever was lost before.

On the line: `COBS(payload + check sequence) 00`; the check sequence is CRC-16/CCITT-FALSE or CRC-32 of the payload,
appended with its highest byte first (`drivers.framing.crc`). `12 00 34` with crc16 is `02 12 04 34 97 48 00`.

A sender that puts a zero before each frame, too, loses no frame to garbage that has no zero of its own. Frames of
no bytes (two zeros in a row) are no frames.
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import ClassVar, Literal

from drivers.framing.config import FRAME_BYTES_DEFAULT, CheckedFramingConfig
from drivers.framing.crc import CRCS, CrcName
from drivers.framing.model import ErrorKind, FrameError
from drivers.framing.terminated import TerminatedFramer

_FULL = 255
"""The code of a block of 254 bytes that no zero follows."""


def encode(payload: bytes) -> bytes:
    """The COBS encoding, without a zero at the end."""
    encoded = bytearray()
    run = b""
    for run in payload.split(b"\0"):
        at = 0
        while len(run) - at >= _FULL - 1:
            encoded.append(_FULL)
            encoded += run[at : at + _FULL - 1]
            at += _FULL - 1
        encoded.append(len(run) - at + 1)
        encoded += run[at:]
    if run and len(run) % (_FULL - 1) == 0:
        del encoded[-1]  # a full block that the payload ends with needs no empty one behind it
    return bytes(encoded)


def decode(encoded: bytes) -> bytes | None:
    """The payload, None when the code bytes do not end where the encoding does. `encoded` holds no zero."""
    size = len(encoded)
    at = 0
    if size < _FULL:
        # No block can be full, so that each code byte stands where the zero before its block was.
        decoded = bytearray(encoded)
        while at < size:
            code = decoded[at]
            decoded[at] = 0
            at += code
        return bytes(decoded[1:]) if at == size else None
    blocks = []
    while at < size:
        code = encoded[at]
        blocks.append(encoded[at + 1 : at + code])
        at += code
        if code != _FULL and at < size:
            blocks.append(b"\0")
    return b"".join(blocks) if at == size else None


def encoded_max(size: int) -> int:
    """The longest encoding of so many bytes."""
    return size + size // (_FULL - 1) + 1


class CobsFramer(TerminatedFramer):
    """Finds COBS frames in a stream.

    Args:
        crc: The check sequence; the name of one in `CRCS`.
        max_frame: The longest permitted payload, bytes.
        skip_first: Leave out the first frame even without a check sequence that would tell if its beginning is missing.
    """

    def __init__(
        self, crc: CrcName = "crc16", *, max_frame: int = FRAME_BYTES_DEFAULT, skip_first: bool = False
    ) -> None:
        self._crc = CRCS[crc]
        self._is_crc16 = crc == "crc16"
        self._is_checked = crc != "none"
        self._max_frame = max_frame
        self._max_decoded = max_frame + self._crc.size
        super().__init__(
            b"\0",
            max_length=encoded_max(self._max_decoded),
            skip_first=skip_first or self._is_checked,
            what="COBS frame",
        )

    def _decoded(self, piece: bytes) -> bytes | FrameError:
        decoded = decode(piece)
        if decoded is None:
            return FrameError(ErrorKind.HALF, "a COBS frame with bytes missing or changed", piece)
        payload: bytes | None
        if self._is_crc16:  # the check sequence after what it covers leaves a rest of zero
            payload = decoded[:-2] if len(decoded) > 1 and not crc_hqx(decoded, 0xFFFF) else None
        else:
            payload = self._crc.payload(decoded)
        if payload is None:
            return FrameError(ErrorKind.WRONG_CRC, f"wrong check sequence after {len(decoded)} bytes", piece)
        if len(payload) > self._max_frame:
            reason = f"a frame of {len(payload)} bytes: `max_frame` allows {self._max_frame}"
            return FrameError(ErrorKind.TOO_LONG, reason, piece)
        return payload


class CobsConfig(CheckedFramingConfig):
    """COBS with a check sequence."""

    summary: ClassVar[str] = "binary frames (COBS) with CRC-16 or CRC-32: what we advise for new firmware"
    example: ClassVar[str] = 'framing = { type = "cobs", crc = "crc16", max_frame = 256 }'

    type: Literal["cobs"] = "cobs"
    crc: CrcName = "crc16"

    def framer(self) -> CobsFramer:
        """A framer at the beginning of a stream."""
        return CobsFramer(self.crc, max_frame=self.max_frame, skip_first=self.first_frame == "discard")

    def encode(self, payload: bytes) -> bytes:
        """The frame, with its check sequence and the zero that ends it.

        Raises:
            ValueError: The payload is too long.
        """
        return encode(self.checked(payload)) + b"\0"
