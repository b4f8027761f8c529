"""NMEA 0183: sentences of positioning and marine instruments, such as `$GPGGA,...*47`.

The names of the fields are those of pynmea2. Each reading has the text `sentence` (talker and type, `GPGGA`). Latitude
and longitude become decimal degrees, positive to the north and the east, in the units `lat` and `lon` (RFC 8428); empty
fields are left out; a status, a unit or a time of day stays the text that it is. RMC and ZDA with a valid fix say when
they were measured: that becomes the time of the reading.

A sentence without a checksum, or with a wrong one, is refused: a flipped bit in a position cannot be told otherwise.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from drivers.codecs.config import CodecConfig
from drivers.codecs.model import Decoded, excerpt
from drivers.codecs.text import number, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.codecs.model import Codec

SENTENCE_BYTES_MAX = 256
"""The standard allows 82; receivers of several satellite systems exceed it."""

_UNITS = {"altitude": "m", "geo_sep": "m", "latitude": "lat", "longitude": "lon"}
_UNIT_FIELDS = frozenset({"altitude_units", "geo_sep_units"})
"""Always M."""
_TEXTS = frozenset({"timestamp", "datestamp"})
"""Digits that are no number."""
_FIRST_YEAR = 1980
"""Of GPS; the dates of RMC have two digits for the year."""


class NmeaConfig(CodecConfig):
    """NMEA 0183."""

    summary: ClassVar[str] = "NMEA 0183 sentences with their checksum (GPS, marine instruments)"
    example: ClassVar[str] = 'codec = { type = "nmea", sentences = ["GGA", "RMC"] }'

    refuses_half: ClassVar[bool] = True

    type: Literal["nmea"] = "nmea"
    sentences: (
        Annotated[list[Annotated[str, Field(pattern="^[A-Z0-9]{3}$")]], Field(max_length=100)] | None
    ) = None
    """The types of sentences to read, without the talker; the others say no reading. Unset, all are read."""

    def codec(self) -> Codec:
        """The function that decodes."""
        from pynmea2 import ParseError
        from pynmea2.nmea import NMEASentence

        wanted = None if self.sentences is None else frozenset(self.sentences)

        def decode(raw: bytes) -> list[Decoded]:
            text = text_of(raw)
            if len(text) > SENTENCE_BYTES_MAX or not text.isascii() or not text.startswith(("$", "!")):
                raise ValueError(f"no NMEA sentence, which begins with $: {excerpt(raw)}")
            body, star, checksum = text[1:].rpartition("*")
            if not star:
                raise ValueError(f"a sentence without a checksum: {excerpt(raw)}")
            _check(body, checksum, raw)
            if wanted is not None and body[2:5] not in wanted:
                return []
            try:
                sentence = NMEASentence.parse(body)
            except ParseError as error:
                reason = error.args[0][0] if isinstance(error.args[0], tuple) else error
                raise ValueError(f"{reason}: {excerpt(raw)}") from None
            try:
                return [_decoded(sentence, body.partition(",")[0])]
            except ValueError as error:
                raise ValueError(f"{error}: {excerpt(raw)}") from None

        return decode


def _check(body: str, checksum: str, raw: bytes) -> None:
    """Refuse a sentence whose checksum, the XOR of all characters between $ and *, is wrong.

    Raises:
        ValueError: It is.
    """
    found = 0
    for character in body.encode():
        found ^= character
    if checksum.upper() != f"{found:02X}":
        raise ValueError(f"wrong checksum {checksum[:10]!r}, it should be {found:02X}: {excerpt(raw)}")


def _decoded(sentence: Any, name: str) -> Decoded:
    """The reading of a sentence."""
    texts = {
        field[1]: text.strip()
        for field, text in zip(sentence.fields, sentence.data, strict=False)
        if text.strip()
    }
    values: dict[str, bool | int | float | str] = {"sentence": name}
    for axis, positive, negative in (("lat", "N", "S"), ("lon", "E", "W")):
        degrees, side = texts.pop(axis, None), texts.pop(f"{axis}_dir", None)
        if degrees is not None and side is not None:
            values["latitude" if axis == "lat" else "longitude"] = _degrees(
                axis, degrees, side, positive, negative
            )
    for field, text in texts.items():
        if field in _UNIT_FIELDS:
            continue
        value = None if field in _TEXTS else number(text)
        values[field] = text if value is None else value
    if len(values) == 1:
        raise ValueError("a sentence without values")
    units = {metric: unit for metric, unit in _UNITS.items() if metric in values}
    return Decoded(values, t=_time(name[-3:], texts), units=units)


def _degrees(axis: str, text: str, side: str, positive: str, negative: str) -> float:
    """Decimal degrees of `ddmm.mmmm`.

    Raises:
        ValueError: It is no place on Earth.
    """
    value = number(text)
    if value is None or value < 0 or side not in {positive, negative}:
        raise ValueError(f"{axis}: {text!r} {side!r} is no position")
    minutes, whole = math.modf(value / 100)
    degrees = whole + minutes * 100 / 60
    if degrees > (90 if axis == "lat" else 180) or minutes * 100 >= 60.0001:  # noqa: PLR2004 (minutes, rounded)
        raise ValueError(f"{axis}: {text!r} is no position")
    return round(degrees if side == positive else -degrees, 9)


def _time(kind: str, texts: dict[str, str]) -> float | None:
    """When a sentence with a date was measured; None when it does not say so."""
    reader = _TIMES.get(kind)
    try:
        return None if reader is None else reader(texts)
    except (KeyError, ValueError):
        return None  # no fix yet: the time of arrival will do


def _rmc_time(texts: dict[str, str]) -> float | None:
    if texts.get("status") != "A":
        return None
    date = texts["datestamp"]
    year = 2000 + int(date[4:6])
    return _utc(
        year if year < _FIRST_YEAR + 100 else year - 100, int(date[2:4]), int(date[0:2]), texts["timestamp"]
    )


def _zda_time(texts: dict[str, str]) -> float:
    return _utc(int(texts["year"]), int(texts["month"]), int(texts["day"]), texts["timestamp"])


def _utc(year: int, month: int, day: int, clock: str) -> float:
    seconds = float(clock[4:])
    minute = datetime(year, month, day, int(clock[0:2]), int(clock[2:4]), tzinfo=UTC)
    if not 0 <= seconds < 61:  # noqa: PLR2004 (a leap second)
        raise ValueError(clock)
    return minute.timestamp() + seconds


_TIMES: dict[str, Callable[[dict[str, str]], float | None]] = {"RMC": _rmc_time, "ZDA": _zda_time}
