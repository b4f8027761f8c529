"""JSON: an object of numbers, truth values and texts is a reading; an array of such objects is several.

`{"air": {"t": 21.5, "rh": 40}, "ok": true}` gives `air.t`, `air.rh` and `ok`. A `null` says that the device has no
value for that metric now: it is left out. Everything else is refused, with the place named.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic_core import from_json

from collectors.models import INT_MAX, INT_MIN
from drivers.codecs.config import CodecConfig
from drivers.codecs.model import EXCERPT_LENGTH, Decoded, excerpt

if TYPE_CHECKING:
    from drivers.codecs.model import Codec

DEPTH_MAX = 16
"""Objects within objects. Sensors need two or three; a bound keeps names, and the time to build them, short."""

READINGS_MAX = 10_000
VALUES_MAX = 100_000
"""In one frame or message. So many readings are decoded and kept in 0.2 to 0.4 s; 4 MiB of JSON could hold fifty times
as many."""


def decode(raw: bytes) -> list[Decoded]:
    """The readings in a JSON text (UTF-8).

    Raises:
        ValueError: It is not JSON, or says something that is no reading. The message says what and where.
    """
    try:
        document = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}: {excerpt(raw)}") from None
    try:
        readings = _several(document) if isinstance(document, list) else [_one(document, "")]
        _check_size(readings)
    except ValueError as error:
        raise ValueError(f"{error}: {excerpt(raw)}") from None
    return readings


def _several(documents: list[Any]) -> list[Decoded]:
    if not documents:
        raise ValueError("an empty array: there must be at least one reading")
    if len(documents) > READINGS_MAX:
        raise ValueError(
            f"an array of {len(documents)} readings: one message may hold {READINGS_MAX} at most"
        )
    return [_one(document, f"[{index}]") for index, document in enumerate(documents)]


def _check_size(readings: list[Decoded]) -> None:
    count = sum(len(reading.values) for reading in readings)
    if count > VALUES_MAX:
        raise ValueError(f"{count} values: one message may hold {VALUES_MAX} at most")


def _one(document: Any, where: str) -> Decoded:
    """The reading that one object is; `where` is its place in the payload, empty for the whole."""
    place = f"{where}: " if where else ""
    if not isinstance(document, dict):
        raise ValueError(
            f'{place}{_called(document)} is no reading: it must be an object such as {{"t": 21.5}}'
        )
    values: dict[str, bool | int | float | str] = {}
    _flatten(document, "", place, 1, values)
    if not values:
        raise ValueError(f"{place}the object has no values")
    return Decoded(values)


def _flatten(
    document: dict[str, Any],
    prefix: str,
    place: str,
    depth: int,
    values: dict[str, bool | int | float | str],
) -> None:
    for key, value in document.items():
        name = prefix + key
        if not key:
            raise ValueError(f"{place}a name is empty{f' in {_shown(prefix[:-1])}' if prefix else ''}")
        if isinstance(value, dict):
            if depth == DEPTH_MAX:
                raise ValueError(f"{place}{_shown(name)}: objects are nested more than {DEPTH_MAX} deep")
            _flatten(value, f"{name}.", place, depth + 1, values)
            continue
        if value is None:
            continue
        if name in values:
            raise ValueError(f"{place}two values are named {_shown(name)}")
        problem = _problem(value)
        if problem:
            raise ValueError(f"{place}{_shown(name)}: {problem}")
        values[name] = value


def _problem(value: Any) -> str:
    """Why this cannot be the value of a metric; empty when it can."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else "the number is too large for a 64-bit float"
    if isinstance(value, int):  # True and False too, which are in range
        return "" if INT_MIN <= value <= INT_MAX else "the integer does not fit 64 bits"
    if isinstance(value, str):
        return ""
    return f"{_called(value)} is no value: it must be a number, true, false or a text"


def _called(value: Any) -> str:
    """What JSON calls this."""
    if value is None:
        return "null"
    names = {bool: "a truth value", int: "a number", float: "a number", str: "a text", list: "an array"}
    return names[type(value)]


def _shown(name: str) -> str:
    return repr(name) if len(name) <= EXCERPT_LENGTH else f"{name[:EXCERPT_LENGTH]!r}..."


class JsonConfig(CodecConfig):
    """JSON."""

    summary: ClassVar[str] = "JSON: an object is a reading, an array of objects several"
    example: ClassVar[str] = 'codec = "json"'

    type: Literal["json"] = "json"
    ignore: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=100)] = Field(
        default_factory=list
    )
    """Frames that begin with one of these say no reading: banners."""

    def codec(self) -> Codec:
        """The function that decodes."""
        if not self.ignore:
            return decode
        ignored = tuple(prefix.encode() for prefix in self.ignore)
        return lambda raw: [] if raw.startswith(ignored) else decode(raw)
