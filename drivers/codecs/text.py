"""What the text codecs share: numbers as devices write them, and the options that all of them take."""

from __future__ import annotations

import math
import re
from abc import ABC
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from collectors.models import INT_MAX, INT_MIN
from drivers.codecs.config import CodecConfig
from drivers.codecs.model import Decoded, excerpt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TEXT_BYTES_MAX: Final = 4096
"""A longer line is none of a sensor's; a bound keeps what one can cost low."""

Name = Annotated[str, Field(min_length=1)]

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NO_VALUE: Final = frozenset({"", "nan", "-nan", "null", "none", "n/a", "na", "-", "--"})
"""How devices write that they have no value now (C's printf writes nan)."""
_TRUTH: Final = {"true": True, "false": False}
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class TextCodecConfig(CodecConfig, ABC):
    """The options that all text codecs have."""

    units: dict[str, str] = Field(default_factory=dict)
    """Unit of a metric, by RFC 8428's registry where it has one."""
    texts: Annotated[list[Name], Field(max_length=1000)] = Field(default_factory=list)
    """The metrics that are texts. What is not among them must be a number, true or false: garbage then is noticed."""
    ignore: Annotated[list[Name], Field(max_length=100)] = Field(default_factory=list)
    """Lines that begin with one of these say no reading: banners, headings, comments."""


def text_of(raw: bytes) -> str:
    """The text that a frame is, without white space around it.

    Raises:
        ValueError: It is none.
    """
    if len(raw) > TEXT_BYTES_MAX:
        raise ValueError(f"a line of {len(raw)} bytes: {TEXT_BYTES_MAX} are the most: {excerpt(raw)}")
    try:
        text = raw.decode("utf-8").strip(" \t\r\n\0")
    except UnicodeDecodeError as error:
        raise ValueError(f"not a text: {error.reason} at byte {error.start}: {excerpt(raw)}") from None
    if (control := _CONTROL.search(text)) is not None:
        raise ValueError(f"not a text: it has the control character {control[0]!r}: {excerpt(raw)}")
    return text


def number(text: str) -> int | float | None:
    """The number that a text is; None when it is none.

    Raises:
        ValueError: It is a number that is too large for 64 bits.
    """
    if _INTEGER.fullmatch(text):
        integer = int(text)
        if not INT_MIN <= integer <= INT_MAX:
            raise ValueError(f"the integer {text} does not fit 64 bits")
        return integer
    if _NUMBER.fullmatch(text):
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"the number {text[:40]} is too large for a 64-bit float")
        return value
    return None


class Values:
    """Collects the values of one reading from texts.

    Args:
        config: Says which are texts, and the units.
    """

    def __init__(self, config: TextCodecConfig) -> None:
        self._texts = frozenset(config.texts)
        self._units = config.units

    def decoded(self, named: Mapping[str, str]) -> list[Decoded]:
        """The reading of these texts.

        Raises:
            ValueError: One is no value of its kind, or there is none at all.
        """
        values: dict[str, bool | int | float | str] = {}
        for name, text in named.items():
            if name in self._texts:
                if text:
                    values[name] = text
            elif text.lower() not in _NO_VALUE:
                values[name] = self._value(name, text)
        if not values:
            raise ValueError("there is no value")
        units = {name: unit for name, unit in self._units.items() if name in values} if self._units else {}
        return [Decoded(values, units=units)]

    @staticmethod
    def _value(name: str, text: str) -> bool | int | float:
        try:
            value = number(text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if value is None:
            value = _TRUTH.get(text.lower())
        if value is None:
            raise ValueError(
                f"{name}: {text[:40]!r} is no number, true or false; a text must be named in `texts`"
            )
        return value


def text_codec(
    config: TextCodecConfig, split: Callable[[str], Mapping[str, str]]
) -> Callable[[bytes], list[Decoded]]:
    """A codec of lines.

    Args:
        config: The options that all text codecs have.
        split: Gives the texts by name; raises ValueError for a line that is not in its format.
    """
    values = Values(config)
    ignored = tuple(config.ignore)

    def decode(raw: bytes) -> list[Decoded]:
        text = text_of(raw)
        if ignored and text.startswith(ignored):
            return []
        try:
            return values.decoded(split(text))
        except ValueError as error:
            raise ValueError(f"{error}: {excerpt(raw)}") from None

    return decode
