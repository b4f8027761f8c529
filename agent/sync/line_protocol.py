"""InfluxDB's line protocol (v2): a line for each reading, its values as fields. Pure.

    readings,device=greenhouse-3,source=soil,site=north temperature=21.4,ok=t,state="on" 1790000000500000017

A point overwrites another of the same measurement, tags and timestamp. So that two readings of one source never are one point, tags
hold device and source, and the timestamp is the reading's in microseconds, followed by the last three digits of its
sequence number: only readings a thousand apart that were measured in the same microsecond could meet. A resend is the
same points again. Units, quality and where a time comes from have no place here; the tags of a reading have.

Every number is a float (an integer field would refuse the first value that has a fraction). Fields whose value is a
text or a truth value keep their kind.

https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from agent.sync.senml import NotEncodable

if TYPE_CHECKING:
    from collections.abc import Sequence

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
            lines.append(_line(device_id, record, heads))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise NotEncodable(f"record {record.seq} is not a reading: {error!r}") from error
    return "\n".join(lines).encode()


def _line(device_id: str, record: Record, heads: dict[Any, str]) -> str:
    """One reading; `heads` remembers how the lines of each series begin."""
    document = record.document
    tags = document.get("tags")
    series = (document["source"], tuple(sorted(tags.items())) if tags else ())
    head = heads.get(series)
    if head is None:
        head = heads[series] = _head(device_id, *series)
    fields = ",".join([f"{_key(name)}={_value(value)}" for name, value in document["values"].items()])
    if not fields:
        raise ValueError("it has no values")
    return f"{head} {fields} {timestamp_ns(document['t'], record.seq)}"


def timestamp_ns(t: float, seq: int) -> int:
    """When a reading was measured, to the microsecond, and which it is."""
    return round(t * 1e6) * 1000 + seq % 1000


def _head(device_id: str, source: str, tags: Sequence[tuple[str, str]]) -> str:
    pairs = [("device", device_id), ("source", source)]
    pairs += [(f"tag_{name}" if name in _RESERVED_TAGS else name, value) for name, value in tags]
    return f"{MEASUREMENT}," + ",".join(
        f"{_key(name)}={_key(value)}" for name, value in sorted(pairs) if name and value
    )


def _key(name: str) -> str:
    """The name of a field or a tag, or a tag's value."""
    return f"{name}_" if name in _RESERVED else name.translate(_KEY)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, (int, float)) and isfinite(value):
        return repr(float(value))
    if isinstance(value, str):
        return f'"{value.encode()[:_TEXT_BYTES_MAX].decode("utf-8", "ignore").translate(_TEXT)}"'
    raise ValueError(f"{value!r} is no finite number, truth value or text")
