"""SenML JSON (RFC 8428): what a batch looks like on the wire. Pure: no I/O, no clock.

A pack is a JSON array of records, one a metric. The first record of each reading carries `bn`
(`device:source/`), `bt` (when it was measured) and `seq`, so that each reading stands on its own and
nothing is assumed about contiguity:

    [{"bn":"greenhouse-3:soil/","bt":1790000000.5,"seq":17,"store":"9f..","n":"temperature","u":"Cel","v":21.4},
     {"n":"moisture","u":"%RH","v":55},
     {"bn":"greenhouse-3:soil/","bt":1790000001.5,"seq":18,"n":"temperature","u":"Cel","v":21.4}]

What SenML has no label for travels in labels of our own. Receivers ignore those they do not know
(section 4.4; none of ours ends in `_`, which would forbid that). They stand in the first record of a reading:

- `store`: the buffer's identity; in the pack's first record only
- `seq`: the reading's number in it; it also marks where a reading begins
- `boot`, `up`, `clock`, `t_error`, `t_sensor`, `t_arrived`, `lane`, `tags`, `quality`, `indicators`,
  `origin`: as in the document of the reading, when present
- `units`: units of metrics that have no value in this reading

and three say exactly what had to be bent to be legal SenML, and are absent from ordinary packs:

- `device`, `source`, `metric`: names with characters that section 4.5.1 forbids (there escaped)
- `at`: a time before 1978-07-04; as a plain SenML time it would mean 'so long before now' (section 4.5.3)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import PydanticSerializationError, from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.sync.batches import Record

CONTENT_TYPE = "application/senml+json"
"""The registered media type."""

ABSOLUTE_TIME_MIN = 2**28
"""Smaller SenML times are relative to now (RFC 8428, section 4.5.3)."""

SEQ_MAX = 2**63 - 1
"""What every database on the way can hold."""

_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9:./_]*")
_METRIC = re.compile(r"[-A-Za-z0-9:./_]+")
PART = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._]*")
"""A device or source that can stand in `bn` and be cut out of it again: no `:` and no `/`."""
_INSIDE_PART = re.compile(r"[-A-Za-z0-9._]+")

_AS_STORED = (
    "tags",
    "quality",
    "indicators",
    "clock",
    "boot",
    "up",
    "t_error",
    "t_sensor",
    "t_arrived",
    "lane",
    "origin",
)
"""In the order in which they are stored, which `agent.sync.senml_text` keeps."""
_STORED_AS_IT_IS = frozenset(_AS_STORED)
_KNOWN = frozenset({"source", "t", "values", "units", *_AS_STORED})


class NotSenML(ValueError):
    """What was received is not a pack of readings; the text says what is wrong, and where; `in_part`: with one of them."""

    def __init__(self, message: str, *, in_part: bool = False) -> None:
        super().__init__(message)
        self.in_part = in_part


class NotEncodable(ValueError):
    """A stored document is not one of a reading."""


class ReceivedReading(NamedTuple):
    """One reading with its key."""

    device_id: str
    store_id: str
    seq: int
    document: dict[str, Any]
    """As `Reading.to_document` gave it."""


def _escaped(name: str, kept: re.Pattern[str]) -> str:
    """The name with each byte but those kept as `_` and two hexadecimal digits."""
    return "".join(
        chr(byte) if byte != ord("_") and kept.fullmatch(chr(byte)) else f"_{byte:02x}"
        for byte in name.encode("utf-8")
    )


def encode(device_id: str, store_id: str, records: Sequence[Record]) -> bytes:
    """One pack of these records.

    Raises:
        NotEncodable: A document is not one of a reading (names its sequence number).
    """
    device = device_id if PART.fullmatch(device_id) else f"x{_escaped(device_id, _INSIDE_PART)}"
    sources: dict[str, tuple[str, str | None]] = {}
    metrics: dict[str, str] = {}
    pack: list[dict[str, Any]] = []
    for record in records:
        try:
            document = record.document
            source = document["source"]
            named = sources.get(source)
            if named is None:
                plain = PART.fullmatch(source) is not None
                named = (
                    f"{device}:{source if plain else _escaped(source, _INSIDE_PART)}/",
                    None if plain else source,
                )
                sources[source] = named
            head: dict[str, Any] = {"bn": named[0], "bt": document["t"], "seq": record.seq}
            if not pack:
                head["store"] = store_id
                if device != device_id:
                    head["device"] = device_id
            if named[1] is not None:
                head["source"] = named[1]
            _append(pack, head, document, metrics)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise NotEncodable(f"record {record.seq} is not a reading: {error!r}") from error
    try:
        return to_json(pack)
    except PydanticSerializationError as error:
        raise NotEncodable(f"a record holds what JSON cannot: {error}") from error


def _append(
    pack: list[dict[str, Any]], head: dict[str, Any], document: dict[str, Any], metrics: dict[str, str]
) -> None:
    """The records of one reading; `metrics` remembers the legal form of each name."""
    if head["bt"] < ABSOLUTE_TIME_MIN:
        head["at"], head["bt"] = head["bt"], 0
    values = document["values"]
    if not values:
        raise ValueError("it has no values")
    if len(document) > 3:  # noqa: PLR2004 (source, t and values are always there)
        _add_labels(head, document)
    units = document.get("units")
    record = head
    for name, value in values.items():
        legal = metrics.get(name)
        if legal is None:
            legal = metrics[name] = name if _METRIC.fullmatch(name) else _escaped(name, _METRIC)
        record["n"] = legal
        if legal is not name and legal != name:
            record["metric"] = name
        if units and name in units:
            record["u"] = units[name]
        kind = type(value)
        record["v" if kind is float or kind is int else _label(value)] = value
        pack.append(record)
        record = {}


def _add_labels(head: dict[str, Any], document: dict[str, Any]) -> None:
    """What SenML has no label for, in the first record of the reading."""
    for label in _AS_STORED:
        if label in document:
            head[label] = document[label]
    if not document.keys() <= _KNOWN:
        raise ValueError(f"unknown fields {sorted(document.keys() - _KNOWN)}")
    units, values = document.get("units"), document["values"]
    if units and not units.keys() <= values.keys():
        head["units"] = {name: unit for name, unit in units.items() if name not in values}


def _label(value: object) -> str:
    if isinstance(value, bool):
        return "vb"
    if isinstance(value, str):
        return "vs"
    raise ValueError(f"{value!r} is no number, truth value or text")


def decode(payload: bytes) -> list[ReceivedReading]:
    """The readings in a pack; each is checked to be one, whatever was sent.

    Raises:
        NotSenML: The payload is not a pack of readings from an Outstation.
    """
    # Only a receiver checks documents: a device that sends has no use for what checks them.
    from agent.sync.documents import first_fault

    pack, store_id = _opened(payload)
    first = pack[0]
    readings: list[ReceivedReading] = []
    values: dict[str, Any] = {}
    units: dict[str, str] = {}
    for place, record in enumerate(pack):
        try:
            if "seq" in record:
                reading, values, units = _begin(record, first, store_id)
                readings.append(reading)
            # The usual record in place: the call of a function would be a third of its cost.
            if "v" in record and "metric" not in record and record["n"] not in values:
                values[record["n"]] = record["v"]
                if "u" in record:
                    units[record["n"]] = record["u"]
            else:
                _add(record, values, units)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise NotSenML(f"record {place}: {_because(error)}", in_part=True) from error
    for reading in readings:
        if not reading.document["units"]:
            del reading.document["units"]
    fault = first_fault([reading.document for reading in readings])
    if fault is not None:
        place, why = fault
        raise NotSenML(f"reading {readings[place].seq}: {why}", in_part=True)
    return readings


def _opened(payload: bytes) -> tuple[list[Any], str]:
    """The records of a pack and the store they are from; the first record is sure to begin a reading."""
    try:
        pack = from_json(payload, allow_inf_nan=False)
    except ValueError as error:
        raise NotSenML(f"not JSON: {error}") from error
    if not isinstance(pack, list) or not pack:
        raise NotSenML("not a JSON array with at least one record")
    first = pack[0]
    store_id = first.get("store") if isinstance(first, dict) else None
    if not isinstance(store_id, str) or not store_id:
        raise NotSenML("the first record has no `store`: no key to tell a resend by")
    if "seq" not in first:
        raise NotSenML("the first record has no `seq`")
    return pack, store_id


def _because(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no label {error.args[0]!r}"
    return str(error) if type(error) is ValueError else f"not as it should be ({error})"


def _begin(
    record: dict[str, Any], first: dict[str, Any], store_id: str
) -> tuple[ReceivedReading, dict[str, Any], dict[str, str]]:
    """The reading that begins with this record, and its values and units, still to be filled."""
    device, found, rest = record["bn"].partition(":")
    if not found or not rest.endswith("/"):
        raise ValueError("`bn` is not device:source/")
    if device != first["bn"].partition(":")[0]:
        raise ValueError("readings of two devices in one pack")
    device = first.get("device", device)
    seq = record["seq"]
    if type(seq) is not int or not 0 <= seq <= SEQ_MAX:
        raise ValueError("`seq` is not a sequence number")
    if not isinstance(device, str):
        raise TypeError("`device` is not a text")
    measured = record["at"] if "at" in record else record["bt"]
    if type(measured) is not float and type(measured) is not int:
        raise TypeError("the time is not a number")
    units: dict[str, str] = dict(record["units"]) if "units" in record else {}
    values: dict[str, Any] = {}
    document = {
        "source": record.get("source", rest[:-1]),
        "t": measured,
        "values": values,
    }
    document |= {label: value for label, value in record.items() if label in _STORED_AS_IT_IS}
    document["units"] = units
    return ReceivedReading(device, store_id, seq, document), values, units


def _add(record: dict[str, Any], values: dict[str, Any], units: dict[str, str]) -> None:
    name = record["metric"] if "metric" in record else record["n"]
    if name in values:
        raise ValueError(f"metric {name!r} occurs twice in one reading")
    if "v" in record:
        values[name] = record["v"]
    elif "vb" in record:
        values[name] = record["vb"]
    else:
        values[name] = record["vs"]
    if "u" in record:
        units[name] = record["u"]
