"""JSON: an object of numbers, truth values and texts is a reading; an array of such objects is several.

`{"air": {"t": 21.5, "rh": 40}, "ok": true}` gives `air.t`, `air.rh` and `ok`. A `null` says that the device has no
value for that metric now: it is left out. Everything else is refused, with the place named.

Options pick what is wanted from documents that say more (`drivers.codecs.json_paths`).
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import from_json

from collectors.models import INT_MAX, INT_MIN
from drivers.codecs.config import CodecConfig
from drivers.codecs.json_paths import MISSING, find, parse_path
from drivers.codecs.model import EXCERPT_LENGTH, Decoded, excerpt

if TYPE_CHECKING:
    from drivers.codecs.json_paths import Path
    from drivers.codecs.model import Codec

DEPTH_MAX = 16
"""Objects within objects. Sensors need two or three; a bound keeps names, and the time to build them, short."""

READINGS_MAX = 10_000
VALUES_MAX = 100_000
"""In one frame or message. So many readings are decoded and kept in 0.2 to 0.4 s; 4 MiB of JSON could hold fifty times
as many."""

Values = dict[str, bool | int | float | str]


class _Reader:
    """Reads documents as a configuration says.

    Args:
        config: The options.
    """

    def __init__(self, config: JsonConfig) -> None:
        self._ignored = tuple(prefix.encode() for prefix in config.ignore)
        self._root = parse_path(config.root) if config.root is not None else ()
        self._picked = {name: parse_path(path) for name, path in config.values.items()}
        self._tags = {name: parse_path(path) for name, path in config.tags.items()}
        self._time = parse_path(config.time) if config.time is not None else None
        self._time_scale = {"s": 1.0, "ms": 0.001, "us": 1e-6}[config.time_unit]
        self._left_out = frozenset(config.leave_out)
        self._lists = config.lists
        self._skips_missing = config.missing == "skip"
        self._units = config.units

    def decode(self, raw: bytes) -> list[Decoded]:
        """The readings in a JSON text (UTF-8).

        Raises:
            ValueError: It is not JSON, or says something that is no reading. The message says what and where.
        """
        if self._ignored and raw.startswith(self._ignored):
            return []
        try:
            document = from_json(raw, allow_inf_nan=False, cache_strings="keys")
        except ValueError as error:
            raise ValueError(f"not JSON: {error}: {excerpt(raw)}") from None
        try:
            readings = self._readings(document)
            _check_size(readings)
        except ValueError as error:
            raise ValueError(f"{error}: {excerpt(raw)}") from None
        return readings

    def _readings(self, document: Any) -> list[Decoded]:
        found = find(document, self._root) if self._root else document
        if found is MISSING:
            if self._skips_missing:
                return []
            raise ValueError("there is nothing at the root that is configured")
        if not isinstance(found, list):
            reading = self._one(found, "", document)
            return [] if reading is None else [reading]
        if not found:
            raise ValueError("an empty array: there must be at least one reading")
        if len(found) > READINGS_MAX:
            raise ValueError(
                f"an array of {len(found)} readings: one message may hold {READINGS_MAX} at most"
            )
        readings = [self._one(item, f"[{index}]", document) for index, item in enumerate(found)]
        return [reading for reading in readings if reading is not None]

    def _one(self, found: Any, where: str, document: Any) -> Decoded | None:
        """The reading that one object is; `where` is its place in the payload, empty for the whole."""
        place = f"{where}: " if where else ""
        if not isinstance(found, dict):
            hint = "" if isinstance(found, list | dict) else "; for plain values choose the codec plain"
            raise ValueError(
                f'{place}{_called(found)} is no reading: it must be an object such as {{"t": 21.5}}{hint}'
            )
        values: Values = {}
        if self._picked:
            self._pick(found, place, values)
        else:
            self._flatten(found, "", place, 1, values)
        if not values:
            if self._skips_missing:
                return None
            raise ValueError(
                f"{place}none of the values that are picked is there"
                if self._picked
                else f"{place}the object has no values"
            )
        units = self._units and {name: unit for name, unit in self._units.items() if name in values}
        if not self._tags and self._time is None:
            return Decoded(values, units=units) if units else Decoded(values)
        return Decoded(
            values, t=self._t(found, document), units=units or {}, tags=self._tagged(found, document)
        )

    def _pick(self, found: dict[str, Any], place: str, values: Values) -> None:
        for name, path in self._picked.items():
            value = find(found, path)
            if value is MISSING or value is None:
                continue
            problem = _problem(value)
            if problem:
                raise ValueError(f"{place}{_shown(name)}: {problem}")
            values[name] = value

    def _tagged(self, found: dict[str, Any], document: Any) -> dict[str, str]:
        tags = {}
        for name, path in self._tags.items():
            value = _either(found, document, path)
            if isinstance(value, str):
                tags[name] = value
            elif isinstance(value, int | float):
                tags[name] = str(value).lower()  # true and false as JSON has them
        return tags

    def _t(self, found: dict[str, Any], document: Any) -> float | None:
        """When it was measured, if it says so."""
        if self._time is None:
            return None
        said = _either(found, document, self._time)
        if said is MISSING or said is None:
            return None
        if isinstance(said, str):
            return _moment(said)
        if isinstance(said, bool) or not isinstance(said, int | float) or not math.isfinite(said):
            raise ValueError(f"the time is {_called(said)}: it must be a number, or a text of ISO 8601")
        return float(said) * self._time_scale

    def _flatten(self, document: dict[str, Any], prefix: str, place: str, depth: int, values: Values) -> None:
        for key, value in document.items():
            name = prefix + key
            if not key:
                raise ValueError(f"{place}a name is empty{f' in {_shown(prefix[:-1])}' if prefix else ''}")
            if self._left_out and name in self._left_out:
                continue
            self._take(name, value, place, depth, values)

    def _take(self, name: str, value: Any, place: str, depth: int, values: Values) -> None:
        if isinstance(value, list) and self._lists != "refuse":
            if self._lists == "leave_out":
                return
            value = {str(index): item for index, item in enumerate(value)}
        if isinstance(value, dict):
            if depth == DEPTH_MAX:
                raise ValueError(f"{place}{_shown(name)}: objects are nested more than {DEPTH_MAX} deep")
            self._flatten(value, f"{name}.", place, depth + 1, values)
            return
        if value is None:
            return
        if name in values:
            raise ValueError(f"{place}two values are named {_shown(name)}")
        problem = _problem(value)
        if problem:
            raise ValueError(f"{place}{_shown(name)}: {problem}")
        values[name] = value


def _check_size(readings: list[Decoded]) -> None:
    count = sum(len(reading.values) for reading in readings)
    if count > VALUES_MAX:
        raise ValueError(f"{count} values: one message may hold {VALUES_MAX} at most")


def _either(found: dict[str, Any], document: Any, path: Path) -> Any:
    """What is at a path in the reading itself, or else in the whole document."""
    value = find(found, path)
    return find(document, path) if value is MISSING else value


def _moment(text: str) -> float:
    """The seconds since 1970 that a text of ISO 8601 says."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"the time {_shown(text)} is no ISO 8601") from None
    if moment.tzinfo is None:
        raise ValueError(
            f"the time {_shown(text)} says no zone: it could be any; leave out `time` in the options"
        )
    return moment.timestamp()


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


