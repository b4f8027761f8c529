"""The check sequences that a frame may end with.

| name | which | polynomial | initial value | reflected | final XOR | of `123456789` |
| --- | --- | --- | --- | --- | --- | --- |
| `crc16` | CRC-16/CCITT-FALSE (also called IBM-3740) | 0x1021 | 0xFFFF | no | 0 | 0x29B1 |
| `crc16_modbus` | CRC-16/MODBUS | 0x8005 | 0xFFFF | yes | 0 | 0x4B37 |
| `crc32` | CRC-32 of IEEE 802.3 and zlib (ISO-HDLC) | 0x04C11DB7 | 0xFFFFFFFF | yes | 0xFFFFFFFF | 0xCBF43926 |

Each is appended to the payload with its highest byte first, that of Modbus with its lowest, before any encoding (COBS, SLIP,
escapes).

All find every error of up to 3 bits in a payload of up to 4,093 bytes (Koopman's tables: Hamming distance 4 up to
32,751 bits for 0x1021 and 0x8005, up to 91,607 for 0x04C11DB7). That holds for bits of the payload and of the check sequence
themselves. A bit that is part of the framing, such as a length, an escape, a delimiter or a code byte of COBS, moves
or merges bytes when it flips, and what results is any other sequence, which may pass by chance. Measured over 1.5 million
COBS frames with crc16 and up to three bits flipped anywhere before their end: 26 in a million for payloads of 4 bytes,
15 for 12, 5 for 37, 1 for 200; with crc32 none.

Most of these, and one more, are a weakness of CRC-16/CCITT-FALSE: it has no final XOR, so that zeros behind a good check
sequence do not change it. In COBS a single bit can add such a zero (the delimiter 00 becomes 01, and another delimiter
follows at once) or take one away (where the check sequence itself ends in zero): what comes out is one byte longer or
shorter. Formats of known length, and texts such as JSON, notice it when they are decoded; where neither holds, take crc32.
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias
from zlib import crc32 as _zlib_crc32

if TYPE_CHECKING:
    from collections.abc import Callable

CrcName: TypeAlias = Literal["none", "crc16", "crc16_modbus", "crc32"]

_CCITT_FALSE_INITIAL = 0xFFFF
_MODBUS_INITIAL = 0xFFFF
_MODBUS_POLYNOMIAL = 0xA001
"""0x8005 with its bits in reverse, since bytes go through lowest bit first."""


def _modbus_table() -> tuple[int, ...]:
    """What the register becomes for each of its low bytes, eight bits on."""
    table = []
    for register in range(256):
        for _ in range(8):
            register = register >> 1 ^ _MODBUS_POLYNOMIAL if register & 1 else register >> 1  # noqa: PLW2901 (it is shifted)
        table.append(register)
    return tuple(table)


_MODBUS_TABLE = _modbus_table()


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE."""
    return crc_hqx(data, _CCITT_FALSE_INITIAL)


def crc16_modbus(data: bytes) -> int:
    """CRC-16/MODBUS (Modbus over Serial Line 1.02, section 6.2.2)."""
    register = _MODBUS_INITIAL
    for byte in data:
        register = register >> 8 ^ _MODBUS_TABLE[(register ^ byte) & 0xFF]
    return register


def crc32(data: bytes) -> int:
    """CRC-32 of IEEE 802.3."""
    return _zlib_crc32(data)


class Crc(NamedTuple):
    """A check sequence at the end of a payload."""

    size: int
    """Bytes."""
    of: Callable[[bytes], int]
    order: Literal["big", "little"] = "big"
    """Which of its bytes comes first."""

    def append(self, payload: bytes) -> bytes:
        """The payload with its check sequence."""
        return payload + self.of(payload).to_bytes(self.size, self.order)

    def payload(self, checked: bytes, covers_before: bytes = b"") -> bytes | None:
        """The payload without its check sequence; None when that is wrong or missing.

        Args:
            checked: The payload with its check sequence.
            covers_before: What the check sequence covers ahead of the payload.
        """
        if not self.size:
            return checked
        if len(checked) < self.size:
            return None
        payload = checked[: -self.size]
        expected = int.from_bytes(checked[-self.size :], self.order)
        return payload if self.of(covers_before + payload) == expected else None


CRCS: dict[CrcName, Crc] = {
    "none": Crc(0, lambda _: 0),
    "crc16": Crc(2, crc16),
    "crc16_modbus": Crc(2, crc16_modbus, "little"),
    "crc32": Crc(4, crc32),
}
