"""A plain value: a number, or ON, OFF, true or false, as text and nothing beside it.

What MQTT sensors say that give each metric a topic of its own. `21.5` gives `value = 21.5`; the source may know a better
name (a topic's level `{metric}`).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from collectors.metadata_keys import UNNAMED
from collectors.models import INT_MAX, INT_MIN
from drivers.codecs.config import CodecConfig
from drivers.codecs.model import EXCERPT_LENGTH, Decoded

if TYPE_CHECKING:
    from drivers.codecs.model import Codec

TEXT_BYTES_MAX: Final = 64
"""A 64-bit float takes 24 characters at most."""
_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_TRUTH: Final = {"on": True, "true": True, "off": False, "false": False}
_NO_VALUE: Final = frozenset({"nan", "inf", "-inf", "none", "null", "unknown", "unavailable"})
_WHITE: Final = " \t\r\n\0"
"""Around the value; C programs are known to send the NUL behind a text."""


def decode(raw: bytes) -> list[Decoded]:
    """The reading that a plain value is.

    Raises:
        ValueError: It is none; the message says what it is instead.
    """
    return [Decoded({UNNAMED: _value(raw)})]


def _value(raw: bytes) -> bool | int | float:
    if len(raw) > TEXT_BYTES_MAX:
        raise ValueError(f"{len(raw)} bytes are no plain number: {raw[:EXCERPT_LENGTH]!r}...")
    text = raw.decode("utf-8", errors="replace").strip(_WHITE)
    if _INTEGER.fullmatch(text):
        integer = int(text)
        if INT_MIN <= integer <= INT_MAX:
            return integer
        raise ValueError(f"the integer does not fit 64 bits: {raw!r}")
    if _NUMBER.fullmatch(text):
        number = float(text)
        if math.isfinite(number):
            return number
        raise ValueError(f"the number is too large for a 64-bit float: {raw!r}")
    word = text.lower()
    if word in _TRUTH:
        return _TRUTH[word]
    if word in _NO_VALUE:
        raise ValueError(f"the device says that it has no value now: {raw!r}")
    if not text:
        raise ValueError("nothing is said: an empty payload")
    hint = "; for JSON choose the codec json" if text[0] in '{["' else ""
    raise ValueError(f"not a plain number, ON, OFF, true or false: {raw!r}{hint}")


class PlainConfig(CodecConfig):
    """A plain value."""

    summary: ClassVar[str] = "a number, or ON, OFF, true or false, and nothing beside it"
    example: ClassVar[str] = 'codec = "plain"'

    type: Literal["plain"] = "plain"

    def codec(self) -> Codec:
        """The function that decodes."""
        return decode
