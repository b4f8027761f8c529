"""ThingsBoard telemetry: a JSON array of `{"ts": <ms>, "values": {...}}`. Stateless but for the milliseconds it has used.

    [{"ts":1790000000500,"values":{"soil.temperature":21.4,"soil.ok":true}}]

ThingsBoard keeps one value for each key and millisecond of a device, and overwrites what was there. So keys hold the
source, and a reading whose millisecond another one of its source has is moved to the next free one. Which
milliseconds were given is remembered for a while, for each source and number, so that a resend that is cut anew is
the same as before; what a restart forgets can only meet what was sent just before it.

Of a number with more than 16 decimals, and of a whole one beyond 64 bits that has no decimal point, ThingsBoard makes a text (or refuses
the message, where its `json.type_cast_enabled` is off). So floats are written with a point and at most 16 decimals; only of one that would lose
its ninth digit by that, below a hundred-millionth, there are all.

https://thingsboard.io/docs/reference/mqtt-api/#telemetry-upload-api
"""

from __future__ import annotations

from collections import OrderedDict
from math import isfinite
from threading import Lock
from typing import TYPE_CHECKING, Final

from pydantic_core import PydanticSerializationError, to_json

from agent.sync.senml import NotEncodable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.sync.batches import Record

CONTENT_TYPE: Final = "application/json"
_REMEMBERED_MAX: Final = 20_000
_DECIMALS_MAX: Final = 16
_WHOLE_MIN: Final = 1e16
"""From here on no float has decimals, and Python writes it with an exponent."""
_ERROR_MAX: Final = 1e-9
_MS_MAX: Final = 2**63 - 1


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
            except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
                raise NotEncodable(f"record {record.seq} is not a reading: {error!r}") from error
        return f"[{','.join(telemetry)}]".encode()

    def _telemetry(self, record: Record) -> str:
        source, values = record.document["source"], record.document["values"]
        if not values:
            raise ValueError("it has no values")
        ts = self._millisecond(source.partition(".")[0], round(record.document["t"] * 1000), record.seq)
        written = ",".join([f"{_text(f'{source}.{name}')}:{_value(value)}" for name, value in values.items()])
        return f'{{"ts":{ts},"values":{{{written}}}}}'

    def _millisecond(self, source: str, ts: int, seq: int) -> int:
        """The first millisecond from the measured one on that no other reading of the source has.

        Of a source up to its first point: the keys of `a` and of `a.b` may be the same.
        """
        if not -_MS_MAX < ts < _MS_MAX:
            raise ValueError("its time is none that ThingsBoard can hold")
        with self._lock:
            while self._given.setdefault((source, ts), seq) != seq:
                ts += 1
            self._given.move_to_end((source, ts))
            while len(self._given) > _REMEMBERED_MAX:
                self._given.popitem(last=False)
        return ts


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and isfinite(value):
        return _float(value)
    if isinstance(value, str):
        return _text(value)
    raise ValueError(f"{value!r} is no finite number, truth value or text")


def _float(value: float) -> str:
    if abs(value) >= _WHOLE_MIN:
        return f"{value:.1f}"
    rounded = round(value, _DECIMALS_MAX)
    return repr(rounded if abs(rounded - value) <= _ERROR_MAX * abs(value) else value)


def _text(text: str) -> str:
    try:
        return to_json(text).decode()
    except PydanticSerializationError as error:
        raise ValueError(f"a text that JSON cannot hold: {error}") from error
