"""SenML JSON (RFC 8428): a pack of records becomes readings, one for each time and base name.

    [{"bn": "urn:dev:mac:0024befffe804ff1/", "bt": 1790000000, "bu": "Cel", "n": "in", "v": 21.5},
     {"n": "out", "v": 4.0}, {"t": 60, "n": "in", "v": 21.6}]

gives `in` and `out` at the base time and `in` a minute later, all in `Cel`, with the tag `base_name`: base name and metric
together are the record's name (section 4.5.1).

- Base values hold for their record and all that follow until another one replaces them (4.1, 4.6). Sums: `t` is added to `bt`,
  `v` to `bv`, `s` to `bs`; `n` is put behind `bn`.
- A time below 2^28 is relative to now, which is the arrival; 0, or none, is now (4.5.3).
- A record without `n` is named by its base name alone: its metric is `value`.
- `v`, `vb` and `vs` are numbers, truth values and texts; `vd` stays the text that it is (base64). A sum `s` becomes the metric
  NAME.sum. One of them must be there (4.2).
- A version above 10 (4.4), or an unknown label that ends in `_` (must be understood, 4.4), refuses the pack.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from pydantic_core import from_json

from collectors.metadata_keys import UNNAMED
from collectors.models import INT_MAX, INT_MIN
from drivers.codecs.config import CodecConfig
from drivers.codecs.json import READINGS_MAX, VALUES_MAX
from drivers.codecs.model import Decoded, excerpt

if TYPE_CHECKING:
    from drivers.codecs.model import Codec

BASE_NAME: Final = "base_name"
VERSION: Final = 10
ABSOLUTE_TIME_MIN: Final = 2**28
"""Smaller times are relative to now."""
_BASES: Final = {"bn": "", "bt": 0, "bu": "", "bv": None, "bs": None}
_VALUES: Final = ("v", "vb", "vs", "vd")
_TEXTS: Final = frozenset({"bn", "bu", "n", "u", "vs", "vd"})
_NUMBERS: Final = frozenset({"bt", "bv", "bs", "v", "s", "t", "ut", "bver"})


@dataclass(slots=True)
class _Group:
    """Records of one time and base name."""

    key: tuple[str, int | float]
    values: dict[str, bool | int | float | str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)


def decode(raw: bytes) -> list[Decoded]:
    """The readings in a pack.

    Raises:
        ValueError: It is none. The message says what is wrong, and in which record.
    """
    try:
        pack = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}: {excerpt(raw)}") from None
    if not isinstance(pack, list) or not pack:
        raise ValueError(f"not a SenML pack, which is an array of records: {excerpt(raw)}")
    if len(pack) > VALUES_MAX:
        raise ValueError(f"{len(pack)} records: one message may hold {VALUES_MAX} at most")
    groups: dict[tuple[str, int | float], _Group] = {}
    found: list[_Group] = []
    bases: dict[str, Any] = dict(_BASES)
    for place, record in enumerate(pack):
        try:
            _add(record, bases, groups, found)
        except ValueError as error:
            raise ValueError(f"record {place}: {error}: {excerpt(raw)}") from None
    if len(found) > READINGS_MAX:
        raise ValueError(f"{len(found)} readings: one message may hold {READINGS_MAX} at most")
    return [_decoded(group) for group in found]


def _add(
    record: Any,
    bases: dict[str, Any],
    groups: dict[tuple[str, int | float], _Group],
    found: list[_Group],
) -> None:
    """Put what a record says into the group it belongs to; `bases` is what holds from here on."""
    if not isinstance(record, dict):
        raise ValueError("is no object")
    _check(record)
    for label in bases:
        if label in record:
            bases[label] = record[label]
    metric = record.get("n", "") or UNNAMED
    if not bases["bn"] and not record.get("n"):
        raise ValueError("has no name: neither `n` nor a base name `bn`")
    key = bases["bn"], _number(bases["bt"] + record.get("t", 0), "the time")
    said = _said(record, metric, bases)
    group = groups.get(key)
    if group is None or not said.keys().isdisjoint(group.values):
        # A name that comes a second time at the same time is another reading.
        group = groups[key] = _Group(key)
        found.append(group)
    group.values.update(said)
    unit = record.get("u", bases["bu"])
    if unit and metric in said:
        group.units[metric] = unit


def _check(record: dict[str, Any]) -> None:
    """Whether every label is one that may stand there, with a value of its kind."""
    for label, value in record.items():
        if label in _TEXTS:
            if not isinstance(value, str):
                raise ValueError(f"`{label}` must be a text")
        elif label in _NUMBERS:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"`{label}` must be a number")
            _number(value, f"`{label}`")
        elif label.endswith("_"):
            raise ValueError(f"`{label}` must be understood, and is not known here")
    if record.get("bver", VERSION) > VERSION:
        raise ValueError(f"SenML version {record['bver']} is not known here; {VERSION} is")
    if not isinstance(record.get("vb", False), bool):
        raise ValueError("`vb` must be true or false")


def _said(record: dict[str, Any], metric: str, bases: dict[str, Any]) -> dict[str, bool | int | float | str]:
    """The values of a record, its base values added."""
    labels = [label for label in _VALUES if label in record]
    if len(labels) > 1:
        raise ValueError(f"has more than one value: {', '.join(labels)}")
    said: dict[str, bool | int | float | str] = {}
    if labels == ["v"]:
        said[metric] = _number(record["v"] + (bases["bv"] or 0), "the value")
    elif labels:
        said[metric] = record[labels[0]]
    elif bases["bv"] is not None:
        said[metric] = bases["bv"]  # a base value alone: nothing is added to it
    if "s" in record or bases["bs"] is not None:
        said[f"{metric}.sum"] = _number(record.get("s", 0) + (bases["bs"] or 0), "the sum")
    if not said:
        raise ValueError("has no value: one of v, vb, vs, vd or s must be there")
    return said


def _number(number: float, what: str) -> float:
    """A number that every part behind us can hold."""
    if isinstance(number, int):
        if not INT_MIN <= number <= INT_MAX:
            raise ValueError(f"{what}: the integer does not fit 64 bits")
    elif not math.isfinite(number):
        raise ValueError(f"{what}: the number is too large for a 64-bit float")
    return number


def _decoded(group: _Group) -> Decoded:
    base_name, time = group.key
    tags = {BASE_NAME: base_name} if base_name else {}
    if time >= ABSOLUTE_TIME_MIN:
        return Decoded(group.values, t=float(time), units=group.units, tags=tags)
    return Decoded(group.values, offset_s=float(time), units=group.units, tags=tags)


class SenmlConfig(CodecConfig):
    """SenML JSON."""

    summary: ClassVar[str] = "SenML JSON (RFC 8428): a pack of records"
    example: ClassVar[str] = 'codec = "senml"'

    refuses_half: ClassVar[bool] = True

    type: Literal["senml"] = "senml"

    def codec(self) -> Codec:
        """The function that decodes."""
        return decode
