"""ThingsBoard telemetry: a JSON array of `{"ts": <ms>, "values": {...}}`. Stateless but for the milliseconds it has used.

    [{"ts":1790000000500,"values":{"soil.temperature":21.4,"soil.ok":true}}]

ThingsBoard keeps one value for each key and millisecond of a device, and overwrites what was there. So keys hold the
source, and a reading whose millisecond another one of its source has is moved to the next free one. Which
milliseconds were given is remembered for a while, for each source and number, so that a resend that is cut anew is
the same as before; what a restart forgets can only meet what was sent just before it.

https://thingsboard.io/docs/reference/mqtt-api/#telemetry-upload-api
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import PydanticSerializationError, to_json

from agent.sync.senml import NotEncodable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.sync.batches import Record

CONTENT_TYPE: Final = "application/json"
_REMEMBERED_MAX: Final = 20_000


class ThingsBoardFormat:
    """The encoder of one upstream. Thread-safe."""

    def __init__(self) -> None:
        self._given: OrderedDict[tuple[str, int], int] = OrderedDict()
        """Whose each millisecond of a source is."""
        self._lock = Lock()

    def __call__(self, device_id: str, store_id: str, records: Sequence[Record]) -> bytes:  # noqa: ARG002 (a format's signature)
        """The telemetry of these records.

        Raises:
            NotEncodable: A document is not one of a reading (names its sequence number).
        """
        telemetry = []
        for record in records:
            try:
                telemetry.append(self._telemetry(record))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise NotEncodable(f"record {record.seq} is not a reading: {error!r}") from error
        try:
            return to_json(telemetry)
        except PydanticSerializationError as error:
            raise NotEncodable(f"a record holds what JSON cannot: {error}") from error

    def _telemetry(self, record: Record) -> dict[str, Any]:
        source, values = record.document["source"], record.document["values"]
        if not values:
            raise ValueError("it has no values")
        return {
            "ts": self._millisecond(source, round(record.document["t"] * 1000), record.seq),
            "values": {f"{source}.{name}": _value(value) for name, value in values.items()},
        }

    def _millisecond(self, source: str, ts: int, seq: int) -> int:
        """The first millisecond from the measured one on that no other reading of the source has."""
        with self._lock:
            while self._given.setdefault((source, ts), seq) != seq:
                ts += 1
            self._given.move_to_end((source, ts))
            while len(self._given) > _REMEMBERED_MAX:
                self._given.popitem(last=False)
        return ts


def _value(value: object) -> object:
    if isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{value!r} is no number, truth value or text")