Name = Annotated[str, Field(min_length=1)]


def _a_path(text: str) -> str:
    parse_path(text)
    return text


JsonPath = Annotated[str, AfterValidator(_a_path)]


class JsonConfig(CodecConfig):
    """JSON."""

    summary: ClassVar[str] = (
        "JSON: an object is a reading, an array of objects several; or what is picked from it"
    )
    example: ClassVar[str] = 'codec = { type = "json", values = { power = "ENERGY.Power" } }'

    refuses_half: ClassVar[bool] = True

    type: Literal["json"] = "json"
    values: Annotated[dict[Name, JsonPath], Field(max_length=1000)] = Field(default_factory=dict)
    """Which values to pick, by metric: paths into the document. Unset, all of it is taken."""
    missing: Literal["refuse", "skip"] = "refuse"
    """What a message is that has no value, none of `values`, or nothing at `root`: garbage, or no reading."""
    root: JsonPath | None = None
    """Where the reading, or the array of readings, is in the document; paths of `values` begin there."""
    leave_out: Annotated[list[Name], Field(max_length=1000)] = Field(default_factory=list)
    """Values and objects that are not taken, by their names such as `Wifi.SSId`, where all is taken."""
    lists: Literal["refuse", "number", "leave_out"] = "refuse"
    """What an array within an object is: nothing that can be a value; values named by their places, `Power.0`; or left out."""
    time: JsonPath | None = None
    """Where it says when it was measured: ISO 8601 with a zone, or a number since 1970. In the reading, else in the document."""
    time_unit: Literal["s", "ms", "us"] = "s"
    """What such a number counts."""
    tags: Annotated[dict[Name, JsonPath], Field(max_length=100)] = Field(default_factory=dict)
    """Tags of the reading, by paths: in the reading, else in the document."""
    units: dict[str, str] = Field(default_factory=dict)
    """Unit of a metric, by RFC 8428's registry where it has one."""
    ignore: Annotated[list[Name], Field(max_length=100)] = Field(default_factory=list)
    """Frames that begin with one of these say no reading: banners."""

    @model_validator(mode="after")
    def _one_way(self) -> JsonConfig:
        if self.values and (self.leave_out or self.lists != "refuse"):
            raise ValueError(
                "`leave_out` and `lists` are about taking all; with `values` only these are taken"
            )
        return self

    def codec(self) -> Codec:
        """The function that decodes."""
        return _Reader(self).decode
