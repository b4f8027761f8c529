"""SLIP (RFC 1055): binary frames, each ended by the byte C0.

Inside a frame C0 is sent as DB DC, and DB as DB DD. A sender that puts a C0 before each frame, too, as the RFC
advises, loses no frame to noise on an idle line; frames of no bytes are no frames. SLIP itself has no check
sequence: a byte that changes on the line is not noticed. `crc` adds one (`drivers.framing.crc`) to the payload.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from drivers.framing.config import FRAME_BYTES_DEFAULT, CheckedFramingConfig
from drivers.framing.crc import CRCS, CrcName
from drivers.framing.model import ErrorKind, FrameError
from drivers.framing.terminated import TerminatedFramer

END, ESC = b"\xc0", b"\xdb"
ESC_END, ESC_ESC = b"\xdb\xdc", b"\xdb\xdd"


def encode(payload: bytes) -> bytes:
    """The payload with END and ESC escaped, without the END after it."""
    return payload.replace(ESC, ESC_ESC).replace(END, ESC_END)


def decode(encoded: bytes) -> bytes | None:
    """The payload, None when ESC stands before something else than SLIP says. `encoded` holds no END."""
    if ESC not in encoded:
        return encoded
    if encoded.count(ESC) != encoded.count(ESC_END) + encoded.count(ESC_ESC):
        return None
    # Every ESC begins a pair of its own, so neither replacement meets what the other has made.
    return encoded.replace(ESC_END, END).replace(ESC_ESC, ESC)


class SlipFramer(TerminatedFramer):
    """Finds SLIP frames in a stream.

    Args:
        crc: The check sequence; the name of one in `CRCS`.
        max_frame: The longest permitted payload, bytes.
        skip_first: Leave out the first frame even without a check sequence that would tell if its beginning is missing.
    """

    def __init__(
        self, crc: CrcName = "none", *, max_frame: int = FRAME_BYTES_DEFAULT, skip_first: bool = False
    ) -> None:
        self._crc = CRCS[crc]
        self._is_checked = crc != "none"
        self._max_frame = max_frame
        super().__init__(
            END,
            max_length=2 * (max_frame + self._crc.size),
            skip_first=skip_first or self._is_checked,
            what="SLIP frame",
        )

    def _decoded(self, piece: bytes) -> bytes | FrameError:
        decoded = decode(piece)
        if decoded is None:
            return FrameError(ErrorKind.NOISE, "DB (ESC) without DC or DD behind it", piece)
        payload = self._crc.payload(decoded)
        if payload is None:
            return FrameError(ErrorKind.WRONG_CRC, f"wrong check sequence after {len(decoded)} bytes", piece)
        if len(payload) > self._max_frame:
            reason = f"a frame of {len(payload)} bytes: `max_frame` allows {self._max_frame}"
            return FrameError(ErrorKind.TOO_LONG, reason, piece)
        return payload


class SlipConfig(CheckedFramingConfig):
    """SLIP."""

    summary: ClassVar[str] = "binary frames of RFC 1055, with or without a check sequence"
    example: ClassVar[str] = 'framing = { type = "slip", crc = "crc16" }'

    type: Literal["slip"] = "slip"

    def framer(self) -> SlipFramer:
        """A framer at the beginning of a stream."""
        return SlipFramer(self.crc, max_frame=self.max_frame, skip_first=self.first_frame == "discard")

    def encode(self, payload: bytes) -> bytes:
        """The frame and the END behind it.

        Raises:
            ValueError: The payload is too long, or empty without a check sequence.
        """
        if not payload and self.crc == "none":
            raise ValueError("a SLIP frame must have at least one byte")
        return encode(self.checked(payload)) + END
