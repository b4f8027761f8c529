"""InfluxDB's line protocol (v2): a line for each reading, its values as fields. Pure.

    readings,device=greenhouse-3,source=soil,site=north temperature=21.4,ok=t,state="on" 1790000000500000017

A point overwrites another of the same measurement, tags and timestamp. So that two readings of one source never are one point, tags
hold device and source, and the timestamp is the reading's in microseconds, followed by the last three digits of its
sequence number: only readings a thousand apart that were measured in the same microsecond could meet. A resend is the
same points again. Units, quality and where a time comes from have no place here; the tags of a reading have.

Every number is a float (an integer field would refuse the first value that has a fraction); an integer that no float holds stands
beside it as a text, `<metric>_exact`. Fields whose value is a text or a truth value keep their kind.

https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from agent.sync.senml import NotEncodable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.sync.batches import Record

CONTENT_TYPE: Final = "text/plain; charset=utf-8"
MEASUREMENT: Final = "readings"
_KEY: Final = str.maketrans(
    {",": r"\,", "=": r"\=", " ": r"\ ", "\\": "\u29f5", "\n": "\u2424", "\r": "\u240d"}
)
"""In names and tags: what can be escaped is; what cannot be is replaced by its picture."""
_TEXT: Final = str.maketrans({'"': r"\"", "\\": r"\\"})
_TEXT_BYTES_MAX: Final = 64 * 1024
"""InfluxDB's longest string field."""
_RESERVED_TAGS: Final = frozenset({"device", "source"})
_NS_MAX: Final = 2**63 - 1
_RESERVED: Final = frozenset({"time", "_time", "_field", "_measurement", "_value"})
"""Names that mean something else to InfluxDB: they get a `_` at their end."""


def encode(device_id: str, store_id: str, records: Sequence[Record]) -> bytes:  # noqa: ARG001 (a format's signature)
    """The lines of these records.

    Raises:
        NotEncodable: A document is not one of a reading (names its sequence number).
    """
    heads: dict[Any, str] = {}
    lines = []
    for record in records:
        try:
            lines.append(_line(device_id, record, heads).encode())
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise NotEncodable(f"record {record.seq} is not a reading: {error!r}") from error
    return b"\n".join(lines)


def _line(device_id: str, record: Record, heads: dict[Any, str]) -> str:
    """One reading; `heads` remembers how the lines of each series begin."""
    document = record.document
    tags = document.get("tags")
    series = (document["source"], tuple(sorted(tags.items())) if tags else ())
    head = heads.get(series)
    if head is None:
        head = heads[series] = _head(device_id, *series)
    values = document["values"]
    fields = [f"{name}={_value(value)}" for name, value in zip(_keys(values), values.values(), strict=True)]
    if not fields:
        raise ValueError("it has no values")
    exact = {
        f"{name}_exact": str(value)
        for name, value in values.items()
        if type(value) is int and float(value) != value and f"{name}_exact" not in values
    }
    fields += [f'{name}="{value}"' for name, value in zip(_keys(exact), exact.values(), strict=True)]
    measured = timestamp_ns(document["t"], record.seq)
    if not -_NS_MAX < measured < _NS_MAX:
        raise ValueError(f"its time, {document['t']!r}, is none that InfluxDB can hold")
    return f"{head} {','.join(fields)} {measured}"


def timestamp_ns(t: float, seq: int) -> int:
    """When a reading was measured, to the microsecond, and which it is."""
    return round(t * 1e6) * 1000 + seq % 1000


def _head(device_id: str, source: str, tags: Sequence[tuple[str, str]]) -> str:
    pairs = [("device", device_id), ("source", source)]
    pairs += [(f"tag_{name}" if name in _RESERVED_TAGS else name, value) for name, value in tags]
    pairs = sorted((name, value) for name, value in pairs if name and value)
    names = _keys(name for name, _ in pairs)
    return f"{MEASUREMENT}," + ",".join(
        f"{name}={value.translate(_KEY)}" for name, (_, value) in zip(names, pairs, strict=True)
    )


def _keys(names: Iterable[str]) -> list[str]:
    """The names of fields or tags, as InfluxDB takes them: no two are the same."""
    found = [f"{name}_" if name in _RESERVED else name.translate(_KEY) for name in names]
    if len(set(found)) == len(found):
        return found
    seen: set[str] = set()
    for place, name in enumerate(found):
        while name in seen:
            name += "_"  # noqa: PLW2901 (until it is free)
        seen.add(name)
        found[place] = name
    return found


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, (int, float)) and isfinite(value):
        return repr(float(value))
    if isinstance(value, str):
        if len(value.encode()) > _TEXT_BYTES_MAX:
            raise ValueError(f"a text of more than {_TEXT_BYTES_MAX} bytes, which InfluxDB does not take")
        return f'"{value.translate(_TEXT)}"'
    raise ValueError(f"{value!r} is no finite number, truth value or text")
