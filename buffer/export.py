"""Records as lines of JSON, or as rows of CSV: with their key, and their time in ISO 8601.

JSON lines: `{"device_id":...,"store_id":...,"seq":...,"time":...,"document":{...}}`, the document as it is stored.

CSV: the same four columns, then one for each field that any of the records has, those of an object
(`values`, `units`, `tags`, `quality`) as `values.temperature` and so on, which is how queries name them,
too, as RFC 4180 has it. The columns are found by going through the records once before the rows are written, so that each row
has all columns, always in the same order, and no metric need be declared or is ever left out; the price
is a second reading. Memory does not grow with the records.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import to_json

from buffer.identity import Identity
from buffer.inspection import Inspection
from buffer.selection import Found, Query, criteria_of
from buffer.summary import TIME

COLUMNS_MAX: Final = 1_000
_KEY: Final = ("device_id", "store_id", "seq", "time")
_ORDER: Final = ("source", "values", "units", "quality", "tags", "lane", "clock", "boot", "up", "origin")
_ROWS_A_PIECE: Final = 200


class TooManyColumns(ValueError):
    """The records have more fields than a table should have columns."""


def time_text(seconds: object) -> str | None:
    """A time of measurement, in UTC, as ISO 8601 has it; None when it is no time."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):  # before the year 1, after 9999
        return None
    return moment.isoformat().replace("+00:00", "Z")


class Selected:
    """Readings to export. Each iteration goes through them anew, ending with the same one."""

    def __init__(
        self,
        inspection: Inspection,
        *,
        source: str | None = None,
        since_s: float | None = None,
        until_s: float | None = None,
        undelivered: bool = False,
    ) -> None:
        """Say which.

        Args:
            inspection: The buffer.
            source: Of this source only.
            since_s: Measured then or later: seconds since 1970.
            until_s: Measured before.
            undelivered: Only those that not every consumer has acknowledged.
        """
        self._inspection = inspection
        self._query = Query(inspection.readings, criteria_of(source, since_s, until_s))
        self._undelivered = undelivered

    def __iter__(self) -> Iterator[Found]:
        """The records.

        Raises:
            DiskFault: The disk cannot be read.
        """
        if not self._undelivered:
            return self._query.stream()
        inspection = self._inspection
        found = self._query.stream(inspection.lowest_mark + 1)
        return (record for record in found if inspection.undelivered(*record))


def to_jsonl(records: Iterable[Found], identity_of: Callable[[int], Identity | None]) -> Iterator[bytes]:
    """Records as lines of JSON.

    Args:
        records: Which.
        identity_of: Whose record it is, by its id.

    Raises:
        DiskFault: The disk cannot be read.
    """
    for record_id, document in records:
        line = dict(zip(_KEY, _key(record_id, document, identity_of), strict=True))
        line["document"] = document
        try:
            yield to_json(line) + b"\n"
        except ValueError:  # half of a surrogate pair
            yield json.dumps(line, separators=(",", ":")).encode() + b"\n"


def to_csv(records: Iterable[Found], identity_of: Callable[[int], Identity | None]) -> Iterator[bytes]:
    """Records as rows of CSV, several a piece, the header first; goes through them twice.

    Args:
        records: Which; the second iteration must give no field that the first one did not.
        identity_of: Whose record it is, by its id.

    Raises:
        TooManyColumns: They have more than a thousand fields.
        DiskFault: The disk cannot be read.
    """
    columns = csv_columns(records)
    names = [f"document.{column}" if column in _KEY else column for column in columns]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*_KEY, *names])
    for at, (record_id, document) in enumerate(records, start=1):
        fields = _fields(document)
        cells = map(_cell, [*_key(record_id, document, identity_of), *map(fields.get, columns)])
        writer.writerow(cells)
        if at % _ROWS_A_PIECE == 0:
            yield _taken(text)
    yield _taken(text)


def _taken(text: io.StringIO) -> bytes:
    piece = text.getvalue().encode(errors="backslashreplace")
    text.seek(0)
    text.truncate()
    return piece


def csv_columns(records: Iterable[Found]) -> list[str]:
    """The fields that any of the records has, in an order that depends on nothing else.

    Raises:
        TooManyColumns: They have more than a thousand.
        DiskFault: The disk cannot be read.
    """
    columns: set[str] = set()
    shapes: set[tuple[str, ...]] = set()
    for _, document in records:
        shape = tuple(_fields(document))
        if shape not in shapes:  # most have one of a few
            columns.update(shape)
            if len(columns) > COLUMNS_MAX:
                raise TooManyColumns(f"these readings have more than {COLUMNS_MAX:,} fields; use JSON lines")
            if len(shapes) < COLUMNS_MAX:
                shapes.add(shape)
    return sorted(columns, key=_place)


def _place(column: str) -> tuple[int, str]:
    head = column.partition(".")[0]
    return (_ORDER.index(head) if head in _ORDER else len(_ORDER), column)


def _fields(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of a document, those of its objects by path; its time stands in a column of its own."""
    fields: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            for inner, item in value.items():
                fields[f"{key}.{inner}"] = item
        elif key != TIME or time_text(value) is None:
            fields[key] = value
    return fields


def _key(
    record_id: int, document: dict[str, Any], identity_of: Callable[[int], Identity | None]
) -> list[Any]:
    identity = identity_of(record_id)
    return [
        identity.device_id if identity else None,
        identity.store_id if identity else None,
        record_id,
        time_text(document.get(TIME)),
    ]


def _cell(value: Any) -> Any:
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
