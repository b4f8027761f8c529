"""What a dead letter is: something that could not be decoded, processed or delivered, with its reason and original bytes.

A dead letter is a JSON object in the buffer's table `dead_letters`. All have `t` (seconds UTC), `stage` and `reason`.
There are three kinds:

- A frame or message: `stage` is `framing`, `metadata`, or the id of the step that failed. `source`, `format`, `method`, `raw`
  (base64); with what its source and the clock said beside it, so that it can go the same way again as if it had just come:
  `tags`, `metric`, `indicators`, `retained`, `up` (CLOCK_BOOTTIME, ns), `boot`, `clock` (left out: synced), and `origin` where it
  can be redelivered.
- Readings that a step could not process which comes after one that holds back: `stage`, `pipeline`, `readings`.
- Readings that an upstream will never take: `stage` is `upstream`; `upstream`, `device_id`, `store_id`, and `readings` as pairs of
  seq and document.

`again` is the id of the dead letter that it came of, when that was taken again. While that one is there, too, taking it again was
cut short by a crash, and did not happen: the newer one does not count.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from pydantic_core import to_json

from collectors import metadata_keys as keys
from collectors.enums import ClockQuality
from collectors.models import CollectedData, Origin, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TABLE: Final = "dead_letters"
FRAMING: Final = "framing"
UPSTREAM: Final = "upstream"
_BESIDE: Final = {
    "tags": keys.TAGS,
    "metric": keys.METRIC,
    "indicators": keys.QUALITY,
    "retained": keys.RETAINED,
    "up": keys.UP_NS,
}
"""Of a frame or message: the letter's key, and that of its metadata."""


class UnreadableLetterError(ValueError):
    """A dead letter that is not one of this program, or of another version."""


def unprocessed(
    readings: Sequence[Reading],
    *,
    t: float,
    stage: str,
    pipeline_id: str,
    reason: str,
    again: int | None = None,
) -> bytes:
    """The dead letter of readings that a later step could not process, as JSON."""
    document: dict[str, Any] = {
        "t": round(t, 6),
        "stage": stage,
        "reason": reason,
        "pipeline": pipeline_id,
        "readings": [reading.to_document() for reading in readings],
    }
    return to_json(document if again is None else document | {"again": again})


def dead_letter(
    data: CollectedData, *, stage: str, reason: str, boot: int = 0, clock: ClockQuality = ClockQuality.SYNCED
) -> bytes:
    """The dead letter of a frame or message, as JSON.

    Args:
        data: The frame or message.
        stage: Where it failed.
        reason: Why.
        boot: In which boot it came; 0: unknown.
        clock: How good the wall clock was then.
    """
    document: dict[str, Any] = {
        "t": round(data.timestamp.timestamp(), 6),
        "stage": stage,
        "reason": reason,
        "source": data.source_id,
        "format": data.data_format,
        "method": data.collection_method,
        "raw": base64.b64encode(data.raw_data).decode("ascii"),
    }
    for name, key in _BESIDE.items():
        if value := data.metadata.get(key):
            document[name] = value
    if boot:
        document["boot"] = boot
    if clock is not ClockQuality.SYNCED:
        document["clock"] = clock.value
    if (again := data.metadata.get(keys.LETTER)) is not None:
        document["again"] = again
    origin = data.metadata.get(keys.ORIGIN)
    if origin is not None:
        document["origin"] = [origin.client, origin.packet, origin.payload_hash]
    return to_json(document, serialize_unknown=True)  # metadata of another package's driver may be anything


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it is kept."""

    letter_id: int
    document: Mapping[str, Any]

    @property
    def t(self) -> float:
        """When it came, or could not be delivered: seconds UTC."""
        t = self.document.get("t")
        return float(t) if isinstance(t, int | float) else 0.0

    @property
    def stage(self) -> str:
        """Where it failed."""
        return str(self.document.get("stage", ""))

    @property
    def reason(self) -> str:
        """Why."""
        return str(self.document.get("reason", ""))

    @property
    def upstream(self) -> str | None:
        """The upstream that will never take it, if that is what it is."""
        name = self.document.get("upstream")
        return None if name is None else str(name)

    @property
    def sources(self) -> list[str]:
        """Whose frame or readings it is."""
        if "source" in self.document:
            return [str(self.document["source"])]
        documents = [document for _, document in self.pairs()]
        return sorted({str(document.get("source", "")) for document in documents})

    @property
    def raw(self) -> bytes | None:
        """The original bytes of a frame or message.

        Raises:
            UnreadableLetterError: They are spoilt.
        """
        raw = self.document.get("raw")
        if raw is None:
            return None
        try:
            return base64.b64decode(raw, validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise UnreadableLetterError(f"its bytes cannot be read: {error}") from error

    def pairs(self) -> list[tuple[int, dict[str, Any]]]:
        """Its readings with their seq; that is 0 where they have none yet."""
        found = []
        for entry in self.document.get("readings", ()):
            if isinstance(entry, dict):
                found.append((0, entry))
            elif isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], dict):  # noqa: PLR2004 (seq, document)
                found.append((int(entry[0]), entry[1]))
        return found

    def readings(self) -> list[Reading]:
        """Its readings.

        Raises:
            UnreadableLetterError: They are none.
        """
        try:
            return [Reading.from_document(document) for _, document in self.pairs()]
        except ValueError as error:
            raise UnreadableLetterError(f"its readings cannot be read: {_first(error)}") from error

    def data(self, data_format: str) -> CollectedData:
        """The frame or message, with the time at which it came.

        Args:
            data_format: The codec that its source has now.

        Raises:
            UnreadableLetterError: It is none.
        """
        document = self.document
        metadata = {key: document[name] for name, key in _BESIDE.items() if name in document}
        metadata[keys.LETTER] = self.letter_id
        try:
            metadata[keys.TAKEN] = (
                int(document.get("boot", 0)),
                ClockQuality(document.get("clock", "synced")),
            )
            if "origin" in document:
                client, packet, payload_hash = document["origin"]
                metadata[keys.ORIGIN] = Origin(client=client, packet=packet, payload_hash=payload_hash)
            return CollectedData(
                source_id=document["source"],
                timestamp=datetime.fromtimestamp(self.t, UTC),
                data_format=data_format,
                collection_method=document["method"],
                raw_data=self.raw or b"",
                metadata=metadata,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UnreadableLetterError(f"it is no frame or message: {_first(error)}") from error


def _first(error: Exception) -> str:
    """What is wrong, in one line."""
    if isinstance(error, ValidationError):
        detail = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
    return f"{type(error).__name__}: {error}"
